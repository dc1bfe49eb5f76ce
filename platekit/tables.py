"""Tables of what pictures show: CSV files, one row per picture or plate, whose first line names the columns.

Boxes are x1, y1, x2, y2 in pixels.
"""

from __future__ import annotations

import csv
import io
import math
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from platekit.boxes import EDGE_SLACK, LEAST_SIDE, at_least, box_iou
from platekit.corners import FROM_UPPER_LEFT, bounding_box, is_convex, repeat_box
from platekit.errors import UserError
from platekit.files import real_path, write_text

BOXES_HELP = "CSV tables with the columns file (path from the table's folder), x1, y1, x2 and y2, one row per plate; " \
    "the last four are empty for a picture without a plate; a further column corners may tell the plate's, as eight " \
    "numbers, x and y of the upper left one and on clockwise"
BOX = ("x1", "y1", "x2", "y2")
FILE, TEXT, CORNERS, ROWS = "file", "text", "corners", "rows"
LABELS_TABLE = "labels.csv"  # what the table beside crops is called
SAME, SAME_TEXT = 0.9, 0.5  # boxes of a larger IoU are of one plate; the second where their texts are the same


@dataclass(frozen=True)
class TableRow:
    """A row of a table: where it stands, its picture (a resolved path), and what is in its columns, stripped."""

    place: str  # for messages
    picture: Path
    texts: dict[str, str]


def read_rows(table: str | os.PathLike, columns: tuple[str, ...]) -> list[TableRow]:
    """The rows of a table of these columns and perhaps more; ``file`` is its picture, seen from the table's folder.

    Pictures that are not there are reported. Raises UserError for what is no such table, and where none of its
    pictures is there.
    """
    table, rows = Path(table), []
    for number, texts in _read_csv(table, columns):
        place = f"{table}, row {number}"
        if not texts[FILE]:
            raise UserError(f"{place}: the picture is missing; complete the row")
        if "\0" in texts[FILE]:
            raise UserError(f"{place}: the picture's name has a zero byte in it; mend the row")
        rows.append(TableRow(place, real_path(table.parent / texts[FILE]), texts))
    missing = [row.texts[FILE] for row in rows if not os.path.exists(row.picture)]
    if rows and len(missing) == len(rows):
        raise UserError(f"{table}: none of its pictures is there, such as {missing[0]}; name them as seen from "
                        "the table's folder")
    if missing:
        print(f"{table}: {len(missing)} of {len(rows)} pictures are not there, the first is {missing[0]}",
              file=sys.stderr)
    return rows


