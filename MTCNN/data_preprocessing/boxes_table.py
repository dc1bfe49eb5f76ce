"""Where the plates of pictures are that have no CCPD names: tables of boxes."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from platekit.errors import UserError
from platekit.tables import Row, read_rows

BOXES_HELP = "CSV tables of the columns file (seen from the table's folder), x1, y1, x2 and y2, a row a plate, " \
    "with empty columns where there is none"
COLUMNS = ("x1", "y1", "x2", "y2")


def read_boxes(tables: Iterable[str | os.PathLike]) -> dict[Path, np.ndarray]:
    """The boxes (N, 4) of each picture's plates, by its resolved path; N is 0 where it has none. Raises UserError."""
    boxes: dict[Path, list[list[float]]] = {}
    for row in (row for table in tables for row in read_rows(table, ("file", *COLUMNS))):
        of_picture, box = boxes.setdefault(row.picture, []), box_of(row)
        if box:
            of_picture.append(box)
    return {path: np.array(of_picture, np.float64).reshape(-1, 4) for path, of_picture in boxes.items()}


def box_of(row: Row) -> list[float] | None:
    """The box of a row, None where it has none. Raises UserError."""
    texts = [row.texts[column] for column in COLUMNS]
    if not any(texts):
        return None
    try:
        x1, y1, x2, y2 = box = [float(text) for text in texts]
    except ValueError:
        raise UserError(f"{row.place}: '{','.join(texts)}' are no four numbers; mend the row") from None
    if not (0 <= x1 < x2 < math.inf and 0 <= y1 < y2 < math.inf):
        raise UserError(f"{row.place}: '{','.join(texts)}' is no box, x1,y1,x2,y2 in pixels with x1 < x2 and y1 < y2; "
                        "mend the row")
    return box
