"""How plates lie in CCPD photos: statistics of the published annotations, and a sampler that follows them.

The plates of the 2019 annotations are parallelograms, so eight numbers describe a plate and its light: the logarithms
of the box's width and aspect, its centre, brightness, the logarithm of blurriness, and two shears,

    slope  how far the top edge falls from left to right, as a share of the box's height, -1..1
    lean   how far the left edge runs to the right from top to bottom, as a share of the box's width, -1..1

Each subset is modelled per sign of the two shears (a plate turned left is no small step from one turned right) by a
Gaussian copula: a quantile table for each number, and the correlation of their normal scores. No annotation is kept.
``ccpd/fit_geometry.py`` fits the tables.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ccpd.dataset import PHOTO_SIZE
from ccpd.textures import pick_by_share
from platekit.corners import bounding_box, is_convex
from platekit.errors import UserError

TABLES = Path(__file__).with_name("geometry.json")
VARIABLES = ("log_width", "log_aspect", "centre_x", "centre_y", "brightness", "log_blurriness", "slope", "lean")
LEVELS = (-2.6, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.6)  # normal scores at which quantiles are kept
SMALLEST_WIDTH = 40.0  # pixels

# Subsets without published statistics, as mixtures of those with.
MIXTURES: dict[str, dict[str, float]] = {
    "ccpd_challenge": {"ccpd_base": 0.35, "ccpd_fn": 0.2, "ccpd_blur": 0.2, "ccpd_tilt": 0.15, "ccpd_rotate": 0.1},
    "ccpd_weather": {"ccpd_base": 0.8, "ccpd_fn": 0.2},
    "ccpd_green": {"ccpd_base": 0.7, "ccpd_fn": 0.15, "ccpd_tilt": 0.15},
    "ccpd_np": {"ccpd_base": 1.0},
}
# Real corners stray from a parallelogram, by perspective and bent metal: standard deviation as a share of the box.
STRAY = 0.012


@dataclass(frozen=True)
class Pose:
    """Where a plate lies in a photo of 720 x 1160, and how the photo looks."""

    corners: np.ndarray  # (4, 2) float64 pixels: right-bottom, left-bottom, left-top, right-top of the plate
    brightness: float  # 0..255, the mean of the plate's region
    blurriness: float  # CCPD's measure: the higher, the sharper

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The corners' bounding box (x1, y1, x2, y2) in pixels."""
        return tuple(bounding_box(self.corners).tolist())


def shear_corners(slope: float, lean: float) -> np.ndarray:
    """Corners (4, 2) of the parallelogram with these shears in the unit box, in CCPD's order; it touches all sides."""
    wide, high = 1.0 - abs(lean), 1.0 - abs(slope)
    left_top = np.array([max(0.0, -lean), max(0.0, -slope)])
    across, down = np.array([wide, slope]), np.array([lean, high])
    return np.stack((left_top + across + down, left_top + down, left_top, left_top + across))


@functools.cache
def _components(subset: str) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Cumulated weights, and per component the Cholesky factor (8, 8) and the quantiles (8, 11)."""
    tables = read_tables(TABLES)
    if subset not in tables:
        raise UserError(f"there is no geometry of '{subset}'; use one of {', '.join(sorted({*tables, *MIXTURES}))}")
    parts = tables[subset]
    weights = np.cumsum([part["weight"] for part in parts])
    models = []
    for part in parts:
        matrix = np.eye(len(VARIABLES))
        matrix[np.tril_indices(len(VARIABLES), -1)] = part["correlation"]
        matrix = np.tril(matrix) + np.tril(matrix, -1).T + 1e-3 * np.eye(len(VARIABLES))
        models.append((np.linalg.cholesky(matrix), np.array([part["quantiles"][name] for name in VARIABLES])))
    return weights / weights[-1], models


@functools.cache
def read_tables(path: Path) -> dict[str, list[dict]]:
    """The fitted components of every subset. Raises UserError."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}); restore it with 'git checkout', or delete it") from None


def _sample(subset: str, rng: np.random.Generator) -> np.ndarray:
    """The eight variables (8,) of one plate."""
    if subset in MIXTURES:
        subset = pick_by_share(rng, MIXTURES[subset])
    weights, models = _components(subset)
    factor, quantiles = models[np.searchsorted(weights, rng.random(), side="right")]
    scores = factor @ rng.standard_normal(len(VARIABLES))
    return np.array([np.interp(score, LEVELS, table) for score, table in zip(scores, quantiles)])


def _quadrilateral(slope: float, lean: float, rng: np.random.Generator) -> np.ndarray:
    """Corners (4, 2) in the unit box: the parallelogram, strayed a little, touching all four sides, always convex."""
    if slope * lean > 0:  # with equal signs the parallelogram degenerates where the shears sum to 1
        shrink = min(1.0, 0.85 / (abs(slope) + abs(lean)))
        slope, lean = slope * shrink, lean * shrink
    exact = shear_corners(slope, lean)
    strayed = exact + rng.normal(0.0, STRAY, (4, 2))
    low, high = strayed.min(axis=0), strayed.max(axis=0)
    strayed = (strayed - low) / (high - low)
    return strayed if is_convex(strayed) else exact


def relative_corners(subset: str, rng: np.random.Generator) -> np.ndarray:
    """Plate corners (4, 2) relative to their bounding box, in [0, 1], as they occur in a subset; CCPD's order.

    The quadrilateral is convex and touches all four sides of the unit box. ``subset`` is a CCPD folder name such as
    ``ccpd_tilt``; UserError for another one.
    """
    slope, lean = _sample(subset, rng)[-2:]
    return _quadrilateral(slope, lean, rng)


def sample_pose(subset: str, rng: np.random.Generator) -> Pose:
    """A plate's pose as it occurs in a subset, inside the 720 x 1160 photo. UserError for an unknown subset."""
    values = dict(zip(VARIABLES, _sample(subset, rng)))
    limit = np.array(PHOTO_SIZE, float) - 4.0
    width = np.clip(np.exp(values["log_width"]), SMALLEST_WIDTH, limit[0])
    size = np.array([width, np.clip(width / np.exp(values["log_aspect"]), 12.0, limit[1])])
    centre = np.array([values["centre_x"], values["centre_y"]])
    left_top = np.clip(centre - size / 2, 2.0, limit + 2.0 - size)
    corners = left_top + size * _quadrilateral(values["slope"], values["lean"], rng)
    return Pose(corners, float(np.clip(values["brightness"], 0, 255)), float(np.expm1(values["log_blurriness"])))
