"""LPRNet rearranged for training: the same function and the same weights, in less time."""

from __future__ import annotations

import torch
from torch import nn

from LPRNet.model.fast import INTEGERS, rectify
from LPRNet.model.LPRNET import ChannelStridePool, LPRNet
from LPRNet.model.mixed import Drop, TapAndPool, norm_relu, norm_tap_pool, works_on_bits


class TrainingLPRNet(LPRNet):
    """LPRNet with layers of its own for training, above all in mixed precision on the CPU (``LPRNet/model/mixed.py``).

    Batch norm, ReLU, tap and pool that follow one another are one function with one gradient.
    """

    def __init__(self, class_num: int, dropout_rate: float = 0.5) -> None:
        super().__init__(class_num, dropout_rate)
        for module in list(self.modules()):
            for name, layer in module.named_children():
                if isinstance(layer, nn.ReLU):
                    setattr(module, name, BitReLU())
                elif isinstance(layer, nn.Dropout):
                    setattr(module, name, ByteDropout(layer.p))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        taps = []
        layers = iter(enumerate(self.backbone))
        for index, layer in layers:
            norm = layer if isinstance(layer, nn.BatchNorm2d) and works_on_bits(x) else None
            if norm:
                index, _ = next(layers)  # the ReLU
            if index in self.TAPS:
                _, pool = next(layers)
                assert isinstance(pool, ChannelStridePool)  # one comes behind every tap
                sizes = *self.TAPS[index], pool.step, pool.width_stride
                tap, x = norm_tap_pool(norm, x, *sizes) if norm else TapAndPool.apply(layer(x), *sizes)
                taps.append(tap)
            else:
                x = norm_relu(norm, x) if norm else layer(x)
        return self.logits([*taps, x])


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
        return Rectify.apply(x) if self.training and works_on_bits(x) else super().forward(x)


class ByteDropout(nn.Dropout):
    """Dropout that draws one random byte an element: on the CPU six times faster than torch's, at a rate in 1/256."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dense = x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
        if not self.training or x.device.type != "cpu" or not dense:
            return super().forward(x)
        count, dropped = x.numel(), min(255, round(self.p * 256))
        words = torch.empty((count + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        if works_on_bits(x) and x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            return Drop.apply(x, words.view(torch.uint8), dropped)
        kept = words.view(torch.uint8)[:count] >= dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - dropped)).as_strided(x.shape, x.stride())
