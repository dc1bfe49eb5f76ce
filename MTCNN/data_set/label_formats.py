"""What YOLO, Pascal VOC, COCO and LabelMe say is labelled in a picture."""

from __future__ import annotations

import contextlib
import functools
import json
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from platekit.corners import bounding_box
from platekit.errors import UserError
from platekit.files import stripped_lines
from platekit.tables import are_corners, clockwise

SHAPES = "rectangle", "polygon", "rotation", "quadrilateral"  # of LabelMe's, the last two X-AnyLabeling's

BEYOND = 0.05  # of the picture's longer side, by which a label may reach outside


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
    numbers = without_closing_point(numbers)
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


def without_closing_point(numbers: np.ndarray) -> np.ndarray:
    """The coordinates of a polygon; of four points that the first one follows again (ten numbers), without that."""
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
    """A box (4,) in the unit of ``size``, cut at the picture's edges. Raises ValueError for one that lies outside."""
    cut = box.clip(0, (*size, *size))
    if not (np.isfinite(box).all() and (np.abs(cut - box) <= BEYOND * max(size)).all() and (cut[2:] > cut[:2]).all()):
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


def text_in(attributes: object, name: str) -> str:
    """The text that a label's attributes have under this name; empty where they have none."""
    return str(attributes.get(name) or "").strip() if isinstance(attributes, dict) else ""


def read_voc(path: Path, size: np.ndarray, attribute: str) -> list[Label]:
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
        labels.append(Label((thing.findtext("name") or "").strip(), box, text=text_in(told, attribute)))
    return labels


def read_coco(path: Path, attribute: str) -> dict[str, LabelsOf]:
    """The labels that COCO's file has for each picture, with the texts that an attribute tells: by the name that it
    gives the picture, and by the last part of that where no other has it. Raises UserError."""
    try:
        content = json.loads(path.read_bytes())
        kinds = {kind["id"]: str(kind["name"]).strip() for kind in content["categories"]}
        things: dict[Any, list[dict[str, Any]]] = {picture["id"]: [] for picture in content["images"]}
        for thing in content["annotations"]:
            things[thing["image_id"]].append({**thing, "kind": kinds[thing["category_id"]]})
        found: dict[str, LabelsOf] = {}
        for picture in content["images"]:
            name = str(picture["file_name"]).replace("\\", "/")
            if name in found:
                raise UserError(f"{path} has the picture {name} twice; keep one, with the labels of both")
            found[name] = functools.partial(labels_of_coco, path, attribute, picture, things[picture["id"]])
    except UserError:
        raise
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
            text = text_in(thing.get("attributes"), attribute)
            labels.append(Label(thing["kind"], box, corners_of_coco(thing, box, size), text))
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
                corners = known_corners(without_closing_point(np.array(points, np.float64)), box, size)
                if corners is not None:
                    return corners
    return None


def read_labelme(path: Path, size: np.ndarray, attribute: str) -> list[Label]:
    """The labels of LabelMe's file for a picture, with the texts that a field or attribute tells. Raises UserError."""
    try:
        content = json.loads(path.read_bytes())
        stated, shapes = (content.get("imageWidth"), content.get("imageHeight")), list(map(dict, content["shapes"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"cannot read {path} as LabelMe's: {type(error).__name__} {error}; check the file") from None
    check_size(f"the labels in {path}", stated, size)
    labels = []
    for shape in shapes:
        form = shape.get("shape_type") or "polygon"
        try:
            points = np.array(shape["points"], np.float64).reshape(-1, 2)
            if form not in SHAPES:  # it gets a box without area, which is no fault if its class is not asked for
                points = points[:1]
            box = bounding_box(points)
            corners = None
            if len(points) > 1:
                box = box_within(box, size)
            if len(points) == 4 and form != "rectangle":
                with contextlib.suppress(ValueError):  # another polygon
                    corners = known_corners(points.flatten(), box, size)
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{path}: {shape.get('points')} are no points of a {form} in a picture of {size[0]} x "
                            f"{size[1]} pixels; mend it") from None
        text = text_in(shape.get("attributes"), attribute) or text_in(shape, attribute)
        labels.append(Label(str(shape.get("label", "")), box, corners, text))
    return labels
