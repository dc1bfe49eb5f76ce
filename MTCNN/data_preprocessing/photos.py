"""The photos that samples are cut from: where they lie, where their plate is, and what in them must be left alone."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ccpd.annotation import parse
from ccpd.dataset import PLATE_FREE, listed_names, shows_no_plate
from platekit.errors import UserError
from platekit.files import real_path, stripped_lines
from platekit.inputs import find_images
from platekit.tables import Plates


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo and what is known of it; boxes are (x1, y1, x2, y2) in its pixels."""

    path: Path
    box: np.ndarray | None  # float64 (4,); None: there is no plate in it
    corners: np.ndarray | None  # (4, 2) as in the CCPD name; None: only the box is known, not the plate's corners
    ignore: np.ndarray  # (K, 4): regions that may hold plates nobody annotated; nothing is learnt from them


def read_photos(folders: Iterable[str | os.PathLike], plain: str | os.PathLike | None = None,
                ignore: str | os.PathLike | None = None, plates: Mapping[Path, Plates] | None = None) -> list[Photo]:
    """The annotated photos and the plate-free ones (below ``ccpd_np``) of the folders, in a fixed order.

    ``plates`` are those of pictures without a CCPD name, by their resolved paths, as ``plates_of_tables`` gives
    them: a picture of several is as many photos, each with the others' boxes to be left alone. ``plain`` names a text
    file, one photo per line (its file name or a path that ends in it), whose corners are not to be trusted; ``ignore``
    one with lines ``name x1 y1 x2 y2``. Photos with other names are left out, with a word about it. Raises UserError
    for a missing or empty folder, and for a list that cannot be read.
    """
    plain_names = listed_names(plain) if plain else set()
    ignored = _read_boxes(ignore) if ignore else {}
    photos, unknown, again, seen = [], [], 0, set()
    for folder in folders:
        for path in find_images(folder):
            if (resolved := real_path(path)) in seen:
                again += 1
                continue
            seen.add(resolved)
            zones = np.array(ignored.get(path.name, ()), dtype=np.float64).reshape(-1, 4)
            if plates and (of_table := plates.get(resolved)) is not None:
                photos += photos_of_table(path, of_table, zones) or [Photo(path, None, None, zones)]
                continue
            if shows_no_plate(path):
                photos.append(Photo(path, None, None, zones))
                continue
            try:
                annotation = parse(path)
            except UserError:
                unknown.append(path)
                continue
            corners = np.array(annotation.vertices, dtype=np.float64)
            box = np.array(annotation.box, dtype=np.float64)
            bare = path.name in plain_names or annotation.without_pose
            photos.append(Photo(path, box, None if bare else corners, zones))
    if unknown:
        print(f"left out {len(unknown)} pictures without a CCPD name that are not below {PLATE_FREE}"
              f"{' nor in --boxes' * bool(plates)}, the first {unknown[0]}")
    if again:
        print(f"{again} photos are there twice, by {' and '.join(map(str, folders))}; they count once")
    for source, names in ((plain, plain_names), (ignore, set(ignored))):
        if names and names.isdisjoint(photo.path.name for photo in photos):
            print(f"none of the {len(names)} names in {source} is of a photo here, such as {min(names)}")
    if not photos:
        raise UserError(f"no photo with a CCPD name in {', '.join(map(str, folders))}; name a folder of CCPD photos, "
                        "or give a table of boxes with --boxes")
    return photos


def photos_of_table(path: Path, plates: Plates, zones: np.ndarray) -> list[Photo]:
    """A picture as one photo per plate."""
    return [Photo(path, box, corners, np.concatenate([zones, np.delete(plates.boxes, number, axis=0)]))
            for number, (box, corners) in enumerate(zip(plates.boxes, plates.corners))]


def _read_boxes(path: str | os.PathLike) -> dict[str, list[list[float]]]:
    """Lines ``name x1 y1 x2 y2`` as name -> boxes."""
    boxes: dict[str, list[list[float]]] = {}
    for line in stripped_lines(path):
        try:
            name, *numbers = line.rsplit(maxsplit=4)
            x1, y1, x2, y2 = box = [float(number) for number in numbers]
            if not (-math.inf < x1 < x2 < math.inf and -math.inf < y1 < y2 < math.inf):
                raise ValueError
        except ValueError:
            raise UserError(f"{path}: '{line}' is not 'name x1 y1 x2 y2'; mend the line") from None
        boxes.setdefault(Path(name).name, []).append(box)
    return boxes
