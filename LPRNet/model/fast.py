"""STNet and LPRNet rearranged for reading: the same function as in evaluation mode, in less time on the CPU."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from LPRNet.model.LPRNET import ChannelStridePool, LPRNet, fold_batch_norm
from LPRNet.model.STN import STNet

oneDNN = torch.ops.mkldnn  # what torch's own compiler calls
INTEGERS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}  # of the same size


def rectify(x: torch.Tensor) -> torch.Tensor:
    """ReLU in place. The bits of negative numbers are negative integers, in bfloat16 in a third of the time.
    (What is no number, which sound weights never give, may become 0.)"""
    x.view(INTEGERS[x.dtype]).clamp_(min=0)
    return x


class FastReader(nn.Module):
    """Trained nets for inference: crops (N, 3, 24, 94) -> float32 logits (N, class_num, 18)."""

    def __init__(self, stn: STNet, lprnet: LPRNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.stn, self.lprnet = stn, FastLPRNet(lprnet, dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lprnet(self.stn(x))

    def pack(self) -> FastReader:
        """The same for the CPU alone, where this build of torch has what it takes."""
        names = "_reorder_convolution_weight", "_convolution_pointwise"
        if torch.backends.mkldnn.is_available() and all(hasattr(oneDNN, name) for name in names):
            for part in self.lprnet.parts:
                for name, layer in part.named_children():
                    if isinstance(layer, Rectified):
                        setattr(part, name, Packed(layer.convolution))
        return self


class Rectified(nn.Module):
    """A trained convolution and the ReLU behind it."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return rectify(self.convolution(x))


class Packed(nn.Module):
    """``Rectified`` on the CPU, a tenth faster: its weights are in oneDNN's own memory order, made once.

    In bfloat16 more than 64 output channels become a multiple of 64: 68 of one plate take thrice as long as 128.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.geometry = [list(part) for part in (convolution.padding, convolution.stride, convolution.dilation)]
        size = 1, convolution.in_channels, 16, 40  # of maps, to choose the order by; it does for all
        self.channels = convolution.out_channels
        spare = -self.channels % 64 if self.channels > 64 and convolution.weight.dtype == torch.bfloat16 else 0
        weight = functional.pad(convolution.weight, (0, 0, 0, 0, 0, 0, 0, spare))
        self.weight = oneDNN._reorder_convolution_weight(weight, *self.geometry, 1, size)
        self.bias = functional.pad(convolution.get_parameter("bias"), (0, spare))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = oneDNN._convolution_pointwise(x, self.weight, self.bias, *self.geometry, 1, "relu", [], "")
        return found[:, :self.channels].contiguous(memory_format=torch.channels_last)


class FastLPRNet(nn.Module):
    """A trained LPRNet whose backbone computes in ``dtype``, float32 or bfloat16; the context is float32 as ever.

    Its ReLUs (unless ``Packed``) and pools work on the bits of the numbers. The channels before a pool come in such an
    order that those it takes are neighbours. The container is linear and comes after the mean over the height, which
    leaves it a quarter of the values. The context is normalised per sample.
    """

    def __init__(self, net: LPRNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        net = fold_batch_norm(net).requires_grad_(False)
        self.dtype, self.parts, self.taps, self.pools = dtype, nn.ModuleList(), [*net.TAPS.values(), None], []
        orders, convolutions = [], []
        for layer in (*net.backbone, ChannelStridePool(1, 1)):  # the context takes the last output as if from a tap
            if not isinstance(layer, ChannelStridePool):
                convolutions += [part for part in layer.modules() if isinstance(part, nn.Conv2d)]
                continue
            last = convolutions[-1]
            orders.append(torch.arange(last.out_channels).view(-1, layer.step).T.flatten())
            last.weight, last.bias = (nn.Parameter(values[orders[-1]], False) for values in last.parameters())
            self.pools.append((last.out_channels // layer.step, layer.width_stride))
            self.parts.append(nn.Sequential(*map(Rectified, convolutions)))
            convolutions = []
        self.parts.to(dtype).to(memory_format=torch.channels_last)
        sizes = torch.tensor([len(order) for order in orders])
        taken = torch.cat([order + start for order, start in zip(orders, sizes.cumsum(0) - sizes)])
        self.weight = nn.Parameter(net.get_parameter("container.0.weight")[:, taken, 0, 0].T.contiguous(), False)
        self.bias = nn.Parameter(net.get_parameter("container.0.bias"), False)
        owner = torch.arange(len(sizes)).repeat_interleave(sizes)
        # (C, C): from channels' values to the mean over each one's tap
        self.tap_mean = nn.Parameter((owner[:, None] == owner).float() / sizes[owner], False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x, taps = x.to(self.dtype, memory_format=torch.channels_last), []
        for convolutions, tap, (channels, width_stride) in zip(self.parts, self.taps, self.pools):
            x = convolutions(x)
            taps.append(functional.avg_pool2d(x, *tap) if tap else x)
            if tap:
                x = pool_rectified(x[:, :channels], width_stride)
        context = torch.cat(taps, dim=1).float().permute(0, 2, 3, 1)  # (N, 4, 18, C)
        energy = context.square().mean(dim=(1, 2)) @ self.tap_mean  # (N, C): the energy of each channel's tap
        lines = context.mean(dim=1) / energy.clamp(min=1e-12)[:, None]
        return (lines @ self.weight + self.bias).transpose(1, 2)


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
