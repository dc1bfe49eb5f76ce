"""A picture of each plate of videos, and a table of what they show: to keep, or to be corrected and trained on."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from platekit.boxes import at_least, clip_boxes
from platekit.errors import UserError
from platekit.files import writing
from platekit.images import write_image
from platekit.results import Box
from platekit.tables import FILE, LABELS_TABLE, ROWS, TEXT, write_rows
from platekit.tracking import Track

LONGEST_NAME = 80  # bytes of the source's in a picture's


def cut_out(picture: np.ndarray, box: Box) -> np.ndarray | None:
    """A copy of what is in a box of a picture (H, W, 3); None for a box that lies outside."""
    inside = clip_boxes(np.array([box]), *picture.shape[:2]).round()
    if not at_least(inside, 1)[0]:
        return None
    x1, y1, x2, y2 = inside[0].astype(int)
    return picture[y1:y2, x1:x2].copy()


class PlateCrops:
    """A folder of pictures, one of each plate that was read, and the table that ``LPRNet_Train.py --labels`` takes."""

    def __init__(self, folder: Path) -> None:
        """UserError where there is such a table: it may have been corrected, or be another process's."""
        self.folder, self.table = folder, folder / LABELS_TABLE
        self.rows: list[tuple[str, str, int, float]] = []
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self.table.touch(exist_ok=False)
            except FileExistsError:
                raise UserError(f"{self.table} is there, and may have been corrected or be another process's; name "
                                "another folder with --crops") from None

    def add(self, source: str, track: Track) -> None:
        """Write the surest picture of a plate of a source, if it has a text, and the table, the least sure first."""
        best = track.reading.pictured
        if best is None or best.picture is None or not track.reading.text:
            return
        name = os.fsencode(re.sub(r"[^\w-]+", "_", Path(source).name))[:LONGEST_NAME].decode(errors="ignore")
        path = self.folder / f"{len(self.rows) + 1:05d}_{name}_{best.frame}.png"
        write_image(path, best.picture)
        self.rows.append((path.name, track.reading.text, best.rows, round(track.reading.confidence, 4)))
        self.rows.sort(key=lambda row: row[-1])
        # every time: whatever ends a watch of weeks, what its pictures show is known
        write_rows(self.table, (FILE, TEXT, ROWS, "confidence"), self.rows)

    def close(self) -> None:
        """Without a picture there is no table."""
        if not self.rows:
            self.table.unlink(missing_ok=True)
