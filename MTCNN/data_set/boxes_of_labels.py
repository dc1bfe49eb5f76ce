"""Make a table of boxes for --boxes from the labels of YOLO, Pascal VOC or COCO.

    python MTCNN/data_set/boxes_of_labels.py --images photos/images --labels photos/labels --out photos/boxes.csv
    python MTCNN/data_set/boxes_of_labels.py --images photos/images --labels photos/coco.json --out photos/boxes.csv

In a folder of labels, a picture's file has the picture's name with the suffix .txt (YOLO) or .xml (Pascal VOC), in the
same subfolder. YOLO's has a line per plate, in shares of the picture's size: ``class x-centre y-centre width height``,
with or without four key points behind it (the plate's corners, each perhaps with a visibility), or ``class`` and the
four corners of a turned box. COCO's annotations may have four key points, or a polygon of four points. Corners may come
in any order. A picture that is labelled with nothing has no plate; a picture without labels is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import posixpath
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from tqdm import tqdm

from platekit.arguments import HelpFormatter, add_seed, command_line
from platekit.corners import FROM_UPPER_LEFT, repeat_box
from platekit.errors import UserError, run_script
from platekit.files import relative_name, stripped_lines
from platekit.images import find_images, read_image
from platekit.tables import BOX, CORNERS, FILE, LEAST_SIDE, TEXT, are_corners, clockwise, corners_text, write_rows


class Label(NamedTuple):
    """What is labelled in a picture, in its pixels."""

    kind: str
    box: np.ndarray  # (4,)
    corners: np.ndarray | None = None  # (4, 2), in any order
    text: str = ""


LabelsOf = Callable[[np.ndarray], list[Label]]  # a picture's, whose size (width, height) is given; raises UserError


def read_yolo(path: Path, size: np.ndarray) -> list[Label]:
    """The labels of YOLO's file for a picture. Raises UserError."""
    labels = []
    for line in stripped_lines(path):
        kind, *texts = line.split()
        try:
            box, corners = box_and_corners(np.array(texts, np.float64))
        except ValueError:
            raise UserError(f"{path}: '{line}' is not 'class x y width height', perhaps with four corners, over the "
                            "picture's size; mend the line (confidences and other polygons are not taken)") from None
        labels.append(Label(kind, box * (*size, *size), None if corners is None else corners * size))
    return labels


