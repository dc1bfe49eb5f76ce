"""File names of plate crops: the label is in the name, and so are the plate's corners where they are known.

``<plate>_<number>.jpg`` is a crop of one plate; the number keeps crops of the same plate apart.
``<plate>_<number>_<x>&<y>_<x>&<y>_<x>&<y>_<x>&<y>.jpg`` shows some surroundings too; the plate's four corners are
given in pixels of the crop, in CCPD's order: right-bottom, left-bottom, left-top, right-top.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from platekit.corners import is_upright
from platekit.errors import UserError

# float32 holds whole numbers of seven digits, and int takes no thousands of them, which a name in a table may have.
_NAME = re.compile(r"(?P<plate>[^_\W]+)(_(?P<number>\d{1,255}))?(?P<corners>(_-?\d{1,7}&-?\d{1,7}){4})?")


@dataclass(frozen=True)
class CropName:
    """The parts of a crop's file name; ``corners`` are four (x, y) pairs or None. A table may tell its ``rows``."""

    plate: str
    number: int = 1
    corners: tuple[tuple[int, int], ...] | None = None
    rows: int = 1  # of symbols

    @classmethod
    def parse(cls, path: str | Path) -> CropName:
        """Read a file name; UserError naming the file when it does not follow the rule."""
        match = _NAME.fullmatch(unicodedata.normalize("NFC", Path(path).stem))  # some systems take letters apart
        if match is None:
            raise UserError(f"{path}: the name gives no label; call crops <plate>_<number>.jpg, the plate "
                            "of letters and digits only, or list what they show in a table (--labels)")
        corners = None
        if match["corners"]:
            numbers = [int(number) for number in re.findall(r"-?\d+", match["corners"])]
            corners = tuple(zip(numbers[::2], numbers[1::2]))
            if not is_upright(np.array(corners)):
                raise UserError(f"{path}: the corners in its name are not the right-bottom, left-bottom, left-top and "
                                "right-top one of a plate; correct the name")
        return cls(match["plate"], int(match["number"] or 1), corners)

    def stem(self) -> str:
        """The file name without its suffix."""
        return f"{self.plate}_{self.number}" + "".join(f"_{x}&{y}" for x, y in self.corners or ())

    def corner_array(self) -> np.ndarray | None:
        """The corners as float32 (4, 2), or None."""
        return None if self.corners is None else np.array(self.corners, dtype=np.float32)
