"""The image pyramid PNet runs over: its levels, their pixels, and the window that belongs to each output cell.

PNet sees windows of 47x12 pixels. A level scales the picture independently in x and y, so that this window covers a
region of any size and aspect: the boxes of tilted and rotated plates have a median aspect (width / height) of 1.2, and
no window of 47:12 could overlap such a box by an IoU of more than 0.39.

PNet gets the levels on sheets: a large one has its own, the many small ones share one, which spares most of the calls.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.nn import functional

from MTCNN.model.MTCNN_nets import PNET_SIZE, PNET_STRIDE
from platekit.compiled import compiled, in_threads
from platekit.errors import UserError
from platekit.opencv import cv2

# Width / height of the windows. Four aspects (47/12, 2.3, 1.35, 0.8) found no plate more, for 28 % more multiply-adds.
ASPECTS = (3.3, 1.8, 1.0)
MINI_LP = (50.0, 15.0)  # width, height in pixels of the smallest plate to find
SMALLEST = 3  # pixels of a side of the smallest plate that can be asked for: levels are 14 times as wide then
SCALE = 0.65  # from one level to the next
FIRST_WINDOW = 1.15  # the first window over the smallest plate: a window somewhat larger than a plate finds it too
MOST_PIXELS = 512_000_000  # of a level: four times those of the largest picture
OWN_SHEET = 150_000  # pixels from which on a level is a sheet of its own, made by two threads


def add_pyramid_arguments(parser: argparse._ActionsContainer) -> None:
    """The flags of what ``plan_levels`` leaves to the user, for a parser or a group of one."""
    parser.add_argument("--mini_lp", nargs=2, type=float, default=MINI_LP, metavar=("W", "H"),
                        help="width and height in pixels of the smallest plate to find")
    parser.add_argument("--scale", type=float, default=SCALE,
                        help="factor between pyramid levels, below 1")


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
    until they exceed the picture. The last of each aspect is as large as the picture allows, unless the one before is
    within a tenth of that or the picture is smaller than the smallest plate. Raises UserError for a plate smaller than
    ``SMALLEST``, a scale outside (0, 1), no aspects, and any that is not positive and finite; and for a level of more
    than ``MOST_PIXELS``.
    """
    return list(_plan_levels(height, width, tuple(mini_lp), scale, tuple(aspects)))


@functools.lru_cache  # many pictures have one size
def _plan_levels(height: int, width: int, mini_lp: tuple[float, ...], scale: float,
                 aspects: tuple[float, ...]) -> list[Level]:
    if not 0 < scale < 1:
        raise UserError(f"the pyramid's scale must lie between 0 and 1, not {scale}; change --scale")
    if not all(SMALLEST <= side < math.inf for side in mini_lp):
        raise UserError(f"the smallest plate must be at least {SMALLEST} x {SMALLEST} pixels large, not {mini_lp}; "
                        "change --mini_lp")
    if not aspects or not all(0 < aspect < math.inf for aspect in aspects):
        raise UserError(f"the aspects must be positive, not {aspects}; change --aspects")
    sizes = set()
    for aspect in aspects:
        largest = min(width, height * aspect)
        # as wide as the smallest plate and of its area: the box of that plate tilted is about as wide, and higher
        window = FIRST_WINDOW * max(mini_lp[0], math.sqrt(mini_lp[0] * mini_lp[1] * aspect))
        last = 0.0
        while window <= largest:
            sizes.add(_level_size(height, width, window, aspect))
            last, window = window, window / scale
        if width >= mini_lp[0] and height >= mini_lp[1] and largest > 1.1 * last:  # plates that fill the picture
            sizes.add(_level_size(height, width, largest, aspect))
    ordered = sorted(sizes, key=lambda size: (-size[0] * size[1], size))
    if ordered and math.prod(ordered[0]) > MOST_PIXELS:
        raise UserError(f"to find plates of {mini_lp[0]:g} x {mini_lp[1]:g} pixels in a picture of {width} x {height} "
                        "takes too much memory; ask for larger ones (--mini_lp)")
    levels: list[Level] = []
    for level_width, level_height in ordered:
        sources = [index for index, level in enumerate(levels)
                   if level.width >= level_width and level.height >= level_height]
        # the smallest level that holds all the detail: the later in the list, the smaller
        levels.append(Level(level_width, level_height, sources[-1] if sources else -1))
    return levels


def _level_size(height: int, width: int, window: float, aspect: float) -> tuple[int, int]:
    """Width and height of the level on which a window of ``window`` x ``window / aspect`` pixels becomes 47x12.

    Rounded to a window and whole strides beyond it: every output cell then sees this level's pixels alone.
    """
    sides = zip(PNET_SIZE[::-1], PNET_STRIDE[::-1], (width, height), (window, window / aspect))
    wide, high = (seen + stride * max(0, round((side * seen / extent - seen) / stride))
                  for seen, stride, side, extent in sides)
    return wide, high


