"""Reading and writing pictures. A picture is a uint8 array (H, W, 3) in BGR order everywhere."""

from __future__ import annotations

import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, TypeVar, overload

import numpy as np

from platekit import MAX_PIXELS, OPENCV_KNOWS_LIMIT
from platekit.errors import UserError, reason
from platekit.files import write_bytes
from platekit.opencv import cv2

WRITABLE = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")  # suffixes that write_image takes

MOST_SCANS = 200  # of a JPEG, twice what cjpeg takes: each costs a pass over all pixels, however few bytes it has
MOST_PARTS = 100_000  # of a JPEG or PNG: each is looked at before it is decoded, and may have four bytes
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"  # what such files begin with
_FLOATS = b"#?", b"PF", b"Pf"  # with which pictures begin that are decoded to numbers of four bytes: HDR, PFM
_JPEG2000_STARTS = b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51"
_JPEG2000 = re.compile(rb"\xff\x4f\xff\x51.{4}(.{4})(.{4})", re.DOTALL)  # its codestream, width and height
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")  # of those in a JPEG the ones with a length behind them


# A path, an open file, what is in such a file, or BGR uint8 (H, W, 3).
Picture = str | os.PathLike | IO[bytes] | bytes | bytearray | memoryview | np.ndarray
_WARNINGS = threading.Lock()  # two threads that silence them at once may leave them silent
Result = TypeVar("Result")


@overload
def for_each(function: Callable[[np.ndarray], Result], pictures: Picture) -> Result: ...


@overload
def for_each(function: Callable[[np.ndarray], Result], pictures: Iterable[Picture]) -> list[Result]: ...


def for_each(function: Callable[[np.ndarray], Result], pictures: Picture | Iterable[Picture]) -> Result | list[Result]:
    """The function's result of one picture, or the list of those of several. Raises as the function, and UserError.

    An open file is one picture too: what is left to read of it.
    """
    if isinstance(pictures, (str, os.PathLike)):
        return function(read_image(pictures))
    content: Picture | Iterable[Picture] = pictures.read() if hasattr(pictures, "read") else pictures
    if isinstance(content, (bytes, bytearray, memoryview)):
        return function(decode_image(np.frombuffer(bytes(content), np.uint8), "the bytes given"))
    no_list = isinstance(content, (str, Mapping, np.ndarray)) or getattr(content, "ndim", 1) != 1  # as a tensor
    if isinstance(content, Iterable) and not no_list:
        return [for_each(function, picture) for picture in content]
    return function(content)  # type: ignore[arg-type]  # an array, or what it refuses


def check_picture(image: np.ndarray) -> None:
    """Raises ValueError for anything but a picture."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 \
            or image.size == 0:
        raise ValueError("a picture is a BGR uint8 array (H, W, 3) of at least one pixel, not "
                         f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}")


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a picture as BGR uint8 (H, W, 3), turned upright by its EXIF orientation.

    Any path works, non-ASCII ones on Windows too. Raises UserError for what is missing, empty, no picture, or larger
    than ``MAX_PIXELS``, and MemoryError or OpenCV's own where there is too little memory.
    """
    try:
        facts = os.stat(path)
        if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):  # opening a pipe would wait for ever
            raise UserError(f"cannot read {path}: it is a pipe or a device; name a file")
        if stat.S_ISDIR(facts.st_mode):
            with os.scandir(os.fspath(path)):  # one that may not be entered says so
                raise UserError(f"cannot read {path}: it is a folder; name a picture")
        if facts.st_size > 8 * MAX_PIXELS:  # four channels of 16 bits, not compressed
            raise UserError(f"cannot decode {path}: no picture of up to {MAX_PIXELS / 1e6:g} megapixels is so large a "
                            "file; make it smaller")
        data = np.fromfile(path, dtype=np.uint8)
    except UserError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise UserError(f"cannot read {path}: {reason(error)}; check the path") from None
    return decode_image(data, path)


