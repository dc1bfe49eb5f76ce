"""Two pairs of LPRNet's layers, each with one gradient: what mixed-precision training on the CPU spends its time on.

There both are machine code that works on the bits of bfloat16 numbers, channels last in memory. Most of a step is
waiting for memory, so that it counts how often maps are read and written. The loops repeat some lines: in a function of
their own, which may be given one array twice, they take ten times as long.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from platekit.compiled import compiled, share

aten = torch.ops.aten


class TapAndPool(torch.autograd.Function):
    """A tap of the global context and the pool that follows it; what they come from must not be negative anywhere.

    Left to itself autograd makes a full-sized gradient of each and adds them.
    """

    @staticmethod
    def forward(ctx, x: torch.Tensor, kernel: tuple[int, int], stride: tuple[int, int], step: int, width_stride: int
                ) -> tuple[torch.Tensor, torch.Tensor]:
        """``x`` (N, C, H, W) averaged in windows of ``kernel``, which don't overlap in height, and max-pooled."""
        part = x[:, ::step].contiguous(memory_format=torch.channels_last)
        if in_bits(x):
            pooled, places = pool(part, width_stride)
        else:
            pooled, places = functional.max_pool2d(part, 3, stride=(1, width_stride), return_indices=True)
        ctx.save_for_backward(part, places)
        ctx.sizes = x.shape, kernel, stride, step, width_stride
        return functional.avg_pool2d(x, kernel, stride), pooled

    @staticmethod
    def backward(ctx, of_tap: torch.Tensor, of_pooled: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        part, places = ctx.saved_tensors
        shape, kernel, stride, step, width_stride = ctx.sizes
        # the average's, one line for each line of windows, goes to all lines of pixels in them
        lines = of_tap.contiguous(memory_format=torch.channels_last)
        lines = aten.avg_pool2d_backward(lines, lines.new_empty(*lines.shape[:3], shape[3]), [1, kernel[1]],
                                         [1, stride[1]], [0, 0], False, True, kernel[0] * kernel[1])
        gradient = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
        if places.dtype == torch.uint8:
            share(_tap_and_pool_gradient, shape[0], 1, bits(lines), kernel[0], bits(of_pooled), rows_of(places),
                  width_stride, step, bits(gradient))
        else:
            rows = lines.shape[2]
            gradient[:, :, :rows * kernel[0]].unflatten(2, (rows, kernel[0])).copy_(lines.unsqueeze(3))
            gradient[:, :, rows * kernel[0]:].zero_()
            gradient[:, ::step].add_(aten.max_pool2d_with_indices_backward(
                of_pooled, part, [3, 3], [1, width_stride], [0, 0], [1, 1], False, places))
        return gradient, None, None, None, None


class NormReLU(torch.autograd.Function):
    """Batch norm in training and the ReLU behind it: where the output was 0 follows from the input once more."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
                ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The output of bfloat16 maps ``x`` (N, C, H, W), and each channel's mean and (biased) variance, float64."""
        values = places_of(x)
        moments = np.empty((len(x), 2, x.shape[1]), np.float32)
        share(_moments, len(x), 1, values, moments)
        means, variances = torch.from_numpy(moments).double().unbind(dim=1)
        mean = means.mean(dim=0)
        variance = (variances + (means - mean).square()).mean(dim=0)
        inverse = (variance + eps).rsqrt()
        scale = (weight * inverse).float()
        shift = (bias - mean * weight * inverse).float()
        output = torch.empty_like(x, memory_format=torch.channels_last)
        share(_scale_and_rectify, len(x), 1, values, scale.numpy(), shift.numpy(), places_of(output))
        ctx.save_for_backward(x, mean, inverse, scale, shift)
        ctx.mark_non_differentiable(mean, variance)
        return output, mean, variance

    @staticmethod
    def backward(ctx, gradient: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, mean, inverse, scale, shift = ctx.saved_tensors
        given = places_of(gradient), places_of(x), scale.numpy(), shift.numpy()
        sums = np.empty((len(x), 2, x.shape[1]), np.float32)
        share(_gradient_sums, len(x), 1, *given, mean.float().numpy(), sums)
        of_bias, of_deviation = torch.from_numpy(sums).double().sum(dim=0)
        count = x.numel() // x.shape[1]
        slope = -scale * inverse.square() * of_deviation / count
        offset = -scale * of_bias / count - slope * mean
        result = torch.empty_like(x, memory_format=torch.channels_last)
        share(_norm_gradient, len(x), 1, *given, slope.float().numpy(), offset.float().numpy(), places_of(result))
        return result, (of_deviation * inverse).to(scale.dtype), of_bias.to(scale.dtype), None


def norm_relu(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """A batch norm in training and the ReLU behind it, of maps that are ``in_bits``."""
    output, mean, variance = NormReLU.apply(x, norm.weight, norm.bias, norm.eps)
    with torch.no_grad():
        count = x.numel() // x.shape[1]
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean.float(), norm.momentum)
        norm.running_var.lerp_((variance * count / max(1, count - 1)).float(), norm.momentum)
    return output


def in_bits(x: torch.Tensor) -> bool:
    """Whether maps are bfloat16 numbers on the CPU."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu"


def rows_of(maps: torch.Tensor) -> np.ndarray:
    """Maps (N, C, H, W) as an array (N, H, W, C), without a copy where they are channels-last in memory."""
    return maps.permute(0, 2, 3, 1).contiguous().numpy()


def bits(maps: torch.Tensor) -> np.ndarray:
    """The bits of bfloat16 maps (N, C, H, W) as integers (N, H, W, C)."""
    return rows_of(maps.detach().view(torch.int16))


def places_of(maps: torch.Tensor) -> np.ndarray:
    """The bits of bfloat16 maps (N, C, H, W) as integers (N, H * W, C)."""
    return bits(maps).reshape(len(maps), -1, maps.shape[1])


def pool(x: torch.Tensor, width_stride: int) -> tuple[torch.Tensor, torch.Tensor]:
    """3x3 max-pool of bfloat16 maps (N, C, H, W) without negative numbers, whose bits have their order.

    Also which of its nine each maximum was, uint8.
    """
    count, channels, height, width = x.shape
    sizes = count, height - 2, (width - 3) // width_stride + 1, channels
    highest, places = np.empty(sizes, np.int16), np.empty(sizes, np.uint8)
    share(_pool, count, 1, bits(x), width_stride, highest, places)
    maxima = torch.from_numpy(highest).view(torch.bfloat16)
    return maxima.permute(0, 3, 1, 2), torch.from_numpy(places).permute(0, 3, 1, 2)


@compiled
def _pool(x: np.ndarray, width_stride: int, highest: np.ndarray, places: np.ndarray, first: int, last: int) -> None:
    """The samples from ``first`` to ``last``: maxima (N, h, w, C) of bits ``x`` (N, H, W, C), and where they were."""
    _, rows, columns, channels = highest.shape
    for sample in range(first, last):
        for row in range(rows):
            for column in range(columns):
                left = width_stride * column
                for channel in range(channels):
                    best, place = x[sample, row, left, channel], np.uint8(0)
                    for down in range(3):
                        for across in range(3):
                            value = x[sample, row + down, left + across, channel]
                            place = np.uint8(3 * down + across) if value > best else place
                            best = max(best, value)
                    highest[sample, row, column, channel] = best
                    places[sample, row, column, channel] = place


@compiled
def _tap_and_pool_gradient(lines: np.ndarray, height: int, of_pooled: np.ndarray, places: np.ndarray, width_stride: int,
                           step: int, gradient: np.ndarray, first: int, last: int) -> None:
    """The samples from ``first`` to ``last`` of ``gradient`` (N, H, W, C): bits of bfloat16 numbers, as all but places.

    Every line (N, h, W, C) goes to ``height`` lines of it; ``of_pooled`` (N, h, w, c) is added to each ``step``-th
    channel where the maximum was.
    """
    _, rows, columns, channels = of_pooled.shape
    _, whole_rows, whole_columns, _ = gradient.shape
    sums = np.zeros((whole_rows, whole_columns, channels), np.float32)
    flat, number = sums.reshape(-1), np.zeros(channels, np.int32)
    value = number.view(np.float32)
    steps = np.array([(down * whole_columns + across) * channels for down in range(3) for across in range(3)])
    for sample in range(first, last):
        sums[:] = 0
        for row in range(rows):
            for column in range(columns):
                for channel in range(channels):
                    number[channel] = np.int32(of_pooled[sample, row, column, channel]) << np.int32(16)
                start = (row * whole_columns + width_stride * column) * channels
                for channel in range(channels):
                    flat[start + steps[places[sample, row, column, channel]] + channel] += value[channel]
        for row in range(whole_rows):
            target = gradient[sample, row].reshape(-1)
            if row // height < lines.shape[1]:
                target[:] = lines[sample, row // height].reshape(-1)
            else:
                target[:] = 0
            if step == 1:  # the compiler makes much more of numbers that lie side by side
                _add(target, sums[row].reshape(-1))
            else:
                _add(target[::step], sums[row].reshape(-1))


@compiled
def _add(target: np.ndarray, others: np.ndarray) -> None:
    """Add float32 numbers to bfloat16 numbers, given as bits, and round to the nearest, of two to the even one."""
    number = np.empty(len(target), np.int32)
    value = number.view(np.float32)
    for place in range(len(target)):
        number[place] = np.int32(target[place]) << np.int32(16)
    for place in range(len(target)):
        value[place] += others[place]
    _round(number, target)


@compiled
def _moments(x: np.ndarray, moments: np.ndarray, first: int, last: int) -> None:
    """Each channel's mean and variance in the samples (N, P, C) from ``first`` to ``last``: (N, 2, C)."""
    _, places, channels = x.shape
    number = np.empty((2, channels), np.int32)
    value = number.view(np.float32)
    for sample in range(first, last):
        total = moments[sample]
        total[:] = 0
        for channel in range(channels):  # sums of what is near 0 are exact ones
            number[1, channel] = np.int32(x[sample, 0, channel]) << np.int32(16)
        for place in range(places):
            for channel in range(channels):
                number[0, channel] = np.int32(x[sample, place, channel]) << np.int32(16)
            for channel in range(channels):
                value[0, channel] -= value[1, channel]
            for channel in range(channels):
                total[0, channel] += value[0, channel]
                total[1, channel] += value[0, channel] * value[0, channel]
        for channel in range(channels):
            mean = total[0, channel] / places
            total[0, channel] = value[1, channel] + mean
            total[1, channel] = max(total[1, channel] / places - mean * mean, 0)


@compiled
def _scale_and_rectify(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, output: np.ndarray, first: int, last: int
                   ) -> None:
    """``scale * x + shift``, 0 where that is less, for the samples (N, P, C) from ``first`` to ``last``."""
    _, places, channels = x.shape
    number = np.empty(channels, np.int32)
    value = number.view(np.float32)
    for sample in range(first, last):
        for place in range(places):
            for channel in range(channels):
                number[channel] = np.int32(x[sample, place, channel]) << np.int32(16)
            for channel in range(channels):
                total = scale[channel] * value[channel] + shift[channel]
                value[channel] = np.float32(0) if total < 0 else total  # what is no number stays none
            for channel in range(channels):
                odd = (number[channel] >> np.int32(16)) & np.int32(1)
                output[sample, place, channel] = (number[channel] + np.int32(0x7FFF) + odd) >> np.int32(16)


@compiled
def _gradient_sums(gradient: np.ndarray, x: np.ndarray, scale: np.ndarray, shift: np.ndarray, mean: np.ndarray,
               sums: np.ndarray, first: int, last: int) -> None:
    """Each channel's sum of the gradient before the ReLU, and of it times ``x - mean``: (N, 2, C)."""
    _, places, channels = x.shape
    number = np.empty((2, channels), np.int32)
    value = number.view(np.float32)
    for sample in range(first, last):
        total = sums[sample]
        total[:] = 0
        for place in range(places):
            for channel in range(channels):
                number[0, channel] = np.int32(x[sample, place, channel]) << np.int32(16)
                number[1, channel] = np.int32(gradient[sample, place, channel]) << np.int32(16)
            for channel in range(channels):
                above = scale[channel] * value[0, channel] + shift[channel] > 0
                value[1, channel] = value[1, channel] if above else np.float32(0)
            for channel in range(channels):
                total[0, channel] += value[1, channel]
                total[1, channel] += value[1, channel] * (value[0, channel] - mean[channel])


@compiled
def _norm_gradient(gradient: np.ndarray, x: np.ndarray, scale: np.ndarray, shift: np.ndarray, slope: np.ndarray,
               offset: np.ndarray, result: np.ndarray, first: int, last: int) -> None:
    """``scale`` times the gradient before the ReLU, plus ``slope * x + offset``, for samples ``first`` to ``last``."""
    _, places, channels = x.shape
    number = np.empty((2, channels), np.int32)
    value = number.view(np.float32)
    for sample in range(first, last):
        for place in range(places):
            for channel in range(channels):
                number[0, channel] = np.int32(x[sample, place, channel]) << np.int32(16)
                number[1, channel] = np.int32(gradient[sample, place, channel]) << np.int32(16)
            for channel in range(channels):
                above = scale[channel] * value[0, channel] + shift[channel] > 0
                value[1, channel] = value[1, channel] if above else np.float32(0)
            for channel in range(channels):
                total = scale[channel] * value[1, channel] + slope[channel] * value[0, channel]
                value[0, channel] = total + offset[channel]
            for channel in range(channels):
                odd = (number[0, channel] >> np.int32(16)) & np.int32(1)
                result[sample, place, channel] = (number[0, channel] + np.int32(0x7FFF) + odd) >> np.int32(16)


@compiled
def _round(number: np.ndarray, target: np.ndarray) -> None:
    """Round float32 numbers, given as bits, to bfloat16 numbers: to the nearest, of two to the even one."""
    for place in range(len(number)):
        odd = (number[place] >> np.int32(16)) & np.int32(1)
        target[place] = (number[place] + np.int32(0x7FFF) + odd) >> np.int32(16)