def resize(pixels: torch.Tensor, height: int, width: int, target: torch.Tensor | None = None) -> torch.Tensor:
    """uint8 pixels (1, 3, H, W) resized bilinearly: into the ``target``, or a new tensor, channels last in memory."""
    if target is None:
        target = pixels.new_empty(1, height, width, 3).permute(0, 3, 1, 2)
    if pixels.device.type == "cpu":  # where OpenCV's function takes a third of the time of torch's
        source, resized = (part[0].permute(1, 2, 0).numpy() for part in (pixels, target))
        # No pixel of one half depends on the other half where a level is smaller than its source and both are even.
        if height * width >= OWN_SHEET and height <= len(source) and height % 2 == len(source) % 2 == 0:
            in_threads(_resize_halves, 2, 1, source, resized)
        else:
            cv2.resize(source, (width, height), dst=resized, interpolation=cv2.INTER_LINEAR)
    else:
        target[:] = functional.interpolate(pixels.float(), size=(height, width), mode="bilinear").round_()
    return target


def _resize_halves(source: np.ndarray, resized: np.ndarray, first: int, last: int) -> None:
    for half in range(first, last):
        seen, part = (lines[half * len(lines) // 2:(half + 1) * len(lines) // 2] for lines in (source, resized))
        cv2.resize(seen, part.shape[1::-1], dst=part, interpolation=cv2.INTER_LINEAR)


@dataclasses.dataclass(frozen=True)
class Sheet:
    """``pixels`` (1, 3, h, w), and what is where in them: levels, and the (x, y) of their top left pixels."""

    pixels: torch.Tensor
    levels: tuple[Level, ...]
    origins: tuple[tuple[int, int], ...]

    def windows(self, rows: np.ndarray, columns: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """The windows behind PNet's output cells (rows, columns): boxes (N, 4), in pixels of the picture.

        ``height`` and ``width`` are the picture's. Also the mask (N,) of those that lie wholly within a level.
        """
        boxes, inside = np.zeros((len(rows), 4), np.float32), np.zeros(len(rows), np.bool_)
        levels = np.array([(*origin, level.width, level.height) for origin, level in zip(self.origins, self.levels)])
        _windows(rows, columns, levels, height, width, boxes, inside)
        return boxes, inside


@compiled
def _windows(rows: np.ndarray, columns: np.ndarray, levels: np.ndarray, height: int, width: int, boxes: np.ndarray,
             inside: np.ndarray) -> None:
    """``Sheet.windows`` of levels (x, y, width, height)."""
    for cell in range(len(rows)):
        x, y = PNET_STRIDE[1] * columns[cell], PNET_STRIDE[0] * rows[cell]
        for left, top, wide, high in levels:
            low, upper = x - left, y - top
            if low >= 0 and upper >= 0 and low + PNET_SIZE[1] <= wide and upper + PNET_SIZE[0] <= high:
                across, down = np.float32(width) / np.float32(wide), np.float32(height) / np.float32(high)
                boxes[cell, 0], boxes[cell, 2] = low * across, (low + PNET_SIZE[1]) * across
                boxes[cell, 1], boxes[cell, 3] = upper * down, (upper + PNET_SIZE[0]) * down
                inside[cell] = True
                break


def make_sheets(picture: torch.Tensor, levels: Sequence[Level], alone: float = OWN_SHEET) -> Iterator[Sheet]:
    """All levels of the picture (1, 3, H, W) on sheets; those of at least ``alone`` pixels have one each."""
    small = [level for level in levels if level.width * level.height < alone]
    places, (width, height) = arrange([(level.width, level.height) for level in small])
    shared = picture.new_zeros(1, height, width, 3).permute(0, 3, 1, 2)  # channels last, as the picture
    where = dict(zip(small, places))
    last_use = {level.source: index for index, level in enumerate(levels)}
    made = {-1: picture}
    for index, level in enumerate(levels):
        if level in where:
            x, y = where[level]
            target = shared[:, :, y:y + level.height, x:x + level.width]
            made[index] = resize(made[level.source], level.height, level.width, target)
        else:
            made[index] = resize(made[level.source], level.height, level.width)
            yield Sheet(made[index], (level,), ((0, 0),))
        for done in [other for other in made if last_use.get(other, other) <= index]:
            del made[done]  # no level is held longer than needed
    if small:
        yield Sheet(shared, tuple(small), tuple(places))


def arrange(sizes: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Rectangles (width, height) on one sheet, without overlap: the (x, y) of each, and the sheet's (width, height).

    They stand on shelves, the highest first, on the first shelf with room. All x and y are multiples of PNet's strides.
    """
    room = max([math.isqrt(sum(width * height for width, height in sizes)), *(width for width, _ in sizes)])
    shelves: list[list[int]] = []  # top, and where the next one goes
    places, bottom = [(0, 0)] * len(sizes), 0
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index][1]):
        width, height = sizes[index]
        shelf = next((shelf for shelf in shelves if shelf[1] + width <= room), None)
        if shelf is None:
            shelf = [bottom, 0]
            shelves.append(shelf)
            bottom += math.ceil(height / PNET_STRIDE[0]) * PNET_STRIDE[0]
        places[index] = (shelf[1], shelf[0])
        shelf[1] += math.ceil(width / PNET_STRIDE[1]) * PNET_STRIDE[1]
    return places, (room, bottom)


def output_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of PNet's output for an input of ``height`` x ``width`` pixels."""
    # The first convolution takes 2 pixels of each side; those behind the pool take 4 rows and 8 columns.
    return math.ceil((height - 2) / PNET_STRIDE[0]) - 4, math.ceil((width - 2) / PNET_STRIDE[1]) - 8
