"""Drawing results on pictures. OpenCV 5 draws Chinese text with its built-in font: no font file is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from platekit.files import printable
from platekit.opencv import cv2
from platekit.results import Plate

COLOUR = (60, 60, 255)  # BGR
INK = (255, 255, 255)
WEIGHT = 500  # of the letters
SQUARES = (5, 2)  # side by side and one below another, of a hidden plate: fewer than it has symbols
MARGIN = 0.1  # of a box's sides, that is hidden beyond them


def own_font() -> cv2.FontFace:
    """A font for one call. Drawing changes it: another thread must not use it, and the next text would not be bold."""
    return cv2.FontFace("sans")


def text_width(text: str, size: int) -> int:
    """How many pixels wide ``draw_text`` writes it."""
    return cv2.getTextSize((0, 0), printable(text), (0, 0), own_font(), size, WEIGHT)[2]


def draw_text(image: np.ndarray, text: str, origin: tuple[int, int], size: int, colour: tuple[int, int, int] = INK
              ) -> None:
    """Write ``text`` into the picture; ``origin`` is the left end of its baseline, ``size`` its height in pixels."""
    # OpenCV aborts the process on what is not printable
    cv2.putText(image, printable(text), origin, colour, own_font(), size, WEIGHT)


def draw_plates(image: np.ndarray, plates: Sequence[Plate]) -> np.ndarray:
    """Draw every plate's box into the picture and, where it was read, its text above or below the box; return it.

    Of an array that OpenCV can't draw on, a read-only one or some views, a copy is drawn on and returned.
    """
    image, (height, width) = drawable(image), image.shape[:2]
    line = max(1, round(max(height, width) / 400))
    usual = max(12, round(max(height, width) / 32))
    for plate in reversed(plates):  # the surest on top
        x1, y1, x2, y2 = (round(value) for value in plate.box)
        cv2.rectangle(image, (x1, y1), (x2 - 1, y2 - 1), COLOUR, line)  # x2 and y2 are exclusive
        label = f"{plate.detection_score:.2f}" if plate.text is None else f"{plate.text} {plate.confidence:.2f}"
        size = max(6, min(usual, int(usual * width / (text_width(label, usual) + usual // 2))))  # to fit the picture
        label_width = text_width(label, size) + size // 2
        left = max(0, min(x1, width - label_width))
        top = y1 - size - size // 2
        if top < 0:
            top = min(y2, height - size - size // 2)
        cv2.rectangle(image, (left, top), (left + label_width, top + size + size // 2), COLOUR, -1)
        draw_text(image, label, (left + size // 4, top + size + size // 8), size)
    return image


def hide_plates(image: np.ndarray, plates: Sequence[Plate]) -> np.ndarray:
    """Make the plates in the picture unreadable: each becomes a few squares of its mean colours.

    Returns the picture, or a copy where it cannot be drawn on.
    """
    image = drawable(image)
    for plate in plates:
        x1, y1, x2, y2 = plate.box
        wide, high = MARGIN * (x2 - x1), MARGIN * (y2 - y1)
        rows, columns = (slice(max(0, int(low)), max(0, math.ceil(end)))
                         for low, end in ((y1 - high, y2 + high), (x1 - wide, x2 + wide)))
        part = image[rows, columns]
        if part.size:  # a plate may be expected where it has left the picture
            squares = cv2.resize(part, SQUARES, interpolation=cv2.INTER_AREA)
            part[:] = cv2.resize(squares, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    return image


def drawable(image: np.ndarray) -> np.ndarray:
    """The picture, or a copy where OpenCV cannot draw on it: a read-only one and some views."""
    width = image.shape[1]
    return image if image.strides == (3 * width, 3, 1) and image.flags.writeable else image.copy()
