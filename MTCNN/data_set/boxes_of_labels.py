"""Make a table of boxes for --boxes from the labels of YOLO, Pascal VOC, LabelMe or COCO.

    python MTCNN/data_set/boxes_of_labels.py --images photos/images --labels photos/labels --out photos/boxes.csv
    python MTCNN/data_set/boxes_of_labels.py --images photos/images --labels photos/coco.json --out photos/boxes.csv

In a folder of labels, a picture's file has the picture's name with the suffix .txt (YOLO), .xml (Pascal VOC) or .json
(LabelMe), in the same subfolder. YOLO's has a line per plate, in shares of the picture's size: ``class x-centre
y-centre width height``, with or without four key points behind it (the plate's corners, each perhaps with a
visibility), or ``class`` and the four corners of a turned box. COCO's annotations may have four key points, or, as
LabelMe's, a polygon of four. Corners may come in any order. A picture that is labelled with nothing has no plate; a
picture without labels is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from tqdm import tqdm

from MTCNN.data_set.label_formats import Label, LabelsOf, read_coco, read_labelme, read_voc, read_yolo
from platekit.arguments import HelpFormatter, add_seed, command_line
from platekit.boxes import LEAST_SIDE, at_least
from platekit.corners import FROM_UPPER_LEFT, repeat_box
from platekit.errors import UserError, run_script
from platekit.files import relative_name
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.tables import BOX, CORNERS, FILE, TEXT, clockwise, corners_text, write_rows


def find_labels(picture: Path, images: Path, labels: Path | None, attribute: str, coco: Mapping[str, LabelsOf] | None,
                known_by_name: bool) -> LabelsOf | None:
    """What tells the labels of a picture in the folder ``images``; None where nothing does. ``known_by_name``: no other
    picture has its name."""
    place = picture.relative_to(images)
    if coco is not None:
        return coco.get(place.as_posix()) or (coco.get(place.name) if known_by_name else None)
    places = [picture if labels is None else labels / place]
    if labels is None and "images" in picture.parts:  # where YOLO looks
        number = len(picture.parts) - 1 - picture.parts[::-1].index("images")
        places.append(Path(*picture.parts[:number], "labels", *picture.parts[number + 1:]))
    readers: dict[str, Callable[[Path, np.ndarray], list[Label]]] = {
        ".txt": read_yolo, ".xml": partial(read_voc, attribute=attribute),
        ".json": partial(read_labelme, attribute=attribute)}
    for path in places:
        for suffix, read in readers.items():
            if (file := path.with_suffix(suffix)).is_file():
                return partial(read, file)
    return None


def corners_in(label: Label) -> str:
    """The corners of a label as a table has them; empty if not known, or merely those of the box."""
    if label.corners is None:
        return ""
    corners = clockwise(label.corners.round(1))
    return "" if repeat_box(corners[FROM_UPPER_LEFT], label.box) else corners_text(corners, label.box)


class Table(NamedTuple):
    """What the labels of pictures say."""

    rows: list[list[object]]  # file, x1, y1, x2, y2, corners and text
    plates: Counter[str]  # by class
    others: Counter[str]  # the same of what is none by --classes
    seen: set[str]  # classes, of pictures left out too
    problems: list[str]
    left_out: int  # pictures without labels
    lost: list[str]  # pictures of COCO's that are not there


def table_of_labels(images: Path, labels: Path | None, folder: Path, classes: Sequence[str] | None,
                    attribute: str = "text") -> Table:
    """The rows of a table in ``folder`` for the pictures of ``images``. Raises UserError."""
    coco = read_coco(labels, attribute) if labels and labels.suffix.lower() == ".json" else None
    unused = {labels_of: name for name, labels_of in (coco or {}).items()}
    rows, problems, left_out = [], [], 0
    plates, others, seen = Counter[str](), Counter[str](), set[str]()
    pictures = find_images(images)
    names = Counter(path.name for path in pictures)
    for path in tqdm(pictures, unit="picture"):
        labels_of = find_labels(path, images, labels, attribute, coco, names[path.name] == 1)
        if labels_of is None:
            left_out += 1
            continue
        unused.pop(labels_of, None)
        name = relative_name(path, folder)
        try:
            read = labels_of(np.array(read_image(path).shape[1::-1]))
            seen.update(label.kind for label in read)
            others.update(label.kind for label in read if classes and label.kind not in classes)
            read = [label._replace(box=label.box.round(1)) for label in read if not classes or label.kind in classes]
            if not all(at_least(label.box[None], LEAST_SIDE)[0] for label in read):
                raise UserError(f"{path}: the box of a label has a side below {LEAST_SIDE} pixels; mend the label")
        except UserError as error:
            problems.append(str(error))
            continue
        plates.update(label.kind for label in read)
        rows += [[name, *label.box.tolist(), corners_in(label), label.text] for label in read] or [[name, *("",) * 6]]
    return Table(rows, plates, others, seen, problems, left_out, list(unused.values()))


def counted(classes: Counter[str]) -> str:
    """How many labels each class has."""
    return ", ".join(f"{kind} ({count})" for kind, count in sorted(classes.items()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures, in subfolders too")
    parser.add_argument("--labels", type=Path, metavar="PATH",
                        help="folder of their files of labels (default: beside the pictures, or where their path has "
                             "labels for images), or COCO's file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write")
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="the classes that are plates (default: all)")
    parser.add_argument("--text", default="text", metavar="NAME",
                        help="the attribute of a label that tells what the plate reads (LabelMe: or a field, such as "
                             "description; YOLO has none)")
    add_seed(parser)
    args = parser.parse_args()
    if args.out.exists():
        raise UserError(f"{args.out} is there and may have been corrected; name another --out, or remove it")
    rows, plates, others, seen, problems, left_out, lost = table_of_labels(
        args.images, args.labels, args.out.parent, args.classes, args.text)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not rows:
        raise UserError(f"no picture in {args.images} has labels that can be read: YOLO's .txt, Pascal VOC's .xml, "
                        "LabelMe's .json or COCO's one; check --labels")
    if unknown := set(args.classes or ()) - seen:
        raise UserError(f"no label has the class {min(unknown)}; name with --classes some of {', '.join(sorted(seen))}")
    columns = (FILE, *BOX, CORNERS, TEXT)
    used = [index for index in range(len(columns)) if index <= len(BOX) or any(row[index] for row in rows)]
    write_rows(args.out, [columns[index] for index in used], ([row[index] for index in used] for row in rows))
    print(f"wrote {args.out}: {plates.total()} plates; {left_out} pictures without labels left out")
    if lost:
        print(f"{len(lost)} labelled pictures are not in {args.images}, such as {lost[0]}")
    if len(columns) - 1 not in used:
        print(f"the labels tell no texts ({args.text}); to train or measure LPRNet, add a column text to the table")
    if others:
        print(f"labels of other classes, of no plates: {counted(others)}")
    if len(plates) > 1:
        print(f"of the classes {counted(plates)}; if some are no plates, name with --classes those that are")
    train, *vals = (args.images / part for part in ("train", "val", "valid"))
    vals = [val for val in vals if train.is_dir() and val.is_dir()]
    sides = ("-dir_train", train, "-dir_val", *vals) if vals else ("-dir_train", args.images, "--hold_out", 0.1)
    flags = (*sides, "--boxes", args.out)
    print(f"next: python MTCNN/data_preprocessing/gen_Pnet_train_data.py {command_line(flags)}")
    return 1 if problems else 0


if __name__ == "__main__":
    run_script(main)
