"""LPRNet: reads a plate crop without segmenting it (Zherzdev and Gruzdev, arXiv:1806.10447)."""

from __future__ import annotations

import copy
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from LPRNet.model.mixed import Drop, TapAndPool, in_bits, norm_relu, norm_tap_pool

INTEGERS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}  # of the same size


def rectify(x: torch.Tensor) -> torch.Tensor:
    """ReLU in place. The bits of negative numbers are negative integers, in bfloat16 in a third of the time."""
    x.view(INTEGERS[x.dtype]).clamp_(min=0)
    return x


class Rectify(torch.autograd.Function):
    """``rectify`` with its gradient."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        rectify(x)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        bits = [each.view(INTEGERS[each.dtype]) for each in (gradient, *ctx.saved_tensors)]
        return torch.ops.aten.threshold_backward(*bits, 0).view(gradient.dtype)


class BitReLU(nn.ReLU):
    """ReLU in place, by ``Rectify`` in mixed-precision training on the CPU."""

    def __init__(self) -> None:
        super().__init__(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Rectify.apply(x) if self.training and in_bits(x) else super().forward(x)


class SmallBasicBlock(nn.Module):
    """(N, ch_in, H, W) -> (N, ch_out, H, W) through a bottleneck of 3x1 and 1x3 convolutions."""

    def __init__(self, ch_in: int, ch_out: int) -> None:
        super().__init__()
        middle = ch_out // 4
        self.block = nn.Sequential(
            nn.Conv2d(ch_in, middle, kernel_size=1),
            BitReLU(),
            nn.Conv2d(middle, middle, kernel_size=(3, 1), padding=(1, 0)),
            BitReLU(),
            nn.Conv2d(middle, middle, kernel_size=(1, 3), padding=(0, 1)),
            BitReLU(),
            nn.Conv2d(middle, ch_out, kernel_size=1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(x)


class ChannelStridePool(nn.Module):
    """3x3 max-pool over every ``step``-th channel: (N, C, H, W) -> (N, C / step, H', W').

    The published network writes it as ``MaxPool3d((1, 3, 3), stride=(step, 1, width_stride))`` with the channels as
    depth; this form is the same function, is faster, and exports to runtimes without 3-D pooling.
    """

    def __init__(self, step: int, width_stride: int) -> None:
        super().__init__()
        self.step, self.width_stride = step, width_stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.max_pool2d(x[:, :: self.step], kernel_size=3, stride=(1, self.width_stride))


def tap_and_pool(x: torch.Tensor, kernel: tuple[int, int], stride: tuple[int, int], pool: nn.Module
                 ) -> tuple[torch.Tensor, torch.Tensor]:
    """The tap (N, C, 4, 18) of a layer's output for the global context, and what ``pool`` makes of the output."""
    if torch.is_grad_enabled() and x.requires_grad and type(pool) is ChannelStridePool:
        return TapAndPool.apply(x, kernel, stride, pool.step, pool.width_stride)
    return functional.avg_pool2d(x, kernel, stride), pool(x)


class ByteDropout(nn.Dropout):
    """Dropout that draws one random byte an element: on the CPU six times faster than torch's, at a rate in 1/256."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
        if not self.training or x.device.type != "cpu" or not dense:
            return super().forward(x)
        count, dropped = x.numel(), min(255, round(self.p * 256))
        words = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        if in_bits(x) and x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            return Drop.apply(x, words.view(torch.uint8), dropped)
        kept = words.view(torch.uint8)[:count] >= dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - dropped)).as_strided(x.shape, x.stride())


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
            BitReLU(),
            ChannelStridePool(1, 1),  # 3: (64, 20, 90)
            SmallBasicBlock(64, 128),
            nn.BatchNorm2d(128),
            BitReLU(),
            ChannelStridePool(2, 2),  # 7: (64, 18, 44)
            SmallBasicBlock(64, 256),
            nn.BatchNorm2d(256),
            BitReLU(),
            SmallBasicBlock(256, 256),
            nn.BatchNorm2d(256),
            BitReLU(),
            ChannelStridePool(4, 2),  # 14: (64, 16, 21)
            ByteDropout(dropout_rate),
            nn.Conv2d(64, 256, kernel_size=(1, 4)),  # 16: (256, 16, 18)
            nn.BatchNorm2d(256),
            BitReLU(),
            ByteDropout(dropout_rate),
            nn.Conv2d(256, class_num, kernel_size=(13, 1)),  # 20: (class_num, 4, 18)
            nn.BatchNorm2d(class_num),
            BitReLU(),
        )
        self.container = nn.Sequential(nn.Conv2d(64 + 128 + 256 + class_num, class_num, kernel_size=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        taps = []
        layers = iter(enumerate(self.backbone))
        for index, layer in layers:
            joined = type(layer) is nn.BatchNorm2d and self.training and in_bits(x)
            if joined:
                index, _ = next(layers)  # the ReLU
            pool = next(layers)[1] if index in self.TAPS else None
            if joined and type(pool) is ChannelStridePool:
                tap, x = norm_tap_pool(layer, x, *self.TAPS[index], pool.step, pool.width_stride)
            else:
                x = norm_relu(layer, x) if joined else layer(x)
                tap, x = tap_and_pool(x, *self.TAPS[index], pool) if pool else (None, x)
            if pool:
                taps.append(tap)
        # (N, 448 + class_num, 4, 18)
        context = torch.cat([normalise_energy(tap, self.per_sample) for tap in (*taps, x)], dim=1)
        return self.container(context).mean(dim=2)


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
    return x / x.square().mean(dim=(1, 2, 3) if per_sample else None, keepdim=True).clamp(min=1e-12)
