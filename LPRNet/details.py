"""What is told of a plate beside its text, if asked for: its background colour, and where its corners are.

In China text and colour together name a vehicle: plates of two colours may have the same text. The two networks do not
tell the colour; a small perceptron does, from the crop that the spatial transformer straightened.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ccpd.symbols import PROVINCES
from LPRNet.model.STN import plate_corners
from LPRNet.paths import COLOUR_WEIGHTS
from LPRNet.recogniser import LOOKS, Recogniser, transforms
from platekit.checkpoints import load_weights
from platekit.corners import FROM_UPPER_LEFT
from platekit.crops import sample_boxes
from platekit.devices import without_autocast
from platekit.results import Details

COLOURS = ("blue", "yellow", "white", "black", "green")
AREAS = (6, 12)  # one below another and side by side, of which the mean colours are looked at
HIDDEN = 32
UNLIKELY = 0.003  # that the text has another number of symbols than the colour says


class ColourNet(nn.Sequential):
    """Straightened crops (N, 3, 24, 94) as ``normalise`` makes them -> logits (N, 5) of ``COLOURS``."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(3 * AREAS[0] * AREAS[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, len(COLOURS)))

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return self.of_means(mean_colours(crops))

    def of_means(self, colours: torch.Tensor) -> torch.Tensor:
        """Logits (N, 5) of what ``mean_colours`` gives."""
        return super().forward(colours.flatten(1))


def mean_colours(crops: torch.Tensor) -> torch.Tensor:
    """The mean of each area (N, 3, *AREAS); the edge of the crops, where a plate may not reach, is left out."""
    return functional.adaptive_avg_pool2d(crops[..., 2:-2, 3:-3], AREAS)


def length_likelihoods(text: str) -> list[float]:
    """How likely a plate of each colour has a text of this length: of those with a province, green ones have eight."""
    eight = len(text) == 8 and text[0] in PROVINCES
    return [1.0 if not text or (colour == "green") == eight else UNLIKELY for colour in COLOURS]


class DetailReader:
    """Tells the details of the plates that a recogniser reads."""

    def __init__(self, recogniser: Recogniser, path: str | os.PathLike = COLOUR_WEIGHTS) -> None:
        """``path`` names the weights of ``ColourNet``. Raises UserError when they are missing or do not fit."""
        self.recogniser, self.device, self.net = recogniser, recogniser.device, ColourNet().float()
        load_weights(self.net, path)
        self.net.eval().to(self.device)

    @without_autocast
    @torch.inference_mode()
    def __call__(self, pixels: torch.Tensor, boxes: np.ndarray, texts: Sequence[str]) -> list[Details]:
        """The details of the plates in ``boxes`` (N, 4) of a picture (1, 3, H, W), which were read as ``texts``."""
        details, size = [], self.recogniser.batch_size
        for start in range(0, len(boxes), size):
            details += self._details(pixels, boxes[start:start + size], texts[start:start + size])
        return details

    def _details(self, pixels: torch.Tensor, boxes: np.ndarray, texts: Sequence[str]) -> list[Details]:
        theta = transforms(self.recogniser.reader.stn, pixels, boxes, LOOKS)
        likely = self.net(sample_boxes(pixels, boxes, theta)).softmax(dim=1).cpu()
        if self.recogniser.alphabet.chinese:  # other plates have other lengths
            likely *= likely.new_tensor(list(map(length_likelihoods, texts)))  # the default device may be another
        sure, best = (likely / likely.sum(dim=1, keepdim=True)).max(dim=1)
        shares = plate_corners(theta, (1, 1)).cpu().numpy()[:, FROM_UPPER_LEFT]  # of the box, from the upper left one
        corners = boxes[:, None, :2] + shares * (boxes[:, None, 2:] - boxes[:, None, :2])
        return [Details(COLOURS[index], probability, tuple(map(tuple, four)))
                for index, probability, four in zip(best.tolist(), sure.tolist(), corners.tolist())]