def _read_csv(table: Path, columns: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """The rows that are not empty, by the columns' names, and their numbers in the file. Raises UserError."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]  # spreadsheets' capitals
            names = Counter(reader.fieldnames)
            rows, last = [], reader.reader.line_num
            for row in reader:
                more = row.pop(None, ())  # behind the last column
                if any("\n" in (text or "") for text in (*row.values(), *more)):
                    raise UserError(f"{table}, row {last + 1}: a text goes on over the end of the line; close its "
                                    "quotation mark, or take the line break out of it")
                last = reader.reader.line_num
                if any(map(str.strip, more)):
                    raise UserError(f"{table}, row {last}: it has more cells than the first line has columns; name "
                                    "these there, or put a text with commas between quotation marks")
                texts = {name: (text or "").strip() for name, text in row.items()}
                if any(texts.values()):  # a spreadsheet's row may have been emptied
                    rows.append((last, texts))
    except OSError as error:
        raise UserError(f"cannot read {table}: {error.strerror}; check the path") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {table}: {error}; save it as CSV in UTF-8") from None
    if twice := [name for name in (FILE, *BOX, TEXT, CORNERS, ROWS) if names[name] > 1]:
        raise UserError(f"{table} has the column {twice[0]} twice; keep one")
    if not names.keys() >= set(columns):
        missing = ", ".join(name for name in columns if name not in names)
        semicolons = ", with commas between them, not semicolons" if any(";" in name for name in names) else ""
        raise UserError(f"{table} has no column {missing}; its first line names the columns, among them "
                        f"'{','.join(columns)}'{semicolons}")
    return rows


def write_rows(table: Path, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Write a table, whole or not at all, with UTF-8's mark before it, by which spreadsheets know Chinese symbols."""
    text = io.StringIO()
    text.write("\ufeff")
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    write_text(table, text.getvalue())


class Plates(NamedTuple):
    """The plates of a picture."""

    boxes: np.ndarray  # (N, 4)
    corners: list[np.ndarray | None]  # of each, as ``corners_of``
    texts: list[str]  # those that are told


def plates_of_tables(tables: Iterable[str | os.PathLike]) -> dict[Path, Plates]:
    """What tables of boxes say of each picture, by its resolved path. Raises UserError, which says how many rows are
    wrong."""
    plates: dict[Path, tuple[list, list, list]] = {}
    wrong: list[tuple[str, UserError]] = []
    for row in (row for table in tables for row in read_rows(table, (FILE, *BOX))):
        boxes, corners, texts = plates.setdefault(row.picture, ([], [], []))
        text = unicodedata.normalize("NFC", row.texts.get(TEXT, ""))
        try:
            box = box_of(row)
            of_plate = corners_of(row, box) if box else None
        except UserError as error:
            wrong.append((row.place, error))
            continue
        if not box:
            continue
        known = plate_among(box, text, boxes, texts)
        if known is None:
            known = len(boxes)
            boxes.append(box)
            corners.append(None)
            texts.append("")
        if text and texts[known] not in ("", text):
            wrong.append((row.place, UserError(f"{row.place}: this plate has two texts, '{texts[known]}' and '{text}'; "
                                               "keep one")))
        texts[known] = texts[known] or text
        if corners[known] is None:
            corners[known] = of_plate
    if wrong:
        others = f" (so are {len(wrong) - 1} other rows, the next {wrong[1][0]})" if wrong[1:] else ""
        raise UserError(f"{wrong[0][1]}{others}")
    return {path: Plates(np.array(boxes, np.float64).reshape(-1, 4), corners, list(filter(None, texts)))
            for path, (boxes, corners, texts) in plates.items()}


def plate_among(box: list[float], text: str, boxes: list[list[float]], texts: list[str]) -> int | None:
    """Which of the ``boxes`` with these ``texts`` is of the same plate, in another table or twice in one, or None."""
    overlaps = box_iou(np.array([box]), np.array(boxes).reshape(-1, 4))[0]
    same = [overlap > (SAME_TEXT if text and text == other else SAME) for overlap, other in zip(overlaps, texts)]
    return same.index(True) if any(same) else None


def corners_of(row: TableRow, box: Sequence[float]) -> np.ndarray | None:
    """The corners (4, 2) of the plate in a row's ``box``, in CCPD's order, from the lower right one; None where the row
    tells none, or merely the box's. Raises UserError for what are no corners of a plate there.
    """
    text = row.texts.get(CORNERS, "")
    if not text:
        return None
    try:
        corners = np.array(text.split(), np.float64).reshape(4, 2)
    except ValueError:
        corners = np.full((4, 2), np.nan)
    if not in_order(corners, box):
        raise UserError(f"{row.place}: '{text}' are no corners of the plate in its box, x and y in pixels of the upper "
                        "left one and on clockwise; correct the row, or leave the column empty")
    corners = corners[FROM_UPPER_LEFT]
    return None if repeat_box(corners, box) else corners


def corners_text(corners: np.ndarray, box: Sequence[float] | np.ndarray) -> str:
    """The corners (4, 2) of the plate in a box, from the upper left one clockwise, as a table has them; empty for what
    are none."""
    return " ".join(map(str, corners.flatten().tolist())) if in_order(corners, box) else ""


def in_order(corners: np.ndarray, box: Sequence[float] | np.ndarray) -> bool:
    """Whether ``corners`` (4, 2) are those of the plate in a box (4,), from the upper left one clockwise."""
    return are_corners(corners, box) and np.array_equal(clockwise(corners), corners)


def are_corners(corners: np.ndarray, box: Sequence[float] | np.ndarray) -> bool:
    """Whether ``corners`` (4, 2) follow each other clockwise round a plate that fills a box (4,)."""
    return is_convex(corners) and bool(box_iou(bounding_box(corners)[None], np.array([box]))[0, 0] > 0.5)


def clockwise(points: np.ndarray) -> np.ndarray:
    """The corners (4, 2) of a plate, given in any order, from the upper left one clockwise.

    It may be turned by up to 70 degrees; one that is hardly wider than high by up to 45.
    """
    x, y = (points - points.mean(axis=0)).T
    points = points[np.argsort(np.arctan2(y, x))]  # clockwise, since y points down
    ways = [np.roll(points, shift, axis=0) for shift in range(4)]
    # Its upper and lower edges, from the left, reach furthest to the right.
    return max(ways, key=lambda way: way[1, 0] - way[0, 0] + way[2, 0] - way[3, 0])


def rows_of(row: TableRow) -> int:
    """How many rows of symbols the plate has: 2 where the column ``rows`` says so. Raises UserError."""
    text = row.texts.get(ROWS) or "1"
    if text not in ("1", "2"):
        raise UserError(f"{row.place}: rows are 1 or 2, not '{text}'; correct the row")
    return int(text)


def box_of(row: TableRow) -> list[float] | None:
    """The box of a row, None where it has none. Raises UserError."""
    texts = [row.texts[column] for column in BOX]
    if not any(texts):
        if filled := next((column for column in (TEXT, CORNERS) if row.texts.get(column)), None):
            raise UserError(f"{row.place}: there is {filled} but no box; complete the row, or leave only the file "
                            "there if the picture shows no plate")
        return None
    try:
        x1, y1, x2, y2 = box = [float(text) for text in texts]
    except ValueError:
        raise UserError(f"{row.place}: '{','.join(texts)}' are not four numbers; correct the row") from None
    if min(x1, y1) >= -EDGE_SLACK:
        x1, y1 = box[:2] = max(0.0, x1), max(0.0, y1)
    if not (0 <= x1 < x2 < math.inf and 0 <= y1 < y2 < math.inf):
        raise UserError(f"{row.place}: '{','.join(texts)}' is no box, x1,y1,x2,y2 in pixels with 0 <= x1 < x2 and "
                        "0 <= y1 < y2; correct the row")
    if not at_least(np.array([box]), LEAST_SIDE)[0]:
        raise UserError(f"{row.place}: the box '{','.join(texts)}' has a side below {LEAST_SIDE} pixels; boxes are in "
                        "pixels, not in shares of the picture; correct the row")
    return box
