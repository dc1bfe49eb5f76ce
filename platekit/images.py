"""Reading, writing and finding pictures. A picture is a uint8 array (H, W, 3) in BGR order everywhere."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import imutils.paths
import numpy as np

from platekit.errors import UserError
from platekit.files import write_bytes
from platekit.opencv import cv2

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # suffixes that write_image takes


def check_picture(image: np.ndarray) -> None:
    """Raises ValueError for anything but a picture."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 \
            or image.size == 0:
        raise ValueError("a picture is a BGR uint8 array (H, W, 3) of at least one pixel, not "
                         f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}")


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a picture as BGR uint8 (H, W, 3), turned upright by its EXIF orientation.

    Any path works, non-ASCII ones on Windows too. Raises UserError for what is missing, empty or no picture.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}; check the path") from None
    if data.size == 0:
        raise UserError(f"cannot decode {path}: the file is empty; fetch it again")
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise UserError(f"cannot decode {path}: it is no picture or it is truncated; convert it to JPEG or PNG")
    return image


def write_image(path: str | os.PathLike, image: np.ndarray, quality: int = 92) -> None:
    """Write a BGR picture, whole or not at all; the suffix chooses the format, ``quality`` is for JPEG."""
    suffix = Path(path).suffix or ".jpg"
    try:
        done, data = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        done = False
    if not done:
        raise UserError(f"cannot write {path}: no picture format is known for '{suffix}'; use .jpg or .png")
    write_bytes(path, data.tobytes())


def find_images(folder: str | os.PathLike) -> list[Path]:
    """All pictures below a folder, sorted. Raises UserError when the folder is missing or holds none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; check the path")
    found = sorted(Path(path) for path in imutils.paths.list_images(folder))
    if not found:
        raise UserError(f"{folder} holds no pictures (.jpg, .jpeg, .png, .bmp, .tif); name a folder that does")
    return found


def expand_inputs(inputs: Iterable[str | os.PathLike]) -> Iterator[Path]:
    """Files, folders (searched through) and glob patterns, as paths in the order given.

    A plain path that does not exist is passed on, so that reading it reports it beside the others.
    Raises UserError for a folder without pictures and a pattern that matches nothing.
    """
    for entry in inputs:
        path = Path(entry)
        if path.is_dir():
            yield from find_images(path)
        elif path.exists() or not glob.has_magic(str(entry)):
            yield path
        else:
            matches = sorted(glob.glob(str(entry), recursive=True))
            if not matches:
                raise UserError(f"the pattern {entry} matches no file; check it, and quote it for the shell")
            for match in map(Path, matches):
                yield from find_images(match) if match.is_dir() else [match]
