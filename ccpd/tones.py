"""How bright plates are beside blue ones in the same light: what their grounds' colours do, and what the light."""

from __future__ import annotations

import numpy as np

from ccpd.plate_kinds import PlateKind
from platekit.corners import share_of_box
from platekit.opencv import cv2

# Mean grey level of a drawn blue plate, what a real one's is compared with to tell the light: CCPD's figures are of
# grey. The mean of its channels is 120, so that drawn blue plates are a little darker than their light says.
BLUE_TONE = 110.0
BRIGHTEST = 200.0  # mean grey level of a white plate whose ground is white
WHITE_TONE = 1.4  # of drawn white plates, the median


def tone_of(plate: np.ndarray, kind: PlateKind) -> float:
    """How much brighter a drawn plate is than a blue one in the same light."""
    return 1.0 if kind.colour == "blue" else float(plate.mean()) / BLUE_TONE


def tone_of_box(tone: float, corners: np.ndarray) -> float:
    """The tone of the box round a plate of that tone at ``corners`` (4, 2): what it shows beside the plate has none."""
    return 1 + share_of_box(corners) * (tone - 1)


def in_light_of(blue: float, tone: float) -> float:
    """How bright (0..255) a plate of that tone is in a light in which a blue one is as bright as ``blue``.

    The published figures are those of CCPD's plates, which are blue nearly all.
    """
    # a ground that is white gets no brighter, but in a light that bleaches blue ones too
    return min(blue * tone, max(blue, BRIGHTEST))


def tone_in(plate: np.ndarray) -> float:
    """``tone_of`` a real plate, BGR (H, W, 3), taken to be in ordinary light: above 1 for plates with a light ground.

    One whose symbols are lighter than its ground is taken for a blue one, whatever its colours: black ones cannot be
    told from blue ones in the dark, and blue ones are as light as white ones where they are bleached.
    """
    if light_on_dark(plate):
        return 1.0
    return max(1.0 if _is_coloured(plate) else WHITE_TONE, float(plate.mean()) / BLUE_TONE)


def light_on_dark(plate: np.ndarray) -> bool:
    """Whether a plate's symbols are lighter than its ground: on blue ones they are, on yellow and green ones not; on
    others they are what differs most from its surroundings."""
    if is_blue(plate):
        return True
    if _is_coloured(plate):
        return False
    grey = plate.mean(axis=2)
    return bool(((grey - cv2.blur(grey, (31, 31))) ** 3).mean() > 0)


def is_blue(plate: np.ndarray) -> bool:
    """Whether a picture of a plate alone is that of a blue one."""
    blue, green, red = plate.mean(axis=(0, 1))
    return bool(blue > 1.2 * max(red, 0.75 * green))  # some green ones are bluish


def _is_coloured(plate: np.ndarray) -> bool:
    """Whether a plate that is not blue is yellow or green, not white or black."""
    blue, green, red = plate.mean(axis=(0, 1))
    return bool(max(green, red) > 1.2 * blue)
