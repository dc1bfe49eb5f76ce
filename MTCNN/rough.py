"""A rough look at everything in bfloat16, so that the exact nets see little but what they will accept.

Both nets reject nearly all they see: of a photo's cells PNet accepts one in five hundred, of PNet's proposals ONet one
in twenty. Where the processor multiplies bfloat16 numbers itself, it says in half the time which of them may pass;
those are then computed in float32 as everywhere else, so that boxes and scores are the same. ``PNET_MARGIN`` and
``ONET_SHARE`` say by how much a rough score may fall short of the exact one: in 166 photos no cell of 0.85 and more had
less than 0.832, none of 0.7 and more less than 0.676; of 5,139 proposals rejected below 0.02 in 122 photos the best had
an exact score of 0.15, and no plate found was another.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from MTCNN.model.MTCNN_nets import (
    PNET_SIZE,
    PNET_STRIDE,
    ONet,
    PNet,
    constant,
    pool_before,
    pool_first,
    take_pixels,
)
from platekit.boxes import CROP_SIZE
from platekit.opencv import cv2

PNET_MARGIN = 0.05  # a cell may pass whose rough score is less than this below PNet's threshold
ONET_SHARE = 0.1  # a proposal may pass whose rough score, of a rough crop, is this share of ONet's threshold
TILE = 2  # PNet's cells beside one another that are computed exactly when one of them may pass
TILE_SIZE = (PNET_SIZE[0], PNET_SIZE[1] + (TILE - 1) * PNET_STRIDE[1])  # height and width of what they see


class OwnOrder(nn.Sequential):
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
    """The plate's scores by a PNet or ONet in bfloat16: uint8 pixels (N, 3, H, W) to (N, 1, h, w) or (N, 1)."""

    def __init__(self, net: PNet | ONet) -> None:
        super().__init__()
        layers, last = copy.deepcopy((net.features, net.conv4_1 if isinstance(net, PNet) else net.conv6_1))
        take_pixels(layers.conv1, torch.bfloat16)  # which holds all of 0..255 exactly
        last.weight, last.bias = (constant(values[1:] - values[:1]) for values in (last.weight, last.bias))
        if isinstance(net, PNet):
            conv1, *others = pool_before(layers.conv1, layers.prelu1, layers.conv2)
            self.layers = OwnOrder(conv1, layers.pool1, *others, layers.prelu2, layers.conv3, layers.prelu3, last)
        else:
            ordered = pool_first(layers)
            flat = ordered.index(layers.flatten)
            self.layers = nn.Sequential(OwnOrder(*ordered[:flat]), *ordered[flat:], last).bfloat16()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.layers(pixels.bfloat16()).float().sigmoid()


def tiles_of(likely: torch.Tensor) -> torch.Tensor:
    """The tiles that hold one of the ``likely`` cells (h, w): the (row, column) of their first cells, (T, 2)."""
    cells = torch.nonzero(likely)
    cells[:, 1] -= cells[:, 1] % TILE
    return cells.unique_consecutive(dim=0)


def cells_of(tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and columns of the cells of tiles (T, 2), each (T * TILE,)."""
    return tiles[:, 0].repeat_interleave(TILE), (tiles[:, 1:] + torch.arange(TILE)).flatten()


def cut_tiles(pixels: torch.Tensor, tiles: torch.Tensor) -> torch.Tensor:
    """What PNet needs of the uint8 pixels (1, 3, H, W) to compute tiles (T, 2): (T, 3, *TILE_SIZE).

    Past the border there are other pixels, for cells that don't exist.
    """
    lines, length = pixels[0].permute(1, 2, 0).numpy(), 3 * TILE_SIZE[1]
    rows, columns = (tiles * torch.tensor(PNET_STRIDE)).T.numpy()
    starts = 3 * ((rows[:, None] + np.arange(TILE_SIZE[0])) * lines.shape[1] + columns[:, None])
    values = lines.reshape(-1)
    missing = starts.max(initial=0) + length - len(values)
    values = np.pad(values, (0, missing)) if missing > 0 else values
    cut = torch.from_numpy(np.lib.stride_tricks.sliding_window_view(values, length)[starts])
    return cut.view(-1, *TILE_SIZE, 3).permute(0, 3, 1, 2)


def rough_crops(pixels: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Nearly what ``crop_resize`` cuts out of the uint8 picture (1, 3, H, W), in a fraction of the time: uint8 crops.

    A crop's pixel is the mean of four bilinear samples of a picture that was halved as often as the box is large.
    (With one sample some rough scores fell to a hundredth of the exact ones; with four, to half of them.)
    """
    picture = pixels[0].permute(1, 2, 0).numpy()
    whole, corners = picture.shape[1::-1], boxes.numpy()
    height, width = 2 * CROP_SIZE[0], 2 * CROP_SIZE[1]  # of the samples of one crop
    step = (corners[:, 2:] - corners[:, :2]) / (width, height)
    halvings = np.log2(step.clip(1)).mean(axis=1).round()
    samples = np.empty((len(boxes), height, width, 3), np.uint8)
    for number in range(int(halvings.max(initial=0)) + 1):
        if number:
            size = [max(1, side // 2) for side in picture.shape[1::-1]]
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        scaled = corners * np.tile(np.divide(picture.shape[1::-1], whole), 2)
        for index in np.nonzero(halvings == number)[0]:
            x1, y1, x2, y2 = scaled[index]
            across, down = (x2 - x1) / width, (y2 - y1) / height
            places = np.array([[across, 0, x1 + across / 2 - 0.5], [0, down, y1 + down / 2 - 0.5]])
            cv2.warpAffine(picture, places, (width, height), samples[index], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                           cv2.BORDER_CONSTANT, (127, 127, 127))
    crops = [cv2.resize(box, CROP_SIZE[::-1], interpolation=cv2.INTER_AREA) for box in samples]
    return torch.from_numpy(np.array(crops, np.uint8).reshape(-1, *CROP_SIZE, 3)).permute(0, 3, 1, 2)
