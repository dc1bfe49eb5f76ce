"""Windows around and beside a plate: how they are drawn, and which are positives, parts and negatives.

A window's offsets lead from it to the plate's box (platekit.boxes.encode_offsets). Windows have the aspects of the
pyramid, jittered: a square has no chance of overlapping a plate of 3:1 by 0.65.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from MTCNN.pyramid import ASPECTS, MINI_LP
from platekit.boxes import box_iou, common_area

POSITIVE, PART = 0.65, 0.4  # an IoU above POSITIVE is a positive, one from PART to POSITIVE a part
NEGATIVE = 0.3  # an IoU below is a negative; what lies between it and PART is not used
LABELS = {"positive": 1, "part": -1, "negative": 0}
SAMPLE_KINDS = tuple(LABELS)
LEAST_WINDOW = 4  # pixels of a window's side
ANYWHERE = 4  # negatives of a view that no net has chosen, among ONet's


@dataclass(frozen=True)
class Counts:
    """Samples to take from one view of a photo, at most."""

    positive: int
    part: int
    near: int  # negatives that touch the plate
    far: int  # negatives anywhere

    @property
    def total(self) -> int:
        return self.positive + self.part + self.near + self.far


def overlaps(windows: np.ndarray, box: np.ndarray | None) -> np.ndarray:
    """The IoU (N,) of each window (N, 4) with a box (4,); 0 when there is none."""
    return np.zeros(len(windows)) if box is None else box_iou(windows, box[None].astype(windows.dtype))[:, 0]


def touching(windows: np.ndarray, zones: np.ndarray) -> np.ndarray:
    """Mask (N,) of the windows that have any part of a zone (K, 4) in common."""
    return np.any(common_area(windows, zones) > 0, axis=1)


def kinds_of(iou: np.ndarray) -> dict[str, np.ndarray]:
    """Masks (N,) of positives, parts and negatives among windows of these overlaps with the truth."""
    return {"positive": iou > POSITIVE, "part": (iou >= PART) & (iou <= POSITIVE), "negative": iou < NEGATIVE}


def windows_around(box: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Windows (count, 4) about a box: half of them close to it in place, size and aspect, half from a wide range."""
    size = box[2:] - box[:2]
    centre = (box[:2] + box[2:]) / 2
    nearest = np.argsort(np.abs(np.log(np.array(ASPECTS) * size[1] / size[0])))[:2]
    close = rng.random(count) < 0.5
    aspect = np.where(close, np.array(ASPECTS)[rng.choice(nearest, count)], rng.choice(ASPECTS, count))
    aspect = aspect * np.exp(rng.uniform(-0.12, 0.12, count))
    area = size.prod() * np.exp(np.where(close, rng.uniform(-0.4, 0.4, count), rng.uniform(-2.0, 1.6, count)))
    half = np.stack([np.sqrt(area * aspect), np.sqrt(area / aspect)], axis=1) / 2
    reach = np.where(close[:, None], 0.15 * size, size / 2 + half)  # the wide half touches the box at most
    centres = centre + rng.uniform(-1, 1, (count, 2)) * reach
    return np.concatenate([centres - half, centres + half], axis=1)


def windows_anywhere(height: int, width: int, count: int, rng: np.random.Generator) -> np.ndarray:
    """Windows (count, 4) of all sizes from the width of ``MINI_LP`` up, inside a picture of ``height`` x ``width``."""
    aspect = rng.choice(ASPECTS, count) * np.exp(rng.uniform(-0.12, 0.12, count))
    largest = np.minimum(width, height * aspect) * 0.98
    window = np.minimum(largest, MINI_LP[0] * 12 ** (rng.random(count) ** 1.6))  # large ones are costly to cut
    size = np.stack([window, window / aspect], axis=1)
    low = rng.random((count, 2)) * (np.array([width, height]) - size)
    return np.concatenate([low, low + size], axis=1)


def jitter(box: np.ndarray, count: int, rng: np.random.Generator, spread: float = 0.1) -> np.ndarray:
    """Windows (count, 4): the box with every edge moved by a normal error, of a standard deviation up to ``spread`` of
    its size."""
    size = np.tile(box[2:] - box[:2], 2)
    strength = rng.uniform(0.1, 1.0, (count, 1)) * spread
    moved = box + rng.normal(size=(count, 4)) * strength * size
    return np.concatenate([np.minimum(moved[:, :2], moved[:, 2:] - LEAST_WINDOW), moved[:, 2:]], axis=1)


def move_edge(box: np.ndarray, count: int, rng: np.random.Generator, reach: float = 0.3) -> np.ndarray:
    """Windows (count, 4): the box, slightly jittered, with one edge, mostly an end's, up to ``reach`` of its size off.

    Half of them cut something off, half go beyond: where a plate ends must be seen, it doesn't follow from the crop.
    """
    windows = jitter(box, count, rng, spread=0.04)
    edge = rng.choice(4, count, p=(0.4, 0.1, 0.4, 0.1))
    windows[np.arange(count), edge] += rng.uniform(-reach, reach, count) * (box[2:] - box[:2])[edge % 2]
    return windows


def choose(windows: np.ndarray, mask: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most ``count`` of the windows under the mask, at random and none twice."""
    rows = np.flatnonzero(mask)
    return windows[rng.permutation(rows)[:count]]


def draw_windows(height: int, width: int, box: np.ndarray | None, zones: np.ndarray, counts: Counts,
                 rng: np.random.Generator) -> dict[str, np.ndarray]:
    """PNet's windows of one view: kind -> (N, 4). ``box`` is the plate's; negatives don't touch the ``zones``."""
    chosen = {kind: np.zeros((0, 4)) for kind in SAMPLE_KINDS}
    count = counts.far + (counts.near if box is None else 0)
    far = windows_anywhere(height, width, 3 * count + 8, rng)
    free = ~touching(far, zones)
    if box is None:
        chosen["negative"] = choose(far, free, count, rng)
        return chosen
    around = windows_around(box, 24 * max(1, counts.positive + counts.part), rng)
    # as PNet sees them: what lies beyond the edge would tell them apart
    around = around[((around[:, :2] >= 0) & (around[:, 2:] <= (width, height))).all(axis=1)]
    kinds = kinds_of(overlaps(around, box))
    for kind, count in (("positive", counts.positive), ("part", counts.part)):
        chosen[kind] = choose(around, kinds[kind], count, rng)
    near = choose(around, kinds["negative"] & ~touching(around, zones), counts.near, rng)
    far = choose(far, free & (overlaps(far, box) < NEGATIVE), counts.far, rng)
    chosen["negative"] = np.concatenate([near, far])
    return chosen
