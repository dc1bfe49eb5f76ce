"""The image pyramid PNet runs over: its levels, their pixels, and the window that belongs to each output cell.

PNet sees windows of 47x12 pixels. A level scales the picture independently in x and y, so that this window covers a
region of any size and aspect: the boxes of tilted and rotated plates have a median aspect (width / height) of 1.2, and
no window of 47:12 could overlap such a box by more than a third.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from MTCNN.model.MTCNN_nets import PNET_SIZE, PNET_STRIDE

# Width / height of the windows. Four aspects (47/12, 2.3, 1.35, 0.8) found no plate more, for 28 % more multiply-adds.
ASPECTS = (3.3, 1.8, 1.0)
MINI_LP = (50, 15)  # width, height in pixels of the smallest plate to find
SCALE = 0.65  # from one level to the next
FIRST_WINDOW = 1.15  # the first window over the smallest plate: a window somewhat larger than a plate finds it too


@dataclasses.dataclass(frozen=True)
class Level:
    """A level of ``width`` x ``height`` pixels, made from level ``source`` (-1: from the picture itself)."""

    width: int
    height: int
    source: int


def plan_levels(height: int, width: int, mini_lp: tuple[float, float] = MINI_LP, scale: float = SCALE,
                aspects: Sequence[float] = ASPECTS) -> list[Level]:
    """The levels for a picture of ``height`` x ``width`` pixels, the finest first.

    The first window is ``FIRST_WINDOW`` times as large as ``mini_lp`` (width, height); windows grow by 1 / ``scale``
    until they exceed the picture. The last of each aspect is as large as the picture allows. No level when the
    picture is smaller than the first window. Raises ValueError for sizes that are not positive or a scale outside
    (0, 1).
    """
    if not 0 < scale < 1:
        raise ValueError(f"the pyramid's scale must lie between 0 and 1, not {scale}")
    if min(mini_lp) <= 0 or min(aspects) <= 0:
        raise ValueError(f"the smallest plate {mini_lp} and the aspects {tuple(aspects)} must be positive")
    sizes = set()
    for aspect in aspects:
        largest = min(width, height * aspect)
        # as wide as the smallest plate and of its area: the box of that plate tilted is about as wide, and higher
        window = first = FIRST_WINDOW * max(mini_lp[0], math.sqrt(mini_lp[0] * mini_lp[1] * aspect))
        last = 0.0
        while window <= largest:
            sizes.add(_level_size(height, width, window, aspect))
            last, window = window, window / scale
        if largest >= first and largest > 1.1 * last:  # plates that fill the picture
            sizes.add(_level_size(height, width, largest, aspect))
    ordered = sorted(sizes, key=lambda size: (-size[0] * size[1], size))
    levels: list[Level] = []
    for level_width, level_height in ordered:
        sources = [index for index, level in enumerate(levels)
                   if level.width >= level_width and level.height >= level_height]
        # the smallest level that holds all the detail: the later in the list, the smaller
        levels.append(Level(level_width, level_height, sources[-1] if sources else -1))
    return levels


def _level_size(height: int, width: int, window: float, aspect: float) -> tuple[int, int]:
    """Width and height of the level on which a window of ``window`` x ``window / aspect`` pixels becomes 47x12."""
    return (max(PNET_SIZE[1], round(width * PNET_SIZE[1] / window)),
            max(PNET_SIZE[0], round(height * PNET_SIZE[0] * aspect / window)))


def resize(pixels: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Pixels (1, 3, H, W), uint8 or float, resized with an antialiasing filter; uint8 stays uint8 on the CPU."""
    if pixels.shape[2:] == (height, width):
        return pixels
    if pixels.device.type != "cpu":
        pixels = pixels.float()  # the integer kernel exists for the CPU alone
    return F.interpolate(pixels, size=(height, width), mode="bilinear", antialias=True, align_corners=False)


def make_levels(picture: torch.Tensor, levels: Sequence[Level]) -> list[torch.Tensor]:
    """The pixels of every level, each (1, 3, h, w), from the picture (1, 3, H, W)."""
    made: list[torch.Tensor] = []
    for level in levels:
        made.append(resize(picture if level.source < 0 else made[level.source], level.height, level.width))
    return made


def output_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of PNet's output for an input of ``height`` x ``width`` pixels."""
    return math.ceil((height - 2) / PNET_STRIDE[0]) - 4, math.ceil((width - 2) / PNET_STRIDE[1]) - 8


def windows(rows: torch.Tensor, columns: torch.Tensor, level: Level, height: int, width: int) -> torch.Tensor:
    """Boxes (N, 4), in pixels of the picture, of the windows behind PNet's output cells (rows, columns) on ``level``.

    ``height`` and ``width`` are the picture's. A cell's window is 47 pixels wide and 12 high on the level.
    """
    x1, y1 = columns.float() * PNET_STRIDE[1], rows.float() * PNET_STRIDE[0]
    boxes = torch.stack([x1, y1, x1 + PNET_SIZE[1], y1 + PNET_SIZE[0]], dim=1)
    return boxes * boxes.new_tensor([width / level.width, height / level.height]).repeat(2)
