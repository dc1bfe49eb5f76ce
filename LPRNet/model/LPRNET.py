"""LPRNet: reads a plate crop without segmenting it (Zherzdev and Gruzdev, arXiv:1806.10447)."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval


def __getattr__(name: str) -> object:
    """``CHARS`` and ``CHARS_DICT`` can be imported from here too; the networks do not need them."""
    if name not in ("CHARS", "CHARS_DICT"):
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from LPRNet import alphabet

    return getattr(alphabet, name)


class SmallBasicBlock(nn.Module):
    """(N, ch_in, H, W) -> (N, ch_out, H, W) through a bottleneck of 3x1 and 1x3 convolutions."""

    def __init__(self, ch_in: int, ch_out: int) -> None:
        super().__init__()
        middle = ch_out // 4
        self.block = nn.Sequential(
            nn.Conv2d(ch_in, middle, kernel_size=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, middle, kernel_size=(3, 1), padding=(1, 0)),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, middle, kernel_size=(1, 3), padding=(0, 1)),
            nn.ReLU(inplace=True),
            nn.Conv2d(middle, ch_out, kernel_size=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


class ChannelStridePool(nn.Module):
    """3x3 max-pool over every ``step``-th channel: (N, C, H, W) -> (N, C / step, H', W').

    The published network writes it as ``MaxPool3d((1, 3, 3), stride=(step, 1, width_stride))`` with the channels as
    depth; this form is the same function, is faster, and exports to runtimes without 3-D pooling or slices with steps.
    """

    def __init__(self, step: int, width_stride: int) -> None:
        super().__init__()
        self.step, self.width_stride = step, width_stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unflatten(1, (-1, self.step))[:, :, 0]
        return functional.max_pool2d(x, kernel_size=3, stride=(1, self.width_stride))


class LPRNet(nn.Module):
    """Crops (N, 3, 24, 94) -> logits (N, class_num, 18): 18 time steps from left to right."""

    # Backbone layers whose outputs, averaged to 4 x 18 by (kernel, stride), are the global context beside the last one.
    TAPS: ClassVar = {2: ((5, 5), (5, 5)), 6: ((5, 5), (5, 5)), 13: ((4, 10), (4, 2))}

    def __init__(self, class_num: int, dropout_rate: float = 0.5) -> None:
        super().__init__()
        self.per_sample = True  # False: the global context is normalised over the batch, as published
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 64, kernel_size=3),  # 0: (64, 22, 92)
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            ChannelStridePool(1, 1),  # 3: (64, 20, 90)
            SmallBasicBlock(64, 128),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=True),
            ChannelStridePool(2, 2),  # 7: (64, 18, 44)
            SmallBasicBlock(64, 256),
            nn.BatchNorm2d(256),
            nn.ReLU(inplace=True),
            SmallBasicBlock(256, 256),
            nn.BatchNorm2d(256),
            nn.ReLU(inplace=True),
            ChannelStridePool(4, 2),  # 14: (64, 16, 21)
            nn.Dropout(dropout_rate),
            nn.Conv2d(64, 256, kernel_size=(1, 4)),  # 16: (256, 16, 18)
            nn.BatchNorm2d(256),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout_rate),
            nn.Conv2d(256, class_num, kernel_size=(13, 1)),  # 20: (class_num, 4, 18)
            nn.BatchNorm2d(class_num),
            nn.ReLU(inplace=True),
        )
        self.container = nn.Sequential(nn.Conv2d(64 + 128 + 256 + class_num, class_num, kernel_size=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        taps = []
        for index, layer in enumerate(self.backbone):
            x = layer(x)
            if index in self.TAPS:
                taps.append(functional.avg_pool2d(x, *self.TAPS[index]))
        return self.logits([*taps, x])

    def logits(self, context: list[torch.Tensor]) -> torch.Tensor:
        """What follows from the global context: the taps and the backbone's output, (N, C, 4, 18) each."""
        context = [normalise_energy(part, self.per_sample) for part in context]
        return functional.avg_pool2d(self.container(torch.cat(context, dim=1)), (4, 1)).squeeze(2)


def fold_batch_norm(net: LPRNet) -> LPRNet:
    """A copy for inference: the same function in evaluation mode, with every batch norm folded into its convolution."""
    net = copy.deepcopy(net).eval()
    layers = net.backbone
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm2d):
            before = layers[index - 1]
            place, name = (before.block, "6") if isinstance(before, SmallBasicBlock) else (layers, str(index - 1))
            setattr(place, name, fuse_conv_bn_eval(getattr(place, name), layer))
            layers[index] = nn.Identity()
    return net


def normalise_energy(x: torch.Tensor, per_sample: bool = True) -> torch.Tensor:
    """Each sample over the mean of its squares: (N, C, H, W) -> the same shape.

    The published network takes the mean over the batch, so that a reading depends on its neighbours; per sample is
    the same at batch size 1 and independent of the batch at any other.
    """
    x = x.float()
    squares = x * x  # not x.square(): in ONNX that is Pow, which some NPUs do not have
    return x / squares.mean(dim=(1, 2, 3) if per_sample else None, keepdim=True).clamp(min=1e-12)
