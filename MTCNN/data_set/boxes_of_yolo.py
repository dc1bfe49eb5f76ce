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
from platekit.tables import BOX, CORNERS, LEAST_SIDE, goes_clockwise, write_rows


class Label(NamedTuple):
    """A line of a label file; numbers are shares of the picture's size."""

    kind: str
    box: np.ndarray  # (4,)
    corners: np.ndarray | None  # (4, 2), from the upper left one clockwise


def read_labels(path: Path) -> list[Label]:
    """The labels of a file. Raises UserError."""
    labels = []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; check the file") from None
    for line in filter(str.strip, lines):
        kind, *texts = line.split()
        try:
            numbers = np.array(texts, np.float64)
            box, points = numbers[:4], numbers[4:]
            if len(numbers) == 8:  # a turned box
                points = numbers
                low, high = points.reshape(4, 2).min(axis=0), points.reshape(4, 2).max(axis=0)
                box = np.concatenate([(low + high) / 2, high - low])
            elif len(points) == 12:  # with visibilities
                points = points.reshape(4, 3)[:, :2]
            corners = clockwise(points.reshape(4, 2)) if points.size else None
            if corners is not None and not goes_clockwise(corners):  # as where key points are not marked
                corners = None
            (x, y, width, height), within = box, (box >= 0).all() and (box <= 1).all()
        except ValueError:
            within = False
        if not (within and width > 0 and height > 0):
            raise UserError(f"{path}: '{line}' is not 'class x y width height', perhaps with four corners, over the "
                            "picture's size; mend the line (confidences and other polygons are not taken)")
        sides = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        labels.append(Label(kind, sides.clip(0, 1), corners))
    return labels


def clockwise(points: np.ndarray) -> np.ndarray:
    """The corners (4, 2) of a plate, given in any order, from the upper left one clockwise.

    It may be turned by up to 70 degrees; one that is hardly wider than high by up to 45.
    """
    points = points[np.argsort(np.arctan2(*(points - points.mean(axis=0)).T[::-1]))]
    ways = [np.roll(points, shift, axis=0) for shift in range(4)]
    # Its upper and lower edges, from the left, reach furthest to the right.
    return max(ways, key=lambda way: way[1, 0] - way[0, 0] + way[2, 0] - way[3, 0])


def check_table(path: Path) -> None:
    """UserError for a table with columns that a new one would lack, such as texts that somebody has typed in."""
    if path.is_file():
        names = path.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0].strip().split(",")
        if more := set(names) - {"file", *BOX, CORNERS}:
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
    check_table(args.out)
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
            read = read_labels(labels)
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
        corners = ["" if label.corners is None else " ".join(f"{x:.1f}" for x in (label.corners * size).flatten())
                   for label in read]
        rows += [[name, *box.tolist(), known] for box, known in zip(boxes, corners)] or [[name, *("",) * 5]]
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not rows:
        raise UserError(f"no picture in {args.images} has a file of boxes that can be read; check --labels")
    if unknown := set(args.classes or ()) - seen:
        raise UserError(f"no file has the class {min(unknown)}; name with --classes some of {', '.join(sorted(seen))}")
    columns = ("file", *BOX, CORNERS) if any(row[-1] for row in rows) else ("file", *BOX)
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
