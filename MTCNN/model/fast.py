"""Both nets faster than layer by layer, PNet on whole pictures several times, with the same answers."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from MTCNN.model.MTCNN_nets import PNET_STRIDE, ONet, PNet, pool_first
from platekit.compiled import COMPILES, compiled, in_threads
from platekit.crops import MIDDLE, SPAN

CELLS = 40  # beside one another that are computed together
LEAST_ROWS = 16  # of cells for a thread
DOWN, ACROSS = PNET_STRIDE  # pixels of a cell: the pooling's size
LINE = 3 * (ACROSS + 2)  # values of a line of pixels that a cell sees


@compiled
def _first_layer(lines: np.ndarray, weights: np.ndarray, bias: np.ndarray, slopes: np.ndarray, maps: np.ndarray,
                 first: int, last: int) -> None:
    """PNet's first convolution, PReLU and pooling at once, for the cells of the rows from ``first`` to ``last``.

    From the lines (H, 3 W) of a uint8 picture, with weights (C, 4, 9) of ``winograd``, to ``maps`` (C, h, w). Computed
    one by one, the three layers would spend most of the time writing and reading the maps between them. The processor
    computes one convolution for a row of cells at a time: so the pixels that are at the same place of their cells are
    brought together first, and then mixed for all channels.
    """
    channels, _, columns = maps.shape
    height, width = lines.shape[0], lines.shape[1] // 3
    places = np.zeros((4, LINE, CELLS), np.float32)
    mixed = np.zeros((4, LINE, CELLS), np.float32)
    sums = np.zeros((DOWN, ACROSS, CELLS), np.float32)
    pooled = np.zeros(CELLS, np.float32)
    for left in range(0, columns, CELLS):
        count = min(CELLS, columns - left)
        whole = width - 2 - ACROSS * (columns - 1) if left + count == columns else ACROSS  # pixels' columns
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
            one, two = places[DOWN * row % 4], places[(DOWN * row + 1) % 4]
            three, four = places[(DOWN * row + 2) % 4], places[(DOWN * row + 3) % 4]
            for place in range(LINE):
                for cell in range(CELLS):
                    mixed[0, place, cell] = one[place, cell] - three[place, cell]
                    mixed[1, place, cell] = two[place, cell] + three[place, cell]
                    mixed[2, place, cell] = three[place, cell] - two[place, cell]
                    mixed[3, place, cell] = two[place, cell] - four[place, cell]
            for channel in range(channels):
                for across in range(ACROSS):
                    # In two loops, so that what one needs fits the processor's registers.
                    upper, lower = sums[0, across], sums[1, across]
                    for cell in range(CELLS):
                        second, third = bias[channel], np.float32(0)
                        for place in range(9):
                            second += weights[channel, 1, place] * mixed[1, 3 * across + place, cell]
                            third += weights[channel, 2, place] * mixed[2, 3 * across + place, cell]
                        upper[cell], lower[cell] = second + third, second - third
                    for cell in range(CELLS):
                        first_sum, fourth = upper[cell], lower[cell]
                        for place in range(9):
                            first_sum += weights[channel, 0, place] * mixed[0, 3 * across + place, cell]
                            fourth -= weights[channel, 3, place] * mixed[3, 3 * across + place, cell]
                        upper[cell], lower[cell] = first_sum, fourth
                # Where the border cuts a cell, pixels that exist stand in for the missing ones: its extremes stay.
                for across in range(whole, ACROSS):
                    sums[:, across, count - 1] = sums[:, 0, count - 1]
                if below < DOWN * row + 4:
                    sums[1] = sums[0]
                slope = slopes[channel]
                for cell in range(CELLS):
                    high = low = sums[0, 0, cell]
                    for across in range(ACROSS):
                        for down in range(DOWN):
                            high, low = max(high, sums[down, across, cell]), min(low, sums[down, across, cell])
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
        take_pixels(layers.get_submodule("conv1"))
        self.first_layers = layers[:3]
        self._weights = winograd(layers.get_parameter("conv1.weight").permute(0, 2, 3, 1).flatten(2).numpy())
        # Copies: sent to another process, tensors move to shared memory, and arrays of theirs would stay behind.
        self._bias, self._slopes = (layers.get_parameter(name).numpy().copy()
                                    for name in ("conv1.bias", "prelu1.weight"))
        self.later_layers = nn.Sequential(*layers[3:], joined_heads(net.conv4_2, net.conv4_1))
        self.to(memory_format=torch.channels_last)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.score(self.pooled(pixels))

    def pooled(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the first layers make of the pixels: (N, 10, h, w)."""
        if pixels.device.type != "cpu" or not COMPILES:
            return self.first_layers(pixels.float())
        height, width = ((side - 3) // step + 1 for side, step in zip(pixels.shape[2:], (DOWN, ACROSS)))
        maps = np.empty((len(pixels), len(self._bias), height, width), np.float32)
        for picture, of_picture in zip(pixels.permute(0, 2, 3, 1).contiguous().flatten(2).numpy(), maps):
            in_threads(_first_layer, height, LEAST_ROWS, picture, self._weights, self._bias, self._slopes, of_picture)
        return torch.from_numpy(maps)

    def score(self, maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Offsets (N, 4, h, w) and scores (N, 2, h, w) from what ``pooled`` returns."""
        found = self.later_layers(maps)
        return found[:, :4], found[:, 4:].softmax(dim=1)


class FastONet(nn.Module):
    """A trained ONet: the same as in evaluation mode."""

    def __init__(self, net: ONet) -> None:
        super().__init__()
        layers = [layer for layer in pool_first(net.features) if not isinstance(layer, nn.Dropout)]
        self.layers = nn.Sequential(*layers, joined_heads(net.conv6_2, net.conv6_1))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.layers(x)
        return found[:, :4], found[:, 4:].softmax(dim=1)


def joined_heads(offsets: nn.Module, scores: nn.Module) -> nn.Module:
    """Both heads of a net as one layer."""
    heads = copy.deepcopy(offsets)
    for name in ("weight", "bias"):
        setattr(heads, name, constant(torch.cat([offsets.get_parameter(name), scores.get_parameter(name)])))
    return heads


def winograd(weights: np.ndarray) -> np.ndarray:
    """The weights (C, 4, N) that give two outputs, one below the other, from those (C, 3, N) of three lines.

    With them ``_first_layer`` multiplies four times where it would six (Lavin and Gray, arXiv:1509.09308).
    """
    upper, middle, lower = weights[:, 0], weights[:, 1], weights[:, 2]
    return np.stack([upper, (upper + middle + lower) / 2, (upper - middle + lower) / 2, lower], axis=1)


def take_pixels(conv: nn.Module) -> None:
    """Change a convolution of network input to one of pixels 0..255."""
    weight = conv.get_parameter("weight") / SPAN
    conv.bias = constant(conv.get_parameter("bias") - MIDDLE * weight.sum(dim=(1, 2, 3)))
    conv.weight = constant(weight)


def constant(values: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach(), requires_grad=False)
