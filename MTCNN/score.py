"""How many plates are found, and read, in pictures whose plates a table gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ccpd.protocol import IOU_THRESHOLD
from platekit.boxes import box_iou, reach_outside
from platekit.errors import UserError
from platekit.files import real_path
from platekit.tables import Plates


class Score:
    """Counts plates, those found (an IoU above ``IOU_THRESHOLD``, one box per plate), and boxes that are none of them;
    and of the plates whose texts are known those that are read wholly right, in whatever box."""

    # of ``wrong``, a row a picture: texts without those that are read right
    columns: tuple[str, ...] = "file", "plates", "found", "other boxes", "text", "read"

    def __init__(self, truth: Mapping[Path, Plates], symbols: Container[str] | None = None) -> None:
        """``truth``: each picture's plates, by its resolved path; ``symbols`` that can be read, if any text is."""
        self.truth, self.symbols = truth, symbols
        self.seen: set[Path] = set()
        self.pictures = self.plates = self.found = self.other = self.unknown = self.failed = 0
        self.known = self.read = self.strange = 0  # texts
        self.outside: list[Path] = []  # pictures with a plate that lies outside
        self.wrong: list[tuple[object, ...]] = []

    def add_entry(self, entry: dict[str, Any]) -> None:
        """Count what a line of results says: the boxes found in a picture, the surest first."""
        path = Path(entry["image"])
        if (resolved := real_path(path)) in self.seen:  # named twice
            return
        self.seen.add(resolved)
        truth = self.truth.get(resolved)
        if truth is None:
            self.unknown += "plates" in entry
            return
        if "plates" not in entry:
            self.failed += 1
            return
        if self.symbols is not None and not all("text" in plate for plate in entry["plates"]):
            raise UserError("the lines kept by --resume come from another script; name another --json")
        if reach_outside(truth.boxes, entry["height"], entry["width"]):
            self.outside.append(path)
            return
        found = np.array([plate["box"] for plate in entry["plates"]], float).reshape(-1, 4)
        missed = truth.boxes
        for box in found:
            iou = box_iou(box[None], missed)[0]
            if len(missed) and iou.max() > IOU_THRESHOLD:
                missed = np.delete(missed, iou.argmax(), axis=0)
        plates = len(truth.boxes)
        right = plates - len(missed)
        other = len(found) - right
        texts, told = Counter(truth.texts), Counter(plate.get("text") or "" for plate in entry["plates"])
        self.known += texts.total()
        if self.symbols is not None:
            self.strange += sum(not all(symbol in self.symbols for symbol in text) for text in texts.elements())
        self.read += (texts & told).total()
        self.pictures += 1
        self.plates += plates
        self.found += right
        self.other += other
        if len(missed) or other or texts - told:
            self.wrong.append((path, plates, right, other,
                               *(" ".join(filter(None, left.elements())) for left in (texts - told, told - texts))))

    def __str__(self) -> str:
        if not (self.pictures or self.unknown or self.outside or self.failed):
            return ""
        share = f" ({self.found / self.plates:.1%})" if self.plates else ""
        read = f", {self.read} of {self.known} read wholly right ({self.read / self.known:.1%})" if self.known else ""
        strange = f", {self.strange} texts with symbols that these weights do not know" if self.strange else ""
        failed = f", {self.failed} pictures that could not be read" if self.failed else ""
        unknown = f", {self.unknown} pictures without a row in a table" if self.unknown else ""
        missing = len(self.truth.keys() - self.seen)
        left = f", {missing} pictures of the tables were not among those read" if missing else ""
        outside = f", {len(self.outside)} pictures left out, whose boxes lie outside them (were they made smaller?), " \
            f"the first {self.outside[0]}" if self.outside else ""
        return (f"{self.pictures} pictures: {self.found} of {self.plates} plates found{share}{read}, "
                f"{self.other} other boxes{strange}{failed}{unknown}{left}{outside}")
