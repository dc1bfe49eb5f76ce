"""Make a table of boxes for --boxes from YOLO's text files.

    python MTCNN/data_set/boxes_of_yolo.py --images photos/images --labels photos/labels --out photos/boxes.csv

A picture's label file has the picture's name with the suffix .txt, in the same subfolder, and one line per plate, in
shares of the picture's size: ``class x-centre y-centre width height``, with or without four key points behind it (the
plate's corners, each perhaps with a visibility), or ``class`` and the four corners of a turned box. Corners may come in
any order. A picture whose label file is empty has no plate; a picture without one is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from tqdm import tqdm

from platekit.arguments import HelpFormatter, add_seed, command_line
from platekit.errors import UserError, run_script
from platekit.files import relative_name
from platekit.images import find_images, read_image
from platekit.tables import BOX, CORNERS, LEAST_SIDE, are_corners, clockwise, corners_text, write_rows


class Label(NamedTuple):
    """A line of a label file; numbers are shares of the picture's size."""

    kind: str
    box: np.ndarray  # (4,)
    corners: np.ndarray | None  # (4, 2), in any order


def read_yolo(path: Path) -> list[Label]:
    """The labels of a file. Raises UserError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; check the file") from None
    labels = []
    for line in filter(str.strip, lines):
        kind, *texts = line.split()
        try:
            labels.append(Label(kind, *box_and_corners(np.array(texts, np.float64))))
        except ValueError:
            raise UserError(f"{path}: '{line}' is not 'class x y width height', perhaps with four corners, over the "
                            "picture's size; mend the line (confidences and other polygons are not taken)") from None
    return labels


def box_and_corners(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The box (4,) and the corners (4, 2), if they are known, of the numbers of a line. Raises ValueError."""
    box, points = numbers[:4], numbers[4:]
    if len(numbers) == 8:  # a turned box
        points = numbers.reshape(4, 2)
        low, high = points.min(axis=0), points.max(axis=0)
        box = np.concatenate([(low + high) / 2, high - low])
    marked = True
    if len(points) == 12:  # with visibilities
        points = points.reshape(4, 3)
        if not np.isin(points[:, 2], (0, 1, 2)).all():
            raise ValueError("these are no visibilities")
        marked, points = bool(points[:, 2].all()), points[:, :2]
    x, y, width, height = box
    if not ((box >= 0).all() and (box <= 1).all() and width > 0 and height > 0):
        raise ValueError("this is no box")
    sides = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    corners = points.reshape(4, 2) if points.size else None
    if corners is None or not marked or not corners.any(axis=1).all() or (corners < 0).any() or (corners > 1).any():
        return sides.clip(0, 1), None  # points at 0, 0 are not marked, and those outside cannot be seen
    if not are_corners(clockwise(corners), sides):
        raise ValueError("these are no corners")
    return sides.clip(0, 1), corners


def corners_in(label: Label, box: np.ndarray, size: np.ndarray) -> str:
    """The corners of a label in a picture of this size (width, height) as a table has them; empty if not known."""
    if label.corners is None:
        return ""
    return corners_text(clockwise((label.corners * size).round(1)), box)


def check_table(path: Path, columns: Sequence[str]) -> None:
    """UserError for a table with other columns than these, such as texts that somebody has typed in."""
    if path.is_file():
        names = path.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0].strip().split(",")
        if more := set(names) - set(columns):
            raise UserError(f"{path} is there and has the columns {', '.join(sorted(more))} too, which would be lost; "
                            "name another --out")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures, in subfolders too")
    parser.add_argument("--labels", type=Path, metavar="DIR", help="their label files (default: beside the pictures)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write")
    add_seed(parser)
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="the classes that are plates (default: all)")
    args = parser.parse_args()
    check_table(args.out, ("file", *BOX, CORNERS))
    rows, problems, left_out = [], [], 0
    seen: set[str] = set()
    plates: Counter[str] = Counter()
    for path in tqdm(find_images(args.images), unit="picture"):
        labels = ((args.labels or args.images) / path.relative_to(args.images)).with_suffix(".txt")
        if not labels.is_file():
            left_out += 1
            continue
        name = relative_name(path, args.out.parent)
        try:
            read = read_yolo(labels)
            seen.update(label.kind for label in read)
            read = [label for label in read if not args.classes or label.kind in args.classes]
            size = np.array(read_image(path).shape[1::-1])
            boxes = [(label.box * (*size, *size)).round(1) for label in read]
            if any((box[2:] - box[:2] < LEAST_SIDE).any() for box in boxes):
                raise UserError(f"{labels}: a box has a side below {LEAST_SIDE} pixels; mend its line")
        except UserError as error:
            problems.append(str(error))
            continue
        plates.update(label.kind for label in read)
        rows += [[name, *box.tolist(), corners_in(label, box, size)] for label, box in zip(read, boxes)] \
            or [[name, *("",) * 5]]
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not rows:
        raise UserError(f"no picture in {args.images} has a file of boxes that can be read; check --labels")
    if unknown := set(args.classes or ()) - seen:
        raise UserError(f"no file has the class {min(unknown)}; name with --classes some of {', '.join(sorted(seen))}")
    columns = ("file", *BOX, CORNERS) if any(row[-1] for row in rows) else ("file", *BOX)
    check_table(args.out, columns)
    write_rows(args.out, columns, (row[:len(columns)] for row in rows))
    print(f"wrote {args.out}: {plates.total()} plates; {left_out} pictures without a file of boxes left out")
    if len(plates) > 1:
        print("of the classes " + ", ".join(f"{kind} ({count})" for kind, count in sorted(plates.items()))
              + "; if some are no plates, name with --classes those that are")
    train, val = args.images / "train", args.images / "val"
    sides = ("-dir_train", train, "-dir_val", val) if train.is_dir() and val.is_dir() else \
        ("-dir_train", args.images, "--hold_out", 0.1)
    flags = (*sides, "--boxes", args.out)
    print(f"next: python MTCNN/data_preprocessing/gen_Pnet_train_data.py {command_line(flags)}")
    return 1 if problems else 0


if __name__ == "__main__":
    run_script(main)
