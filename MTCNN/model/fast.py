"""PNet for whole pictures, several times faster than layer by layer, with the same answers."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from MTCNN.model.MTCNN_nets import PNET_STRIDE, PNet
from platekit.compiled import compiled, share

CELLS = 40  # beside one another that are computed together
LEAST_ROWS = 16  # of cells for a thread
DOWN, ACROSS = PNET_STRIDE  # pixels of a cell: the pooling's size
LINE = 3 * (ACROSS + 2)  # values of a line of pixels that a cell sees


@compiled
def _first_layer(lines: np.ndarray, weights: np.ndarray, bias: np.ndarray, slopes: np.ndarray, maps: np.ndarray,
                 first: int, last: int) -> None:
    """PNet's first convolution, PReLU and pooling at once, for the cells of the rows from ``first`` to ``last``.

    From the lines (H, 3 W) of a uint8 picture, with weights (C, 3, 9), to ``maps`` (C, h, w). Layer by layer, most of
    the time is that of the memory between them. The processor computes one convolution for a row of cells at a time:
    so the pixels that are at the same place of their cells are brought together first.
    """
    channels, _, columns = maps.shape
    height, width = lines.shape[0], lines.shape[1] // 3
    places = np.zeros((4, LINE, CELLS), np.float32)
    sums = np.zeros((DOWN * ACROSS, CELLS), np.float32)
    pooled = np.zeros(CELLS, np.float32)
    for left in range(0, columns, CELLS):
        count = min(CELLS, columns - left)
        whole = width - 2 - ACROSS * (columns - 1) if left + count == columns else ACROSS  # of the last cell
        for row in range(first, last):
            below = min(DOWN * row + 4, height)  # the lines that are seen
            for line in range(DOWN * row + (2 if row > first else 0), below):  # two are known from the row above
                values = lines[line, 3 * ACROSS * left:]
                full = min(CELLS, (len(values) - LINE) // (3 * ACROSS) + 1)
                for cell in range(full):
                    for place in range(LINE):
                        places[line % 4, place, cell] = values[3 * ACROSS * cell + place]
                for cell in range(full, count):
                    for place in range(len(values) - 3 * ACROSS * cell):
                        places[line % 4, place, cell] = values[3 * ACROSS * cell + place]
            for channel in range(channels):
                for down in range(DOWN):
                    top = min(DOWN * row + down, below - 3)  # a row that is not there is the one above once more
                    upper, middle, lower = places[top % 4], places[(top + 1) % 4], places[(top + 2) % 4]
                    for across in range(ACROSS):
                        for cell in range(CELLS):
                            # Three sums, so that one is added to while the others are under way.
                            first_sum, second_sum, third_sum = bias[channel], np.float32(0), np.float32(0)
                            for place in range(9):
                                first_sum += weights[channel, 0, place] * upper[3 * across + place, cell]
                                second_sum += weights[channel, 1, place] * middle[3 * across + place, cell]
                                third_sum += weights[channel, 2, place] * lower[3 * across + place, cell]
                            sums[ACROSS * down + across, cell] = first_sum + second_sum + third_sum
                    for across in range(whole, ACROSS):
                        sums[ACROSS * down + across, count - 1] = sums[ACROSS * down, count - 1]
                slope = slopes[channel]
                for cell in range(CELLS):
                    high = low = sums[0, cell]
                    for place in range(1, DOWN * ACROSS):
                        high, low = max(high, sums[place, cell]), min(low, sums[place, cell])
                    # With a negative slope a PReLU is highest at either end.
                    high, low = high if high >= 0 else slope * high, low if low >= 0 else slope * low
                    pooled[cell] = max(high, low)
                maps[channel, row, left:left + count] = pooled[:count]


class FastPNet(nn.Module):
    """A trained PNet: the same as in evaluation mode, from uint8 pixels (N, 3, H, W)."""

    def __init__(self, net: PNet) -> None:
        super().__init__()
        net = copy.deepcopy(net).cpu().requires_grad_(False)
        layers = net.features
        take_pixels(layers.conv1)
        self.first = layers[:3]
        self._weights = layers.conv1.weight.permute(0, 2, 3, 1).flatten(2).contiguous().numpy()
        self._bias, self._slopes = layers.conv1.bias.numpy(), layers.prelu1.weight.numpy()
        heads = nn.Conv2d(32, 6, 1)
        heads.weight = constant(torch.cat([net.conv4_2.weight, net.conv4_1.weight]))
        heads.bias = constant(torch.cat([net.conv4_2.bias, net.conv4_1.bias]))
        self.others = nn.Sequential(*layers[3:], heads)
        self.to(memory_format=torch.channels_last)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.score(self.pooled(pixels))

    def pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the first layers make of the pixels: (N, 10, h, w)."""
        if pixels.device.type != "cpu":
            return self.first(pixels.float())
        height, width = ((side - 3) // step + 1 for side, step in zip(pixels.shape[2:], (DOWN, ACROSS)))
        maps = np.empty((len(pixels), len(self._bias), height, width), np.float32)
        for picture, of_picture in zip(pixels.permute(0, 2, 3, 1).contiguous().flatten(2).numpy(), maps):
            share(_first_layer, height, LEAST_ROWS, picture, self._weights, self._bias, self._slopes, of_picture)
        return torch.from_numpy(maps)

    def score(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Offsets (N, 4, h, w) and scores (N, 2, h, w) from what ``pooled`` returns."""
        found = self.others(maps)
        return found[:, :4], found[:, 4:].softmax(dim=1)


def take_pixels(conv: nn.Conv2d) -> None:
    """Change a convolution of network input to one of pixels 0..255."""
    weight = conv.weight / 128
    conv.bias = constant(conv.bias - 127.5 * weight.sum(dim=(1, 2, 3)))
    conv.weight = constant(weight)


def constant(values: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach(), requires_grad=False)
