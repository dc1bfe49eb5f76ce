"""Make a table of boxes for --boxes from YOLO's text files.

    python MTCNN/data_set/boxes_of_yolo.py --images photos/images --labels photos/labels --out photos/boxes.csv

A picture's label file has the picture's name with the suffix .txt, in the same subfolder, and one line per plate:
``class x-centre y-centre width height``, the last four as shares of the picture's size. A picture whose label file is
empty has no plate; a picture without one is left out.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from tqdm import tqdm

from platekit.arguments import HelpFormatter, add_seed, command_line
from platekit.errors import UserError, run_script
from platekit.files import relative_name
from platekit.images import find_images, read_image
from platekit.tables import BOX, LEAST_SIDE, write_rows


def read_labels(path: Path) -> tuple[np.ndarray, list[str]]:
    """The boxes (N, 4) of a label file, x1, y1, x2, y2 over the picture's size, and their classes. Raises UserError."""
    boxes, classes = [], []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; check the file") from None
    for line in filter(str.strip, lines):
        try:
            kind, *numbers = line.split()
            x, y, width, height = map(float, numbers)
        except ValueError:
            x = np.nan
        if not (0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1 and 0 < height <= 1):
            raise UserError(f"{path}: '{line}' is not 'class x y width height' over the picture's size; mend the line "
                            "(confidences and polygons are not taken)")
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
        classes.append(kind)
    return np.array(boxes).reshape(-1, 4).clip(0, 1), classes


def check_table(path: Path) -> None:
    """UserError for a table with columns that a new one would lack, such as texts that somebody has typed in."""
    if path.is_file():
        names = path.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0].strip().split(",")
        if more := set(names) - {"file", *BOX}:
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
    rows, problems, seen, left_out = [], [], set(), 0
    plates: Counter[str] = Counter()
    for path in tqdm(find_images(args.images), unit="picture"):
        labels = ((args.labels or args.images) / path.relative_to(args.images)).with_suffix(".txt")
        if not labels.is_file():
            left_out += 1
            continue
        name = relative_name(path, args.out.parent)
        try:
            boxes, classes = read_labels(labels)
            seen.update(classes)
            taken = [not args.classes or kind in args.classes for kind in classes]
            boxes = boxes[np.array(taken, dtype=bool)]
            height, width = read_image(path).shape[:2]
            boxes = (boxes * ((width, height) * 2)).round(1)
            if (boxes[:, 2:] - boxes[:, :2] < LEAST_SIDE).any():
                raise UserError(f"{labels}: a box has a side below {LEAST_SIDE} pixels; mend its line")
        except UserError as error:
            problems.append(str(error))
            continue
        plates.update(itertools.compress(classes, taken))
        rows += [[name, *box] for box in boxes.tolist() or [("",) * 4]]
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not rows:
        raise UserError(f"no picture in {args.images} has a file of boxes that can be read; check --labels")
    if unknown := set(args.classes or ()) - seen:
        raise UserError(f"no file has the class {min(unknown)}; name with --classes some of {', '.join(sorted(seen))}")
    write_rows(args.out, ("file", *BOX), rows)
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
