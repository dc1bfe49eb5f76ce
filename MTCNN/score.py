"""How many plates a detector finds in pictures whose plates a table gives."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ccpd.protocol import IOU_THRESHOLD
from platekit.boxes import box_iou
from platekit.files import real_path


class Score:
    """Counts plates, those found (an IoU above 0.7, one box per plate), and boxes that are none of them."""

    def __init__(self, boxes: Mapping[Path, np.ndarray]) -> None:
        """``boxes``: of each picture's plates (N, 4), by its resolved path."""
        self.boxes = boxes
        self.pictures = self.plates = self.found = self.other = self.unknown = 0
        self.outside: list[Path] = []  # pictures with a plate that lies outside

    def add_entry(self, entry: dict[str, Any]) -> None:
        """Count what a line of results says: the boxes found in a picture, the surest first."""
        if "plates" not in entry:
            return
        path = Path(entry["image"])
        plates = self.boxes.get(real_path(path))
        if plates is None:
            self.unknown += 1
            return
        if (plates[:, 2:] > (entry["width"], entry["height"])).any():
            self.outside.append(path)
            return
        found = np.array([plate["box"] for plate in entry["plates"]], float).reshape(-1, 4)
        right = 0
        for box in found:
            iou = box_iou(box[None], plates)[0]
            if len(plates) and iou.max() > IOU_THRESHOLD:
                plates, right = np.delete(plates, iou.argmax(), axis=0), right + 1
        self.pictures += 1
        self.plates += right + len(plates)
        self.found += right
        self.other += len(found) - right

    def __str__(self) -> str:
        if not (self.pictures or self.unknown or self.outside):
            return ""
        share = f" ({self.found / self.plates:.1%})" if self.plates else ""
        unknown = f", {self.unknown} pictures without a row in a table" if self.unknown else ""
        outside = f", {len(self.outside)} pictures left out, whose boxes lie outside them (were they made smaller?), " \
            f"the first {self.outside[0]}" if self.outside else ""
        return (f"{self.pictures} pictures: {self.found} of {self.plates} plates found{share}, {self.other} other "
                f"boxes{unknown}{outside}")
