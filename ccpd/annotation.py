"""The CCPD file-name codec: the name of a photo is its annotation.

``025-95_113-154&383_386&473-386&473_177&454_154&383_363&402-0_0_22_27_27_33_16-37-15.jpg`` holds, field by field:
area ratio, tilt, box, four corners, indices of the plate's symbols, brightness, blurriness.
Source: Xu et al., "Towards End-to-End License Plate Detection and Recognition", ECCV 2018, and the data set's README.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from platekit.corners import is_upright, repeat_box
from platekit.errors import UserError

# The index tables of the data set. Their order differs from the recogniser's alphabet; 警, 学 and the letter O are on
# no plate of either release.
PROVINCE_TABLE = "皖沪津渝冀晋蒙辽吉黑苏浙京闽赣鲁豫鄂湘粤桂琼川贵云藏陕甘青宁新警学O"
CITY_TABLE = "ABCDEFGHJKLMNPQRSTUVWXYZO"
SERIAL_TABLE = "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789O"

_NUMBER = r"(?:0|[1-9]\d*)"  # no leading zeros: every name has one reading, and every reading one name
_POINT = rf"{_NUMBER}&{_NUMBER}"
_FIELDS = {
    "area": r"\d+",
    "tilt": rf"{_NUMBER}_{_NUMBER}",
    "box": rf"{_POINT}_{_POINT}",
    "corners": rf"{_POINT}(?:_{_POINT}){{3}}",
    "plate": rf"{_NUMBER}(?:_{_NUMBER}){{6,7}}",
    "brightness": _NUMBER,
    "blurriness": _NUMBER,
}
_PATTERN = re.compile("-".join(f"({shape})" for shape in _FIELDS.values()), re.ASCII)
_SEPARATOR = re.compile("[_&]")
Point = tuple[int, int]


@dataclass(frozen=True)
class Annotation:
    """What a photo's name says. Pixels of the photo; the box's x2 and y2 are the largest corner coordinates."""

    area: str  # the digits behind "0." of the plate's share of the picture; kept as text, zeros matter
    tilt: tuple[int, int]  # degrees: of its line from level, of its corners from right angles; base counts from 90
    box: tuple[int, int, int, int]  # x1, y1, x2, y2
    vertices: tuple[Point, ...]  # four (x, y): right-bottom, left-bottom, left-top, right-top of the plate
    plate: str  # seven symbols, eight on new-energy plates
    brightness: int  # 0..255
    blurriness: int  # variance of the Laplacian: the higher, the sharper

    @property
    def without_pose(self) -> bool:
        """Whether the vertices say nothing of the pose: they merely repeat the box, or make no plate in their order."""
        return repeat_box(self.vertices, self.box) or not is_upright(np.array(self.vertices))

    def file_name(self, suffix: str = ".jpg") -> str:
        """The CCPD file name, the inverse of ``parse``. Raises UserError for what such a name cannot express."""
        if len(self.plate) not in (7, 8):
            raise UserError(f"'{self.plate}' has {len(self.plate)} symbols, CCPD names hold 7 or 8; change the plate")
        tables = (PROVINCE_TABLE, CITY_TABLE) + (SERIAL_TABLE,) * (len(self.plate) - 2)
        indices = [table.find(symbol) for table, symbol in zip(tables, self.plate)]
        if -1 in indices:
            symbol = self.plate[indices.index(-1)]
            raise UserError(f"'{self.plate}' cannot be written as a CCPD name: '{symbol}' has no index at its place")
        box, vertices = ("_".join(f"{x}&{y}" for x, y in points)
                         for points in ((self.box[:2], self.box[2:]), self.vertices))
        tilt, symbols = ("_".join(map(str, numbers)) for numbers in (self.tilt, indices))
        stem = f"{self.area}-{tilt}-{box}-{vertices}-{symbols}-{self.brightness}-{self.blurriness}"
        if not _PATTERN.fullmatch(stem):
            raise UserError(f"{self} cannot be written as a CCPD name: {_what_is_wrong(stem)}; give whole numbers")
        return stem + suffix


def has_annotation(name: str | PurePath) -> bool:
    """Whether a name is meant as an annotation: its stem has the seven fields. Photos without a plate have no field."""
    return PurePath(name).stem.count("-") == 6


def parse(name: str | PurePath) -> Annotation:
    """Read the annotation out of a file name or path. Raises UserError that names the file and the wrong field."""
    path = PurePath(name)
    match = _PATTERN.fullmatch(path.stem)
    if match is None:
        raise UserError(f"{name} is no CCPD annotation: {_what_is_wrong(path.stem)}; rename it or move it away")
    area, tilt, box, vertices, symbols, brightness, blurriness = match.groups()
    corners = [int(number) for number in _SEPARATOR.split(vertices)]
    x1, y1, x2, y2 = (int(number) for number in _SEPARATOR.split(box))
    if x1 >= x2 or y1 >= y2:
        raise UserError(f"{name} is no CCPD annotation: its box {box} is empty; rename it or move it away")
    indices = [int(number) for number in symbols.split("_")]
    tables = (PROVINCE_TABLE, CITY_TABLE) + (SERIAL_TABLE,) * (len(indices) - 2)
    if any(index >= len(table) for index, table in zip(indices, tables)):
        raise UserError(
            f"{name} is no CCPD annotation: a symbol index in {symbols} is beyond its table; rename it or move it away"
        )
    horizontal, vertical = tilt.split("_")
    return Annotation(area, (int(horizontal), int(vertical)), (x1, y1, x2, y2),
                      tuple(zip(corners[0::2], corners[1::2])),
                      "".join(table[index] for table, index in zip(tables, indices)), int(brightness), int(blurriness))


def _what_is_wrong(stem: str) -> str:
    fields = stem.split("-")
    if len(fields) != 7:
        return f"it has {len(fields)} fields between '-' where seven belong"
    return next(f"its {what} reads '{field}'" for (what, shape), field in zip(_FIELDS.items(), fields)
                if not re.fullmatch(shape, field, re.ASCII))


def plate_of(path: PurePath) -> str:
    """The number of the plate on a photo, by its name; the name where that gives none."""
    try:
        return parse(path).plate
    except UserError:
        return path.name
