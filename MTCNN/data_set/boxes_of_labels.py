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
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from xml.etree import ElementTree

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
    """What is labelled in a picture, in its pixels."""

    kind: str
    box: np.ndarray  # (4,)
    corners: np.ndarray | None = None  # (4, 2), in any order


LabelsOf = Callable[[np.ndarray], list[Label]]  # a picture's, whose size (width, height) is given; raises UserError


def read_yolo(path: Path, size: np.ndarray) -> list[Label]:
    """The labels of YOLO's file for a picture. Raises UserError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}; check the file") from None
    labels = []
    for line in filter(str.strip, lines):
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
    box, points = numbers[:4], numbers[4:]
    if len(numbers) == 8:  # a turned box
        points = numbers.reshape(4, 2)
        low, high = points.min(axis=0), points.max(axis=0)
        box = np.concatenate([(low + high) / 2, high - low])
    x, y, width, height = box
    if not ((box >= 0).all() and (box <= 1).all() and width > 0 and height > 0):
        raise ValueError("this is no box")
    sides = np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return sides.clip(0, 1), known_corners(points, sides, np.ones(2))


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


def read_voc(path: Path, size: np.ndarray) -> list[Label]:
    """The labels of Pascal VOC's file for a picture. Raises UserError."""
    try:
        tree = ElementTree.parse(path)
    except (OSError, ElementTree.ParseError) as error:
        raise UserError(f"cannot read {path}: {error}; check the file") from None
    labels = []
    for thing in tree.iterfind("object"):
        texts = [thing.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
        try:
            labels.append(Label(thing.findtext("name") or "", box_within(np.array(texts, np.float64), size)))
        except (TypeError, ValueError):
            raise UserError(f"{path}: {texts} is no box xmin, ymin, xmax, ymax in a picture of {size[0]} x {size[1]} "
                            "pixels; mend it, or find the picture as it was labelled") from None
    return labels


def read_coco(path: Path) -> Mapping[str, LabelsOf]:
    """The labels that COCO's file has for each picture, by the name that it gives the picture, and by the last part of
    that where no other has it. Raises UserError."""
    try:
        content = json.loads(path.read_bytes())
        kinds = {kind["id"]: str(kind["name"]) for kind in content["categories"]}
        things: dict[Any, list[dict[str, Any]]] = {picture["id"]: [] for picture in content["images"]}
        for thing in content["annotations"]:
            things[thing["image_id"]].append({**thing, "kind": kinds[thing["category_id"]]})
        found = {str(picture["file_name"]): functools.partial(labels_of_coco, path, things[picture["id"]])
                 for picture in content["images"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"cannot read {path} as COCO's: {type(error).__name__} {error}; check the file") from None
    last = Counter(PurePosixPath(name).name for name in found)  # the folders before it may be another machine's
    return {PurePosixPath(name).name: labels for name, labels in found.items() if last[PurePosixPath(name).name] == 1} \
        | found


def labels_of_coco(path: Path, things: list[dict[str, Any]], size: np.ndarray) -> list[Label]:
    """What is labelled in one picture. Raises UserError."""
    labels = []
    for thing in things:
        try:
            x, y, width, height = map(float, thing["bbox"])
            box = box_within(np.array([x, y, x + width, y + height]), size)
            labels.append(Label(thing["kind"], box, corners_of_coco(thing, box, size)))
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path}: {thing.get('bbox')} of image {thing['image_id']} is no bbox in a picture of "
                            f"{size[0]} x {size[1]} pixels; mend it, or find the picture as it was labelled") from None
    return labels


def corners_of_coco(thing: dict[str, Any], box: np.ndarray, size: np.ndarray) -> np.ndarray | None:
    """The corners (4, 2) of a thing with four key points, or one polygon of four points, round its box."""
    polygons = thing.get("segmentation")
    for points in (thing.get("keypoints"), polygons[0] if isinstance(polygons, list) and len(polygons) == 1 else None):
        if isinstance(points, list) and len(points) in (8, 12):
            with contextlib.suppress(ValueError):  # they mean something else
                return known_corners(np.array(points, np.float64), box, size)
    return None


def find_labels(picture: Path, images: Path, labels: Path, coco: Mapping[str, LabelsOf] | None) -> LabelsOf | None:
    """What tells the labels of a picture in the folder ``images``; None where nothing does."""
    place = picture.relative_to(images)
    if coco is not None:
        return coco.get(place.as_posix()) or coco.get(place.name)
    for suffix, read in ((".txt", read_yolo), (".xml", read_voc)):
        if (path := (labels / place).with_suffix(suffix)).is_file():
            return functools.partial(read, path)
    return None


def corners_in(label: Label) -> str:
    """The corners of a label as a table has them; empty if not known."""
    return "" if label.corners is None else corners_text(clockwise(label.corners.round(1)), label.box)


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
    parser.add_argument("--labels", type=Path, metavar="PATH",
                        help="folder of their files of labels (default: beside the pictures), or COCO's file")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the table to write")
    add_seed(parser)
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="the classes that are plates (default: all)")
    args = parser.parse_args()
    check_table(args.out, ("file", *BOX, CORNERS))
    coco = read_coco(args.labels) if args.labels and args.labels.suffix.lower() == ".json" else None
    rows, problems, left_out = [], [], 0
    seen: set[str] = set()
    plates: Counter[str] = Counter()
    for path in tqdm(find_images(args.images), unit="picture"):
        labels_of = find_labels(path, args.images, args.labels or args.images, coco)
        if labels_of is None:
            left_out += 1
            continue
        name = relative_name(path, args.out.parent)
        try:
            read = labels_of(np.array(read_image(path).shape[1::-1]))
            seen.update(label.kind for label in read)
            read = [label._replace(box=label.box.round(1)) for label in read
                    if not args.classes or label.kind in args.classes]
            if any((label.box[2:] - label.box[:2] < LEAST_SIDE).any() for label in read):
                raise UserError(f"{path}: the box of a label has a side below {LEAST_SIDE} pixels; mend the label")
        except UserError as error:
            problems.append(str(error))
            continue
        plates.update(label.kind for label in read)
        rows += [[name, *label.box.tolist(), corners_in(label)] for label in read] or [[name, *("",) * 5]]
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    if not rows:
        raise UserError(f"no picture in {args.images} has labels that can be read; check --labels")
    if unknown := set(args.classes or ()) - seen:
        raise UserError(f"no label has the class {min(unknown)}; name with --classes some of {', '.join(sorted(seen))}")
    columns = ("file", *BOX, CORNERS) if any(row[-1] for row in rows) else ("file", *BOX)
    check_table(args.out, columns)
    write_rows(args.out, columns, (row[:len(columns)] for row in rows))
    print(f"wrote {args.out}: {plates.total()} plates; {left_out} pictures without labels left out")
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
