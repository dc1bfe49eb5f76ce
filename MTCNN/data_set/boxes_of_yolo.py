"""Make a table of boxes, as --boxes takes it, of YOLO's text files.

    python MTCNN/data_set/boxes_of_yolo.py --images photos/images --labels photos/labels --out photos/boxes.csv

A picture's file has its name with the suffix .txt, in the same subfolder, and a line a plate:
``class x-centre y-centre width height``, the last four over the picture's size. A picture whose file is empty has no
plate; one without a file is left out.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from tqdm import tqdm

from platekit.boxes import box_area
from platekit.errors import UserError, run_script
from platekit.files import relative_name
from platekit.images import find_images, read_image
from platekit.tables import BOX, write_rows


def read_labels(path: Path) -> np.ndarray:
    """The boxes (N, 4) of a label file: x1, y1, x2, y2 over the picture's size. Raises UserError."""
    boxes = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; check the file") from None
    for line in filter(str.strip, lines):
        try:
            x, y, width, height = (float(number) for number in line.split()[1:])
        except ValueError:
            x = np.nan
        if not (0 <= x <= 1 and 0 <= y <= 1 and 0 < width <= 1 and 0 < height <= 1):
            raise UserError(f"{path}: '{line}' is not 'class x y width height' over the picture's size; mend the line "
                            "(confidences and polygons are not taken)")
        boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return np.array(boxes).reshape(-1, 4).clip(0, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures, searched through")
    parser.add_argument("--labels", type=Path, metavar="DIR", help="where their files are (default: beside them)")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write")
    parser.add_argument("--seed", type=int, default=0, help="accepted by every script; nothing is random here")
    args = parser.parse_args()
    rows, problems, plates, left_out = [], [], 0, 0
    for path in tqdm(find_images(args.images), unit="picture"):
        labels = ((args.labels or args.images) / path.relative_to(args.images)).with_suffix(".txt")
        if not labels.is_file():
            left_out += 1
            continue
        name = relative_name(path, args.out.parent)
        try:
            boxes = read_labels(labels)
            height, width = read_image(path).shape[:2]
            boxes = (boxes * ((width, height) * 2)).round(1)
            if not box_area(boxes).all():
                raise UserError(f"{labels}: a box is thinner than a tenth of a pixel; mend its line")
        except UserError as error:
            problems.append(str(error))
            continue
        plates += len(boxes)
        rows += [[name, *box] for box in boxes.tolist() or [("",) * 4]]
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not rows:
        raise UserError(f"no picture in {args.images} has a file of boxes that can be read; check --labels")
    write_rows(args.out, ("file", *BOX), rows)
    print(f"wrote {args.out}: {plates} plates; {left_out} pictures without a file of boxes left out")
    train, val = args.images / "train", args.images / "val"
    sides = ("-dir_train", train, "-dir_val", val) if train.is_dir() and val.is_dir() else \
        ("-dir_train", args.images, "--hold_out", 0.1)
    flags = (*sides, "--boxes", args.out)
    print(f"next: python MTCNN/data_preprocessing/gen_Pnet_train_data.py {shlex.join(map(str, flags))}")
    return 1 if problems else 0


if __name__ == "__main__":
    run_script(main)
