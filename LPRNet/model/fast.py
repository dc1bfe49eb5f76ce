"""STNet and LPRNet rearranged for reading: the same function as in evaluation mode, in less time on the CPU."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from LPRNet.model.LPRNET import ChannelStridePool, LPRNet, fold_batch_norm

INTEGERS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}  # of the same size


class FastReader(nn.Module):
    """Trained nets for inference: crops (N, 3, 24, 94) -> float32 logits (N, class_num, 18)."""

    def __init__(self, stn: nn.Module, lprnet: LPRNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.stn, self.lprnet = stn, FastLPRNet(lprnet, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lprnet(self.stn(x))


class FastLPRNet(nn.Module):
    """A trained LPRNet whose backbone computes in ``dtype``, float32 or bfloat16; the context is float32 as ever.

    Its ReLUs and pools work on the bits of the numbers (``rectify``). The channels before a pool come in such an order
    that those it takes are neighbours. The container is linear and comes after the mean over the height, which leaves
    it a quarter of the values. The context is normalised per sample.
    """

    def __init__(self, net: LPRNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        net = fold_batch_norm(net).requires_grad_(False)
        self.dtype, self.taps, self.pools = dtype, [*net.TAPS.values(), None], []
        self.parts, orders, convolutions = nn.ModuleList(), [], []
        for layer in (*net.backbone, None):
            if layer is not None:
                convolutions += [part for part in layer.modules() if isinstance(part, nn.Conv2d)]
            if layer is None or isinstance(layer, ChannelStridePool):
                step = layer.step if layer else 1
                last = convolutions[-1]
                orders.append(torch.arange(last.out_channels).view(-1, step).T.flatten())
                last.weight, last.bias = (nn.Parameter(value[orders[-1]], False) for value in (last.weight, last.bias))
                self.pools.append(layer and (last.out_channels // step, layer.width_stride))
                self.parts.append(nn.ModuleList(convolutions))
                convolutions = []
        self.parts.to(dtype, memory_format=torch.channels_last)
        sizes = torch.tensor([len(order) for order in orders])
        taken = torch.cat([order + start for order, start in zip(orders, sizes.cumsum(0) - sizes)])
        container = net.container[0]
        self.weight = nn.Parameter(container.weight[:, taken, 0, 0].T.contiguous(), False)
        self.bias = nn.Parameter(container.bias, False)
        owner = torch.arange(len(sizes)).repeat_interleave(sizes)
        self.share = nn.Parameter((owner[:, None] == owner) / sizes[owner], False)  # of a channel in its tap's mean

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, taps = x.to(self.dtype, memory_format=torch.channels_last), []
        for convolutions, tap, pool in zip(self.parts, self.taps, self.pools):
            for convolution in convolutions:
                x = rectify(convolution(x))
            taps.append(functional.avg_pool2d(x, *tap) if tap else x)
            if pool:
                x = pool_rectified(x[:, :pool[0]], pool[1])
        context = torch.cat(taps, dim=1).float().permute(0, 2, 3, 1)  # (N, 4, 18, C)
        energy = context.square().mean(dim=(1, 2)) @ self.share  # (N, C): each channel's tap's
        lines = context.mean(dim=1) / energy.clamp(min=1e-12)[:, None]
        return (lines @ self.weight + self.bias).transpose(1, 2)


def rectify(x: torch.Tensor) -> torch.Tensor:
    """ReLU in place. As integers the bits of negative numbers are negative, and integers take a third of the time."""
    x.view(INTEGERS[x.dtype]).clamp_(min=0)
    return x


def pool_rectified(x: torch.Tensor, width_stride: int) -> torch.Tensor:
    """3x3 max-pool with stride (1, ``width_stride``) of (N, C, H, W) without negative numbers.

    Their order is that of their bits as integers. (torch's own pool also notes where each maximum was.)
    """
    bits = x.view(INTEGERS[x.dtype])
    lines = torch.maximum(bits[:, :, :-2], bits[:, :, 1:-1])
    torch.maximum(lines, bits[:, :, 2:], out=lines)
    left, middle, right = (lines[..., first:lines.shape[3] - 2 + first:width_stride] for first in range(3))
    pooled = torch.maximum(left, middle)
    return torch.maximum(pooled, right, out=pooled).view(x.dtype)
