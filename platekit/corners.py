"""The four corners of a plate, in pixels: arrays (4, 2).

CCPD's order, in which they are everywhere but in tables and in results: right-bottom, left-bottom, left-top, right-top
of the plate. Tables and results begin with the upper left one; ``FROM_UPPER_LEFT`` turns one order into the other.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

FROM_UPPER_LEFT = [2, 3, 0, 1]  # indices


def bounding_box(points: np.ndarray) -> np.ndarray:
    """The box (x1, y1, x2, y2) around points (N, 2): float64 (4,)."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float64)


def box_corners(box: np.ndarray | tuple[float, ...]) -> np.ndarray:
    """The corners (4, 2) of a box, in CCPD's order."""
    x1, y1, x2, y2 = box
    return np.array([(x2, y2), (x1, y2), (x1, y1), (x2, y1)], dtype=np.float64)


def share_of_box(corners: np.ndarray) -> float:
    """The share (0..1) of the box round a quadrilateral (4, 2) that it fills."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    (x, y), (next_x, next_y) = corners.T, np.roll(corners, -1, axis=0).T
    return float(abs((x * next_y - next_x * y).sum()) / 2 / np.prod(high - low))


def edges(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of a quadrilateral (4, 2) in CCPD's order the mean edge from left to right (2,), and from top to bottom (2,)."""
    right_bottom, left_bottom, left_top, right_top = corners
    across, down = right_top - left_top + right_bottom - left_bottom, left_bottom - left_top + right_bottom - right_top
    return across / 2, down / 2


def is_convex(corners: np.ndarray) -> bool:
    """Whether corners (4, 2), clockwise, make a convex plate that faces the camera, no corner nearly straight."""
    sides = np.roll(corners, -1, axis=0) - corners
    following = np.roll(sides, -1, axis=0)
    cross = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    return bool((cross > 1e-3 * np.linalg.norm(sides, axis=1) * np.linalg.norm(following, axis=1)).all())


def is_upright(corners: np.ndarray) -> bool:
    """Whether corners (4, 2), in CCPD's order, make a plate that faces the camera and reads from left to right."""
    return is_convex(corners) and bool(edges(corners)[0][0] > 0)


def repeat_box(corners: np.typing.ArrayLike, box: Iterable[float]) -> bool:
    """Whether a plate's corners (4, 2), in CCPD's order, merely repeat those of its box, within two pixels: such say
    nothing of its pose."""
    return bool((np.abs(np.asarray(corners) - box_corners(tuple(box))) <= 2).all())
