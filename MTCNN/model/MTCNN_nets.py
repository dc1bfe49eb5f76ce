"""The two networks of the detector: PNet proposes, ONet confirms and refines.

Inputs are BGR, ``(x - 127.5) / 128``, NCHW float. Both nets return ``(offsets, class scores)``; class 1 is the
plate. In training mode the scores are logits, in evaluation mode probabilities. Parameter names and shapes are those
of the published weights, so that existing weight files load (MTCNN: Zhang et al. 2016, doi:10.1109/LSP.2016.2603342).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import torch
from torch import nn

PNET_SIZE = (12, 47)  # height, width of the window one PNet output cell sees
PNET_STRIDE = (2, 5)  # step between neighbouring windows, vertical and horizontal
ONET_SIZE = (24, 94)  # height, width of ONet's input


def pool_first(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """The layers in order, except that max-pooling goes before a PReLU whose slopes are not negative.

    Such a PReLU is monotone and commutes with a maximum, so the result is the same to the last bit, and the PReLU has
    a quarter (ONet) or a tenth (PNet) of the values to do: it is a third of a training step otherwise. On the CPU
    only: elsewhere, looking at the slopes would wait for the device (and while exporting there are none to look at).
    """
    ordered: list[nn.Module] = []
    for layer in layers:
        before = ordered[-1] if ordered else None
        if isinstance(layer, nn.MaxPool2d) and isinstance(before, nn.PReLU) and before.weight.device.type == "cpu" \
                and not torch.compiler.is_exporting() and bool((before.weight >= 0).all()):
            ordered.insert(-1, layer)
        else:
            ordered.append(layer)
    return ordered


def run_layers(layers: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """``x`` through the layers, pools first."""
    for layer in pool_first(layers):
        x = layer(x)
    return x


class FlattenWidthFirst(nn.Module):
    """(N, C, H, W) to (N, C * W * H): width before height, as the published linear layer was trained."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(2, 3).flatten(1)


class PNet(nn.Module):
    """Fully convolutional proposal net, 10,664 parameters.

    Input (N, 3, H, W) with H >= 12 and W >= 47; output offsets (N, 4, h, w) and scores (N, 2, h, w). The cell (i, j)
    saw the window whose top left corner is the pixel (y, x) = (2 i, 5 j), 12 high and 47 wide; offsets are in
    units of that window (platekit.boxes.decode_offsets). The last row and column may reach past the input by less
    than a stride, because the pooling rounds up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(OrderedDict([
            ("conv1", nn.Conv2d(3, 10, 3)),
            ("prelu1", nn.PReLU(10)),
            ("pool1", nn.MaxPool2d(PNET_STRIDE, ceil_mode=True)),
            ("conv2", nn.Conv2d(10, 16, (3, 5))),
            ("prelu2", nn.PReLU(16)),
            ("conv3", nn.Conv2d(16, 32, (3, 5))),
            ("prelu3", nn.PReLU(32)),
        ]))
        self.conv4_1 = nn.Conv2d(32, 2, 1)
        self.conv4_2 = nn.Conv2d(32, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = run_layers(self.features, x)
        scores = self.conv4_1(x)
        return self.conv4_2(x), scores if self.training else scores.softmax(dim=1)


class ONet(nn.Module):
    """Output net on plate-shaped crops, 394,662 parameters: (N, 3, 24, 94) to offsets (N, 4) and scores (N, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(OrderedDict([
            ("conv1", nn.Conv2d(3, 32, 3)),
            ("prelu1", nn.PReLU(32)),
            ("pool1", nn.MaxPool2d(3, 2, ceil_mode=True)),
            ("conv2", nn.Conv2d(32, 64, 3)),
            ("prelu2", nn.PReLU(64)),
            ("pool2", nn.MaxPool2d(3, 2, ceil_mode=True)),
            ("conv3", nn.Conv2d(64, 64, 3)),
            ("prelu3", nn.PReLU(64)),
            ("pool3", nn.MaxPool2d(2, 2, ceil_mode=True)),
            ("conv4", nn.Conv2d(64, 128, 1)),
            ("prelu4", nn.PReLU(128)),
            ("flatten", FlattenWidthFirst()),
            ("conv5", nn.Linear(1280, 256)),
            ("drop5", nn.Dropout(0.25)),
            ("prelu5", nn.PReLU(256)),
        ]))
        self.conv6_1 = nn.Linear(256, 2)
        self.conv6_2 = nn.Linear(256, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = run_layers(self.features, x)
        scores = self.conv6_1(x)
        return self.conv6_2(x), scores if self.training else scores.softmax(dim=1)
