"""Box arithmetic.

A box is ``(x1, y1, x2, y2)`` in pixels of the picture, float, x2 and y2 exclusive edges, so that the width is
``x2 - x1`` and the whole picture is ``(0, 0, W, H)``. Batches are arrays (N, 4), on the processor whatever the nets
compute on: choosing among a few boxes elsewhere would wait for the device at every step.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from platekit.compiled import compiled
from platekit.errors import UserError

LEAST_SIDE = 2  # pixels of a box: nothing can be read or found in less
EDGE_SLACK = 2  # pixels by which people draw boxes beyond the picture's edge

Boxes = TypeVar("Boxes", np.ndarray, torch.Tensor)  # training computes offsets of tensors


def checked_boxes(boxes: np.typing.ArrayLike) -> np.ndarray:
    """Boxes (N, 4) as float32. Raises ValueError where one is not finite or has no area."""
    boxes = np.asarray(boxes, np.float32)
    if not boxes.size:
        return boxes.reshape(0, 4)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes of (N, 4) are needed, not of {boxes.shape}")
    if not (np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
        raise ValueError(f"finite boxes with x1 < x2 and y1 < y2 are needed, not {boxes.tolist()}")
    return boxes


def encode_offsets(boxes: Boxes, anchors: Boxes) -> Boxes:
    """Offsets (N, 4) of ``boxes`` from ``anchors``, arrays or tensors: corner differences over the anchor's width and
    height."""
    size = anchors[:, None, 2:] - anchors[:, None, :2]
    return ((boxes - anchors).reshape(-1, 2, 2) / size).reshape(-1, 4)


def decode_offsets(offsets: Boxes, anchors: Boxes) -> Boxes:
    """Boxes (N, 4) from offsets, arrays or tensors: the inverse of ``encode_offsets``."""
    size = anchors[:, None, 2:] - anchors[:, None, :2]
    return anchors + (offsets.reshape(-1, 2, 2) * size).reshape(-1, 4)


def clip_boxes(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Boxes (N, 4) cut to the picture, a new array; one that lies outside has no area left."""
    return np.clip(boxes, 0, np.array([width, height, width, height], boxes.dtype))


def at_least(boxes: np.ndarray, smallest: float) -> np.ndarray:
    """Which boxes (N, 4) have sides of ``smallest`` pixels or more: (N,)."""
    return ((boxes[:, 2:] - boxes[:, :2]) >= smallest).all(axis=1)


def reach_outside(boxes: np.ndarray, height: int, width: int) -> bool:
    """Whether any of the boxes (N, 4) ends so far beyond the picture that it belongs to another, or a larger one."""
    return bool((boxes[:, 2:] > np.add((width, height), EDGE_SLACK)).any())


def check_inside(path: Path, boxes: np.ndarray, height: int, width: int) -> None:
    """Raises UserError where ``reach_outside`` says so of the photo's boxes."""
    if reach_outside(boxes, height, width):
        raise UserError(f"{path}: its box lies outside the picture; was it made smaller?")


def box_area(boxes: np.ndarray) -> np.ndarray:
    """The areas (N,) of boxes (N, 4)."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def common_area(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What every one of ``boxes`` (N, 4) shares with every one of ``others`` (M, 4), in square pixels: (N, M)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return (high - low).clip(min=0).prod(axis=2)


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of every one of ``boxes`` (N, 4) with every one of ``others`` (M, 4): (N, M)."""
    common = common_area(boxes, others)
    return common / (box_area(boxes)[:, None] + box_area(others)[None] - common)


def suppress(boxes: np.ndarray, scores: np.ndarray, overlap: float, limit: int | None = None) -> np.ndarray:
    """Indices of the best of ``boxes`` (N, 4) by ``scores`` (N,), best first, that overlap no better one: (K,) int64.

    Two boxes whose IoU is above ``overlap`` are one. It ends at ``limit`` boxes.
    """
    order = np.argsort(-scores, kind="stable")
    return order[_suppress(boxes[order].astype(np.float32), overlap, len(order) if limit is None else limit)]


@compiled
def _suppress(boxes: np.ndarray, overlap: float, limit: int) -> np.ndarray:
    """Indices of the boxes (N, 4), best first, that stay."""
    kept = np.empty(min(limit, len(boxes)), np.int64)
    count = 0
    for index in range(len(boxes)):
        if count == len(kept):
            break
        x1, y1, x2, y2 = boxes[index]
        alone = True
        for other in kept[:count]:
            left, top, right, bottom = boxes[other]
            common = max(min(x2, right) - max(x1, left), 0) * max(min(y2, bottom) - max(y1, top), 0)
            if common > overlap * ((x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - common):
                alone = False
                break
        if alone:
            kept[count] = index
            count += 1
    return kept[:count]
