"""A rough look at everything in bfloat16, so that the exact nets see little but what they will accept.

Both nets reject nearly all they see: of a photo's cells PNet accepts about one in a thousand, of PNet's proposals ONet
one in ten. Where the processor multiplies bfloat16 numbers itself, a rough look takes half the time; what may pass
is then computed in float32 as everywhere else, so that boxes and scores are the same. ``PNET_MARGIN`` and
``ONET_SHARE`` say by how much a rough score may fall short of the exact one: in 122 photos no cell of 0.45 and more had
less than 0.439, none of 0.3 and more less than 0.284; of 6,123 proposals in 219 others whose rough score was below
0.003, none had an exact one above 0.0038.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from MTCNN.model.fast import constant
from MTCNN.model.MTCNN_nets import ONet, PNet, pool_first
from platekit.compiled import COMPILES, compiled
from platekit.devices import multiplies_bfloat16

PNET_MARGIN = 0.05  # a cell may pass whose rough score is less than this below PNet's threshold
ONET_SHARE = 0.3  # a proposal may pass whose rough score is this share of ONet's threshold
TILE = 2  # PNet's cells beside one another that are computed exactly when one of them may pass
TILE_SIZE = (5, 8 + TILE)  # height and width of what they see of the maps of PNet's first layers


class OneDnnSequential(nn.Sequential):
    """Layers with the maps between them in oneDNN's own memory order, in which pooling takes a quarter of the time."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.bfloat16()
        for layer in self:
            for name, values in list(layer.named_parameters()):
                delattr(layer, name)  # a parameter cannot be replaced by a plain tensor
                setattr(layer, name, values.detach().to_mkldnn())

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(maps.to_mkldnn()).to_dense()


class RoughNet(nn.Module):
    """The plate's scores in bfloat16: PNet's (N, 1, h, w) from the maps of its first layers, or ONet's (N, 1)."""

    def __init__(self, net: PNet | ONet) -> None:
        super().__init__()
        self._made_of = net, torch.device("cpu")  # in a tuple, so that the net is no part of this module
        layers, last = copy.deepcopy((net.features, net.conv4_1 if isinstance(net, PNet) else net.conv6_1))
        last.weight, last.bias = (constant(values[1:] - values[:1]) for values in last.parameters())
        if isinstance(net, PNet):
            self.layers: nn.Sequential = OneDnnSequential(*layers[3:], last)
        else:
            ordered = pool_first(layers)
            flat = ordered.index(layers.get_submodule("flatten"))
            self.layers = nn.Sequential(OneDnnSequential(*ordered[:flat]), *ordered[flat:], last).bfloat16()

    def __reduce__(self) -> tuple[Callable, tuple]:
        return make_rough, self._made_of  # oneDNN's tensors cannot be pickled

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return self.layers(maps.bfloat16()).float().sigmoid()


def make_rough(net: PNet | ONet | Callable, device: torch.device) -> RoughNet | None:
    """The rough form of PNet or ONet; None of any other net, and where the device gains nothing by it."""
    gains = COMPILES and multiplies_bfloat16(device)
    return RoughNet(net) if gains and (type(net) is PNet or type(net) is ONet) else None


@compiled
def likely_tiles(scores: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """The tiles that hold a cell (h, w) of score ``least`` or more: the (row, column) of their first cells, (T, 2), and
    the best score in each (T,)."""
    height, width = scores.shape
    tiles = np.empty((height * ((width + TILE - 1) // TILE), 2), np.int64)
    best = np.empty(len(tiles), scores.dtype)
    count = 0
    for row in range(height):
        last = -1
        for column in range(width):
            if scores[row, column] < least:
                continue
            if column // TILE != last:
                last = column // TILE
                tiles[count, 0], tiles[count, 1], best[count] = row, TILE * last, scores[row, column]
                count += 1
            else:
                best[count - 1] = max(best[count - 1], scores[row, column])
    return tiles[:count], best[:count]


def cells_of(tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the cells of tiles (T, 2), each (T * TILE,)."""
    return tiles[:, 0].repeat(TILE), (tiles[:, 1:] + np.arange(TILE)).ravel()


def cut_tiles(maps: torch.Tensor, tiles: np.ndarray) -> torch.Tensor:
    """What the other layers need of the maps (1, C, h, w) of the first to compute tiles (T, 2): (T, C, *TILE_SIZE).

    Past the border of the maps the tiles are 0; only cells that don't exist see it.
    """
    parts = np.zeros((len(tiles), maps.shape[1], *TILE_SIZE), np.float32)
    _cut_tiles(maps[0].numpy(), tiles, parts)
    return torch.from_numpy(parts)


@compiled
def _cut_tiles(maps: np.ndarray, tiles: np.ndarray, parts: np.ndarray) -> None:
    channels, _, width = maps.shape
    for index in range(len(tiles)):
        row, column = tiles[index]
        for channel in range(channels):
            for line in range(TILE_SIZE[0]):
                for place in range(min(TILE_SIZE[1], width - column)):
                    parts[index, channel, line, place] = maps[channel, row + line, column + place]