def box_and_corners(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """The box (4,) and the corners (4, 2), if they are known, of a line of YOLO's, in shares. Raises ValueError."""
    numbers = opened(numbers)
    box, points = numbers[:4], numbers[4:]
    if len(numbers) == 8:  # a turned box
        points = numbers.reshape(4, 2)
        low, high = points.min(axis=0), points.max(axis=0)
        box = np.concatenate([(low + high) / 2, high - low])
    x, y, width, height = box
    if not ((box >= 0).all() and (box <= 1).all() and width > 0 and height > 0):
        raise ValueError("this is no box")
    sides = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return box_within(sides, np.ones(2)), known_corners(points, sides, np.ones(2))


def opened(numbers: np.ndarray) -> np.ndarray:
    """The numbers of a polygon of four points whose first is there again at its end without that."""
    return numbers[:8] if len(numbers) == 10 and (numbers[:2] == numbers[8:]).all() else numbers


def known_corners(points: np.ndarray, box: np.ndarray, size: np.ndarray) -> np.ndarray | None:
    """The corners (4, 2) of a plate of which four points are told, each perhaps with a visibility; None where none is
    told, or one is not marked or outside the picture. Raises ValueError for points of something else."""
    if not points.size:
        return None
    marked = True
    if len(points) == 12:
        points = points.reshape(4, 3)
        if not np.isin(points[:, 2], (0, 1, 2)).all():
            raise ValueError("these are no visibilities")
        marked, points = bool(points[:, 2].all()), points[:, :2]
    corners = points.reshape(4, 2)
    if not marked or not corners.any(axis=1).all() or (corners < 0).any() or (corners > size).any():
        return None  # points at 0, 0 are not marked, and those outside cannot be seen
    if not are_corners(clockwise(corners), box):
        raise ValueError("these are no corners")
    return corners


def box_within(box: np.ndarray, size: np.ndarray) -> np.ndarray:
    """A box (4,) in pixels, cut at the picture's edges. Raises ValueError for one that lies outside."""
    cut = box.clip(0, (*size, *size))
    if not (np.isfinite(box).all() and (np.abs(cut - box) <= 0.05 * max(size)).all() and (cut[2:] > cut[:2]).all()):
        raise ValueError("this is no box in the picture")
    return cut


def check_size(source: str, stated: Iterable[Any], size: np.ndarray) -> None:
    """UserError for labels of a picture whose stated size (width, height), if any, is not this one's."""
    try:
        labelled = [float(side) for side in stated]
    except (TypeError, ValueError):  # none is stated
        return
    if all(labelled) and labelled != size.tolist():
        raise UserError(f"{source} are of a picture of {labelled[0]:g} x {labelled[1]:g} pixels, and this one has "
                        f"{size[0]} x {size[1]}; find the picture as it was labelled")


def read_voc(path: Path, attribute: str, size: np.ndarray) -> list[Label]:
    """The labels of Pascal VOC's file for a picture, with the texts that an attribute tells. Raises UserError."""
    try:
        tree = ElementTree.parse(path)
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:  # the last two of its encoding
        raise UserError(f"cannot read {path}: {error}; check the file, and save it in UTF-8") from None
    check_size(f"the labels in {path}", (tree.findtext(f"size/{side}") for side in ("width", "height")), size)
    labels = []
    for thing in tree.iterfind("object"):
        texts = [thing.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            box = box_within(np.array(texts, np.float64), size)
        except (TypeError, ValueError):
            raise UserError(f"{path}: {texts} is no box xmin, ymin, xmax, ymax in a picture of {size[0]} x {size[1]} "
                            "pixels; mend it") from None
        told = {other.findtext("name"): other.findtext("value") for other in thing.iterfind("attributes/attribute")}
        labels.append(Label(thing.findtext("name") or "", box, text=(told.get(attribute) or "").strip()))
    return labels


def read_coco(path: Path, attribute: str) -> dict[str, LabelsOf]:
    """The labels that COCO's file has for each picture, with the texts that an attribute tells: by the name that it
    gives the picture, and by the last part of that where no other has it. Raises UserError."""
    try:
        content = json.loads(path.read_bytes())
        kinds = {kind["id"]: str(kind["name"]) for kind in content["categories"]}
        things: dict[Any, list[dict[str, Any]]] = {picture["id"]: [] for picture in content["images"]}
        for thing in content["annotations"]:
            things[thing["image_id"]].append({**thing, "kind": kinds[thing["category_id"]]})
        found: dict[str, LabelsOf] = {
            str(picture["file_name"]).replace("\\", "/"): functools.partial(labels_of_coco, path, attribute,
                                                                            picture, things[picture["id"]])
            for picture in content["images"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"cannot read {path} as COCO's: {type(error).__name__} {error}; check the file") from None
    last = Counter(map(posixpath.basename, found))  # the folders before it may be another machine's
    return {posixpath.basename(name): labels for name, labels in found.items()
            if last[posixpath.basename(name)] == 1} | found


def labels_of_coco(path: Path, attribute: str, picture: dict[str, Any], things: list[dict[str, Any]],
                   size: np.ndarray) -> list[Label]:
    """What is labelled in one picture. Raises UserError."""
    source = f"the labels of {picture['file_name']} in {path}"
    check_size(source, (picture.get(side) for side in ("width", "height")), size)
    labels = []
    for thing in things:
        try:
            x, y, width, height = map(float, thing["bbox"])
            box = box_within(np.array([x, y, x + width, y + height]), size)
            told = thing.get("attributes")
            text = told.get(attribute) if isinstance(told, dict) else None
            labels.append(Label(thing["kind"], box, corners_of_coco(thing, box, size), str(text or "").strip()))
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{source}: {thing.get('bbox')} is no bbox in a picture of {size[0]} x {size[1]} pixels; "
                            "mend it") from None
    return labels


def corners_of_coco(thing: dict[str, Any], box: np.ndarray, size: np.ndarray) -> np.ndarray | None:
    """The corners (4, 2) of a thing with four key points, or one polygon of four points, round its box."""
    polygons = thing.get("segmentation")
    for points in (thing.get("keypoints"), polygons[0] if isinstance(polygons, list) and len(polygons) == 1 else None):
        if isinstance(points, list) and len(points) in (8, 10, 12):
            with contextlib.suppress(ValueError):  # they mean something else
                return known_corners(opened(np.array(points, np.float64)), box, size)
    return None


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
    for path in places:
        if (file := path.with_suffix(".txt")).is_file():
            return functools.partial(read_yolo, file)
        if (file := path.with_suffix(".xml")).is_file():
            return functools.partial(read_voc, file, attribute)
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
    seen: set[str]  # classes, of other things too
    problems: list[str]
    left_out: int  # pictures without labels
    lost: list[str]  # pictures of COCO's that are not there


def table_of_labels(images: Path, labels: Path | None, folder: Path, classes: Sequence[str] | None,
                    attribute: str = "text") -> Table:
    """The rows of a table in ``folder`` for the pictures of ``images``. Raises UserError."""
    coco = read_coco(labels, attribute) if labels and labels.suffix.lower() == ".json" else None
    unused = {labels_of: name for name, labels_of in (coco or {}).items()}
    rows, problems, left_out = [], [], 0
    seen: set[str] = set()
    plates: Counter[str] = Counter()
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
            read = [label._replace(box=label.box.round(1)) for label in read if not classes or label.kind in classes]
            if any((label.box[2:] - label.box[:2] < LEAST_SIDE).any() for label in read):
                raise UserError(f"{path}: the box of a label has a side below {LEAST_SIDE} pixels; mend the label")
        except UserError as error:
            problems.append(str(error))
            continue
        plates.update(label.kind for label in read)
        rows += [[name, *label.box.tolist(), corners_in(label), label.text] for label in read] or [[name, *("",) * 6]]
    return Table(rows, plates, seen, problems, left_out, list(unused.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="pictures, in subfolders too")
    parser.add_argument("--labels", type=Path, metavar="PATH",
                        help="folder of their files of labels (default: beside the pictures, or where their path has "
                             "labels for images), or COCO's file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write")
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="the classes that are plates (default: all)")
    parser.add_argument("--text", default="text", metavar="NAME",
                        help="the attribute of Pascal VOC's and COCO's labels that tells what a plate reads")
    add_seed(parser)
    args = parser.parse_args()
    if args.out.exists():
        raise UserError(f"{args.out} is there and may have been corrected; name another --out, or remove it")
    rows, plates, seen, problems, left_out, lost = table_of_labels(args.images, args.labels, args.out.parent,
                                                                   args.classes, args.text)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not rows:
        raise UserError(f"no picture in {args.images} has labels that can be read: YOLO's .txt, Pascal VOC's .xml or "
                        "COCO's .json; check --labels")
    if unknown := set(args.classes or ()) - seen:
        raise UserError(f"no label has the class {min(unknown)}; name with --classes some of {', '.join(sorted(seen))}")
    columns = (FILE, *BOX, CORNERS, TEXT)
    told = [index for index in range(len(columns)) if index <= len(BOX) or any(row[index] for row in rows)]
    write_rows(args.out, [columns[index] for index in told], ([row[index] for index in told] for row in rows))
    print(f"wrote {args.out}: {plates.total()} plates; {left_out} pictures without labels left out")
    if lost:
        print(f"{len(lost)} labelled pictures are not in {args.images}, such as {lost[0]}")
    if len(columns) - 1 not in told:
        print(f"the labels tell no texts ({args.text}); to train or measure LPRNet, add a column text to the table")
    if len(plates) > 1:
        print("of the classes " + ", ".join(f"{kind} ({count})" for kind, count in sorted(plates.items()))
              + "; if some are no plates, name with --classes those that are")
    train, *vals = (args.images / part for part in ("train", "val", "valid"))
    vals = [val for val in vals if train.is_dir() and val.is_dir()]
    sides = ("-dir_train", train, "-dir_val", *vals) if vals else ("-dir_train", args.images, "--hold_out", 0.1)
    flags = (*sides, "--boxes", args.out)
    print(f"next: python MTCNN/data_preprocessing/gen_Pnet_train_data.py {command_line(flags)}")
    return 1 if problems else 0


if __name__ == "__main__":
    run_script(main)
