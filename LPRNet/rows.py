"""Plates of two rows: the rows of a straightened plate are put side by side, and LPRNet reads them as one.

Where the rows of Chinese plates lie is known; those of others are taken to be halves, more or less.

Coordinates are those of the spatial transformer: -1..1 over the crop in which it makes a plate straight.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch

from ccpd.plate_kinds import KINDS
from LPRNet.alphabet import Alphabet
from LPRNet.model.STN import STRAIGHT_CORNERS
from platekit.crops import CROP_SIZE

DOUBLE = KINDS["yellow_double"]
MARGINS = (20.0, 8.0)  # mm beside a row's symbols and above them
BELOW = (14.0, 8.0)  # mm below the symbols of the upper and of the lower row; motorcycles' upper one reaches 5 more


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a straightened plate: its middle and half its size (x, y), and how many columns of the crop it gets."""

    middle: tuple[float, float]
    half: tuple[float, float]
    columns: int

    @property
    def theta(self) -> torch.Tensor:
        """The transform (1, 2, 3) from the row, -1..1, to the straightened plate."""
        rows = (self.half[0], 0, self.middle[0]), (0, self.half[1], self.middle[1])
        return torch.tensor([rows], dtype=torch.float32)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the straightened plate in -1..1 over the row: ``theta``'s inverse."""
        return (points - self.middle) / self.half


def _row(number: int, columns: int) -> Row:
    """The upper (0) or the lower row (1)."""
    of_row = DOUBLE.cells[:DOUBLE.upper] if number == 0 else DOUBLE.cells[DOUBLE.upper:]
    (left, _), (right, width), (top, height) = of_row[0], of_row[-1], DOUBLE.rows[number]
    low = np.array([left - MARGINS[0], top - MARGINS[1]])
    high = np.array([right + width + MARGINS[0], top + height + BELOW[number]])
    size = np.array([DOUBLE.width_mm, DOUBLE.height_mm])
    reach = np.array(STRAIGHT_CORNERS[0])
    middle, half = ((low + high) / size - 1) * reach, (high - low) / size * reach
    return Row(tuple(middle.tolist()), tuple(half.tolist()), columns)


# A symbol is about as wide as on a plate of one row.
UPPER_COLUMNS = round(CROP_SIZE[1] * 2 / 7)
ROWS = (_row(0, UPPER_COLUMNS), _row(1, CROP_SIZE[1] - UPPER_COLUMNS))

# Where reading looks for both rows, as straightening may leave them a little too high or too low, or cut into the upper
# row: of 506 drawn plates set aside 424 are read so, 419 without the last place, and 394 at the first alone.
SHIFTS = ((0.0, 0.0), (0.07, 0.07), (-0.07, -0.07), (-0.18, -0.05), (-0.25, -0.1))


def _lowered(row: Row, shift: float) -> Row:
    return dataclasses.replace(row, middle=(row.middle[0], row.middle[1] + shift))


PLACES = tuple((_lowered(ROWS[0], upper), _lowered(ROWS[1], lower)) for upper, lower in SHIFTS)


def _halves(seam: float) -> tuple[Row, Row]:
    """Both rows of a plate that meet at this share of its height."""
    width, height = STRAIGHT_CORNERS[0]
    upper, lower = (Row((0.0, height * (low + high - 1)), (width, height * (high - low)), CROP_SIZE[1] // 2)
                    for low, high in ((0.0, seam), (seam, 1.0)))
    return upper, lower


OTHER_PLACES = tuple(map(_halves, (0.5, 0.42, 0.58, 0.35)))


def places_of(alphabet: Alphabet) -> Sequence[Sequence[Row]]:
    """Where to look for both rows of this alphabet's plates; nowhere if they have one."""
    return () if alphabet.rows < 2 else PLACES if alphabet.chinese else OTHER_PLACES
