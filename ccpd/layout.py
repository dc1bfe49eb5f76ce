"""Where things are in a scene: the plate's plane, and the camera over the pavement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ccpd.cars import CarShape
from ccpd.dataset import PHOTO_SIZE
from ccpd.geometry import Pose
from ccpd.plate_kinds import KINDS, PlateKind
from platekit.corners import edges
from platekit.opencv import cv2

WIDTH, HEIGHT = PHOTO_SIZE
FOCAL = 1000.0  # pixels: the usual lens of a telephone at this picture size


@dataclass(frozen=True)
class Layout:
    """Where things are in the picture: the plate's plane, and the camera over the pavement."""

    plane: np.ndarray  # (2, 3): millimetres on the car's face to pixels
    distance: float  # of the plate, mm
    pitch: float  # how far the camera looks down, radians
    roll: float  # how far the picture is turned clockwise, radians
    camera_height: float  # mm

    @property
    def pixels_per_mm(self) -> float:
        """Scale at the plate."""
        return float(np.linalg.norm(self.plane[:, 0]))

    def turn(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the upright picture to the picture turned by ``roll`` about its centre."""
        c, s = np.cos(self.roll), np.sin(self.roll)
        centre = np.array([WIDTH / 2, HEIGHT / 2])
        return (np.asarray(points, float) - centre) @ np.array([[c, s], [-s, c]]) + centre

    def row_at(self, ahead: float) -> float:
        """The row of the upright picture where pavement ``ahead`` mm from the camera appears."""
        return HEIGHT / 2 + FOCAL * np.tan(np.arctan2(self.camera_height, ahead) - self.pitch)


def layout_of(pose: Pose, kind: PlateKind, shape: CarShape, rng: np.random.Generator) -> Layout:
    """Where a camera stood that sees this plate in this pose; its height is drawn at random."""
    across, down = edges(pose.corners)
    across, down = across / kind.width_mm, down / kind.height_mm
    centre = pose.corners.mean(axis=0)
    distance = FOCAL / float(np.linalg.norm(across))
    camera_height = rng.uniform(1250, 1650)
    drop = camera_height - shape.road
    look = np.arctan2(drop, np.sqrt(max(distance**2 - drop**2, (0.7 * distance) ** 2)))
    roll = 0.7 * np.arctan2(-down[0], down[1]) + 0.3 * np.arctan2(across[1], across[0])
    upright = (centre - (WIDTH / 2, HEIGHT / 2)) @ np.array([-np.sin(roll), np.cos(roll)])
    pitch = float(look - np.arctan2(upright, FOCAL))
    return Layout(np.column_stack((across, down, centre)), distance, pitch, float(roll), camera_height)


def corners_of_kind(vertices: np.ndarray, kind: PlateKind) -> np.ndarray:
    """The corners (4, 2) of a plate of ``kind`` in the place of an ordinary one that has corners ``vertices``.

    A narrower one is seen from nearer, as wide as the ordinary one.
    """
    return _corners_in_place(vertices, KINDS["blue"].size_mm, np.multiply(kind.size_mm, _nearer(kind.width_mm)))


def corners_of_ordinary(vertices: np.ndarray, size: Sequence[float]) -> np.ndarray:
    """The corners (4, 2) of the ordinary plate in whose place one of this ``size`` (width, height in mm) has corners
    ``vertices``: the inverse of ``corners_of_kind``."""
    return _corners_in_place(vertices, np.multiply(size, _nearer(size[0])), KINDS["blue"].size_mm)


def _nearer(width: float) -> float:
    """By how much nearer a plate of this width (mm) is seen than an ordinary one in its place."""
    return max(1.0, KINDS["blue"].width_mm / width)


def _corners_in_place(vertices: np.ndarray, size: ArrayLike, other: ArrayLike) -> np.ndarray:
    """The corners (4, 2) of a plate of size ``other`` (width, height) about the middle of one of ``size`` at
    ``vertices``, and in its plane."""
    unit = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)], np.float32)
    matrix = cv2.getPerspectiveTransform(unit * np.asarray(size, np.float32), vertices.astype(np.float32))
    return cv2.perspectiveTransform((unit * np.asarray(other, np.float32))[None], matrix)[0].astype(np.float64)


def enlarge(corners: np.ndarray, factor: float) -> np.ndarray:
    """Corners (N, 2) moved away from their mean by ``factor``."""
    centre = corners.mean(axis=0)
    return centre + (corners - centre) * factor


def draw_mask(points: np.ndarray, shrink: int = 4) -> np.ndarray:
    """A polygon in picture coordinates as a smaller float mask 0..1."""
    mask = np.zeros((HEIGHT // shrink, WIDTH // shrink), np.float32)
    cv2.fillPoly(mask, [np.round(np.asarray(points) * (16.0 / shrink)).astype(np.int32)], 1.0, cv2.LINE_8, 4)
    return mask