def decode_image(data: np.ndarray, path: str | os.PathLike) -> np.ndarray:
    """What is in a picture's file, uint8 (N,), as ``read_image`` reads it; errors call it ``path``."""
    if data.size == 0:
        raise UserError(f"cannot decode {path}: the file is empty; fetch it again")
    if _count_scans(data) > MOST_SCANS:
        raise UserError(f"cannot decode {path}: it is a JPEG of more than {MOST_SCANS} scans, or of too many "
                        "parts; save it again in a program for pictures")
    image, too_large = None, not OPENCV_KNOWS_LIMIT and _pixels_by_header(data) > MAX_PIXELS
    start = data[:12].tobytes()
    if start.startswith(_JPEG2000_STARTS) and _pixels_of_jpeg2000(data) > MAX_PIXELS / 4:
        raise UserError(f"cannot decode {path}: a JPEG 2000 picture of more than {MAX_PIXELS / 4e6:g} megapixels takes "
                        "too much memory; make it smaller, or convert it to JPEG or PNG")
    if not too_large and not _lacks_bytes(data) and start[:2] not in _FLOATS:
        try:
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)
        except cv2.error as error:
            if "Insufficient memory" in str(error):
                raise
            too_large = "CV_IO_MAX_IMAGE" in str(error)
    if too_large or (image is not None and image.shape[0] * image.shape[1] > MAX_PIXELS):
        raise UserError(f"cannot decode {path}: it has more than {MAX_PIXELS / 1e6:g} megapixels; make it smaller")
    if image is None and start[4:8] == b"ftyp" and start[8:11] != b"avi":  # AVIF is read
        raise UserError(f"cannot decode {path}: HEIC pictures and videos are not read here; convert it to JPEG or PNG")
    if image is None:
        raise UserError(f"cannot decode {path}: it is no picture or it is truncated; fetch it again, or "
                        "convert it to JPEG or PNG")
    return image


def _count_scans(data: np.ndarray) -> int:
    """How many scans a JPEG has, up to one more than it may have; other files have none. Segments are stepped over and
    what lies behind its end is left out: a thumbnail in it or a film behind it has scans of its own, or bytes that
    look like some.
    """
    if data[:3].tobytes() != _JPEG:
        return 0
    count, parts, place = 0, 0, 2
    while (marker := _MARKER.search(data.data, place)) and marker[0] != b"\xff\xd9":
        count, parts = count + (marker[0] == b"\xff\xda"), parts + 1
        if count > MOST_SCANS or parts > MOST_PARTS:
            return MOST_SCANS + 1
        place = marker.end() + int.from_bytes(data[marker.end():marker.end() + 2].tobytes(), "big")
    return count


def _pixels_of_jpeg2000(data: np.ndarray) -> int:
    """How many pixels such a file says to have, at most: a few bytes may stand for any number of one colour, and each
    takes five times the memory that it takes in other formats."""
    sizes = ([int.from_bytes(side, "big") for side in sides.groups()] for sides in _JPEG2000.finditer(data.data))
    return max((width * height for width, height in sizes), default=0)


def _lacks_bytes(data: np.ndarray) -> bool:
    """Whether a chunk of a PNG says to be longer than what is left of the file: OpenCV takes memory for all of it. Also
    true where there are too many to look at."""
    if data[:len(_PNG)].tobytes() != _PNG:
        return False
    place, parts = len(_PNG), 0
    while place + 8 <= data.size:
        length, kind = int.from_bytes(data[place:place + 4].tobytes(), "big"), data[place + 4:place + 8].tobytes()
        place += 12 + length
        parts += 1
        if place - 4 > data.size or kind == b"IEND" or parts > MOST_PARTS:
            return kind != b"IEND"
    return False


def _pixels_by_header(data: np.ndarray) -> float:
    """How many pixels the header of a picture's file says, for an OpenCV that was loaded without a limit.

    0 where Pillow, which torchvision brings, does not know the format.
    """
    from PIL import Image

    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data.data)) as picture:
                return picture.width * picture.height
    except Image.DecompressionBombError:  # it has more than twice Pillow's own limit, which a program may have set
        return 2 * (Image.MAX_IMAGE_PIXELS or 0)
    except Exception:  # of many kinds, for a broken file
        return 0


def write_image(path: str | os.PathLike, image: np.ndarray, quality: int = 92) -> None:
    """Write a BGR picture, whole or not at all; the suffix chooses the format, ``quality`` is for JPEG."""
    suffix = Path(path).suffix or ".jpg"
    try:
        done, data = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error as error:
        if "Insufficient memory" in str(error):
            raise
        done = False
    if not done:
        height, width = image.shape[:2]
        why = f"{width} x {height} pixels are too many for '{suffix}'; use .png" if cv2.haveImageWriter(f"x{suffix}") \
            else f"no picture format is known for '{suffix}'; use .jpg or .png"
        raise UserError(f"cannot write {path}: {why}")
    write_bytes(path, data.data)
