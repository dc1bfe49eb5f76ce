"""Layers of LPRNet with one gradient for several of them: what mixed-precision training on the CPU spends its time on.

There they are machine code that works on the bits of bfloat16 numbers, channels last in memory. A step mostly waits for
memory: what counts is how often maps are read and written. The loops repeat some lines on purpose. As a function of
their own they take ten times as long, since the compiler must allow for two of its arrays being the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from platekit import distributed
from platekit.compiled import COMPILES, compiled, in_threads

aten = torch.ops.aten
DROPPED = 1024  # numbers at a time
Maps = torch.Tensor  # (N, C, H, W)


class TapAndPool(torch.autograd.Function):
    """A tap of the global context and the pool that follows it, as torch computes them on any device.

    Left to itself autograd makes a full-sized gradient of each and adds them.
    """

    @staticmethod
    def forward(ctx, x: Maps, kernel: tuple[int, int], stride: tuple[int, int], step: int, width_stride: int
                ) -> tuple[Maps, Maps]:
        """``x`` averaged in windows of ``kernel``, which don't overlap in height, and max-pooled."""
        part = x[:, ::step].contiguous(memory_format=torch.channels_last)
        pooled, places = functional.max_pool2d(part, 3, stride=(1, width_stride), return_indices=True)
        ctx.save_for_backward(part, places)
        ctx.sizes = x.shape, kernel, stride, step, width_stride
        return functional.avg_pool2d(x, kernel, stride), pooled

    @staticmethod
    def backward(ctx, of_tap: Maps, of_pooled: Maps) -> tuple[Maps | None, ...]:
        part, places = ctx.saved_tensors
        shape, kernel, stride, step, width_stride = ctx.sizes
        # the average's, one line for each line of windows, goes to all lines of pixels in them
        lines = of_tap.contiguous(memory_format=torch.channels_last)
        lines = aten.avg_pool2d_backward(lines, lines.new_empty(*lines.shape[:3], shape[3]), [1, kernel[1]],
                                         [1, stride[1]], [0, 0], False, True, kernel[0] * kernel[1])
        gradient = torch.empty(shape, dtype=part.dtype, device=part.device, memory_format=torch.channels_last)
        rows = lines.shape[2]
        gradient[:, :, :rows * kernel[0]].unflatten(2, (rows, kernel[0])).copy_(lines.unsqueeze(3))
        gradient[:, :, rows * kernel[0]:].zero_()
        gradient[:, ::step].add_(aten.max_pool2d_with_indices_backward(
            of_pooled, part, [3, 3], [1, width_stride], [0, 0], [1, 1], False, places))
        return gradient, None, None, None, None


class NormReLU(torch.autograd.Function):
    """Batch norm in training and the ReLU behind it: where the output was 0 follows from the input once more."""

    @staticmethod
    def forward(ctx, x: Maps, weight: torch.Tensor, bias: torch.Tensor, eps: float
                ) -> tuple[Maps, torch.Tensor, torch.Tensor]:
        """The output of bfloat16 maps, and each channel's mean and (unbiased) variance, float64."""
        mean, variance, *saved, scale, shift = batch_statistics(x, weight, bias, eps)
        output = torch.empty_like(x, memory_format=torch.channels_last)
        in_threads(_scale_and_rectify, len(x), 1, flat_bits(x), scale.numpy(), shift.numpy(), flat_bits(output))
        ctx.save_for_backward(x, mean, *saved, scale, shift)
        ctx.mark_non_differentiable(mean, variance)
        return output, mean, variance

    @staticmethod
    def backward(ctx, gradient: Maps, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, mean, *_, scale, shift = ctx.saved_tensors
        sums = np.empty((len(x), 2, x.shape[1]), np.float32)
        in_threads(_gradient_sums, len(x), 1, flat_bits(gradient), flat_bits(x), scale.numpy(), shift.numpy(),
                   mean.float().numpy(), sums)
        result = torch.empty_like(x, memory_format=torch.channels_last)
        return *gradients(gradient, result, sums, ctx.saved_tensors), None


class NormTapPool(torch.autograd.Function):
    """``NormReLU`` with the tap and the pool behind it, as in ``TapAndPool``: the maps between are written nowhere."""

    @staticmethod
    def forward(ctx, x: Maps, weight: torch.Tensor, bias: torch.Tensor, eps: float, kernel: tuple[int, int],
                stride: tuple[int, int], step: int, width_stride: int) -> tuple[Maps, Maps, torch.Tensor, torch.Tensor]:
        """Tap and pooled maps of bfloat16 maps, and each channel's mean and (unbiased) variance, float64."""
        mean, variance, *saved, scale, shift = batch_statistics(x, weight, bias, eps)
        count, channels, height, width = x.shape
        tap = np.empty((count, height // kernel[0], (width - kernel[1]) // stride[1] + 1, channels), np.int16)
        pooled = np.empty((count, height - 2, (width - 3) // width_stride + 1, channels // step), np.int16)
        places = np.empty(pooled.shape, np.uint8)  # which of its nine each maximum was
        ctx.sizes = kernel, stride[1], width_stride
        in_threads(_norm_tap_pool, count, 1, bits(x), scale.numpy(), shift.numpy(), *ctx.sizes, tap, pooled, places)
        ctx.save_for_backward(x, mean, *saved, scale, shift)
        ctx.places = places
        ctx.mark_non_differentiable(mean, variance)
        return maps_of(tap), maps_of(pooled), mean, variance

    @staticmethod
    def backward(ctx, of_tap: Maps, of_pooled: Maps, *_: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, mean, *_, scale, shift = ctx.saved_tensors
        gradient = torch.empty_like(x, memory_format=torch.channels_last)
        sums = np.empty((len(x), 2, x.shape[1]), np.float32)
        in_threads(_tap_and_pool_gradient, len(x), 1, bits(x), scale.numpy(), shift.numpy(), mean.float().numpy(),
                   bits(of_tap), bits(of_pooled), ctx.places, *ctx.sizes, bits(gradient), sums)
        return *gradients(gradient, gradient, sums, ctx.saved_tensors), None, None, None, None, None


class Drop(torch.autograd.Function):
    """Dropout of bfloat16 maps by a random byte each: those below ``dropped`` of 256 become 0, the others larger."""

    @staticmethod
    def forward(ctx, x: Maps, random: torch.Tensor, dropped: int) -> Maps:
        ctx.random, ctx.dropped = random, dropped
        return Drop.drop(x, random, dropped)

    @staticmethod
    def backward(ctx, gradient: Maps) -> tuple[Maps, None, None]:
        return Drop.drop(gradient, ctx.random, ctx.dropped), None, None

    @staticmethod
    def drop(x: Maps, random: torch.Tensor, dropped: int) -> Maps:
        result = torch.empty_like(x, memory_format=torch.channels_last)
        values, output = bits(x).reshape(-1), bits(result).reshape(-1)
        in_threads(_drop, math.ceil(len(values) / DROPPED), 16, values, random.numpy(), dropped, output)
        return result


def batch_statistics(x: Maps, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> tuple[torch.Tensor, ...]:
    """Of each channel of bfloat16 maps, those of all processes: mean, unbiased variance and 1 / deviation, float64; how
    many numbers these are of; a norm's factor and summand."""
    moments = np.empty((len(x), 2, x.shape[1]), np.float32)
    in_threads(_moments, len(x), 1, flat_bits(x), moments)
    means, variances = torch.from_numpy(moments).double().unbind(dim=1)
    samples = torch.full_like(means[0], len(x))
    samples, mean, square = distributed.total(torch.stack([samples, means.sum(0), (variances + means.square()).sum(0)]))
    mean, square, count = mean / samples, square / samples, samples * (x.numel() // x.shape[1] // len(x))
    variance = (square - mean.square()).clamp_(min=0)
    inverse = (variance + eps).rsqrt()
    unbiased = variance * count / (count - 1).clamp_(min=1)
    return mean, unbiased, inverse, count, (weight * inverse).float(), (bias - mean * weight * inverse).float()


def gradients(given: Maps, result: Maps, sums: np.ndarray, saved: tuple[torch.Tensor, ...]
              ) -> tuple[Maps, torch.Tensor, torch.Tensor]:
    """A norm's gradients of its input, weight and bias, from the one behind its ReLU and what ``_gradient_sums`` says.

    The first is written to ``result``, which may be the maps that are ``given``. The others are of this process's
    samples alone.
    """
    x, mean, inverse, count, scale, shift = saved
    own = torch.from_numpy(sums).double().sum(dim=0)
    of_bias, of_deviation = distributed.total(own.clone())
    slope = -scale * inverse.square() * of_deviation / count
    offset = -scale * of_bias / count - slope * mean
    in_threads(_norm_gradient, len(x), 1, flat_bits(given), flat_bits(x), scale.numpy(), shift.numpy(),
               slope.float().numpy(), offset.float().numpy(), flat_bits(result))
    return result, (own[1] * inverse).to(scale.dtype), own[0].to(scale.dtype)


def norm_relu(norm: nn.BatchNorm2d, x: Maps) -> Maps:
    """A batch norm in training and the ReLU behind it, of maps for which ``works_on_bits``."""
    output, *seen = NormReLU.apply(x, norm.weight, norm.bias, norm.eps)
    remember(norm, *seen)
    return output


def norm_tap_pool(norm: nn.BatchNorm2d, x: Maps, kernel: tuple[int, int], stride: tuple[int, int], step: int,
                  width_stride: int) -> tuple[Maps, Maps]:
    """``norm_relu``, and the tap and the pool (3x3, of every ``step``-th channel) behind them."""
    tap, pooled, *seen = NormTapPool.apply(x, norm.weight, norm.bias, norm.eps, kernel, stride, step, width_stride)
    remember(norm, *seen)
    return tap, pooled


@torch.no_grad()
def remember(norm: nn.BatchNorm2d, mean: torch.Tensor, variance: torch.Tensor) -> None:
    """Let a batch norm's running statistics follow those of a batch."""
    assert norm.momentum is not None  # which would ask for the mean over all batches
    norm.get_buffer("num_batches_tracked").add_(1)
    norm.get_buffer("running_mean").lerp_(mean.float(), norm.momentum)
    norm.get_buffer("running_var").lerp_(variance.float(), norm.momentum)


def works_on_bits(x: Maps) -> bool:
    """Whether the machine code here takes these maps: bfloat16 on the CPU, with numba."""
    return COMPILES and x.dtype == torch.bfloat16 and x.device.type == "cpu"


def bits(maps: Maps) -> np.ndarray:
    """The bits of bfloat16 maps as integers (N, H, W, C), without a copy where they are channels-last in memory."""
    return maps.detach().view(torch.int16).permute(0, 2, 3, 1).contiguous().numpy()


def flat_bits(maps: Maps) -> np.ndarray:
    """The bits of bfloat16 maps as integers (N, H * W, C)."""
    return bits(maps).reshape(len(maps), -1, maps.shape[1])


def maps_of(rows: np.ndarray) -> Maps:
    """The bfloat16 maps of bits (N, H, W, C)."""
    return torch.from_numpy(rows).view(torch.bfloat16).permute(0, 3, 1, 2)


@compiled
def _widened(number: np.integer) -> np.integer:
    """The bits of the float32 that a bfloat16 number, given by its bits, is."""
    return np.int32(number) << np.int32(16)


@compiled
def _rounded(number: np.integer) -> np.integer:
    """The bits of the nearest bfloat16 number to a float32, given by its bits; of two as near, the even one's."""
    return (number + np.int32(0x7FFF) + ((number >> np.int32(16)) & np.int32(1))) >> np.int32(16)


@compiled
def _pool(x: np.ndarray, width_stride: int, highest: np.ndarray, places: np.ndarray) -> None:
    """Maxima (h, w, C) of bits ``x`` (H, W, C) in windows of 3x3, and which of its nine each was."""
    rows, columns, channels = highest.shape
    for row in range(rows):
        for column in range(columns):
            left = width_stride * column
            for channel in range(channels):
                best, place = x[row, left, channel], np.uint8(0)
                for down in range(3):
                    for across in range(3):
                        value = x[row + down, left + across, channel]
                        place = np.uint8(3 * down + across) if value > best else place
                        best = max(best, value)
                highest[row, column, channel] = best
                places[row, column, channel] = place


@compiled
def _moments(x: np.ndarray, moments: np.ndarray, first: int, last: int) -> None:
    """Each channel's mean and variance in the samples (N, P, C) from ``first`` to ``last``: (N, 2, C)."""
    _, places, channels = x.shape
    number = np.empty((2, channels), np.int32)
    value = number.view(np.float32)
    for sample in range(first, last):
        total = moments[sample]
        total[:] = 0
        for channel in range(channels):  # is subtracted: sums of numbers near 0 lose fewer digits
            number[1, channel] = _widened(x[sample, 0, channel])
        for place in range(places):
            for channel in range(channels):
                number[0, channel] = _widened(x[sample, place, channel])
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
                number[channel] = _widened(x[sample, place, channel])
            for channel in range(channels):
                total = scale[channel] * value[channel] + shift[channel]
                value[channel] = np.float32(0) if total < 0 else total  # NaN stays NaN
            for channel in range(channels):
                output[sample, place, channel] = _rounded(number[channel])


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
                number[0, channel] = _widened(x[sample, place, channel])
                number[1, channel] = _widened(gradient[sample, place, channel])
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
                number[0, channel] = _widened(x[sample, place, channel])
                number[1, channel] = _widened(gradient[sample, place, channel])
            for channel in range(channels):
                above = scale[channel] * value[0, channel] + shift[channel] > 0
                value[1, channel] = value[1, channel] if above else np.float32(0)
            for channel in range(channels):
                total = scale[channel] * value[1, channel] + slope[channel] * value[0, channel]
                value[0, channel] = total + offset[channel]
            for channel in range(channels):
                result[sample, place, channel] = _rounded(number[0, channel])


@compiled
def _drop(x: np.ndarray, random: np.ndarray, dropped: int, output: np.ndarray, first: int, last: int) -> None:
    """``Drop`` for the pieces of ``DROPPED`` numbers from ``first`` to ``last``."""
    number = np.empty(DROPPED, np.int32)
    value = number.view(np.float32)
    least, factor = np.int32(dropped), np.float32(256 / (256 - dropped))
    for start in range(first * DROPPED, min(last * DROPPED, len(x)), DROPPED):
        seen, chance, target = x[start:start + DROPPED], random[start:start + DROPPED], output[start:start + DROPPED]
        for place in range(len(seen)):
            number[place] = _widened(seen[place])
        for place in range(len(seen)):
            value[place] *= factor if np.int32(chance[place]) >= least else np.float32(0)
        for place in range(len(seen)):
            target[place] = _rounded(number[place])


@compiled
def _norm_tap_pool(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, kernel: tuple[int, int], stride: int,
                   width_stride: int, tap: np.ndarray, highest: np.ndarray, places: np.ndarray, first: int, last: int
                   ) -> None:
    """What ``_scale_and_rectify`` makes of samples (N, H, W, C): the tap's averages, and ``_pool`` of some channels.

    The averages' windows are ``kernel`` large, one below another, and ``stride`` apart in width.
    """
    _, rows, columns, channels = x.shape
    taken = highest.shape[3]
    step = channels // taken
    lines = np.empty((columns, channels), np.float32)  # sums over the height of a window
    part = np.empty((rows, columns, taken), np.int16)
    number = np.empty(channels, np.int32)
    value = number.view(np.float32)
    share = np.float32(1 / (kernel[0] * kernel[1]))
    for sample in range(first, last):
        for row in range(rows):
            seen, kept = x[sample, row], part[row]
            if row % kernel[0] == 0:
                lines[:] = 0
            for column in range(columns):
                for channel in range(channels):
                    number[channel] = _widened(seen[column, channel])
                for channel in range(channels):
                    total = scale[channel] * value[channel] + shift[channel]
                    value[channel] = np.float32(0) if total < 0 else total  # NaN stays NaN
                for channel in range(channels):
                    lines[column, channel] += value[channel]
                if step > 1:  # the compiler makes much more of numbers that lie side by side
                    for channel in range(taken):
                        number[channel] = number[step * channel]
                for channel in range(taken):
                    kept[column, channel] = _rounded(number[channel])
            if row % kernel[0] == kernel[0] - 1 and row // kernel[0] < tap.shape[1]:
                for column in range(tap.shape[2]):
                    target = tap[sample, row // kernel[0], column]
                    value[:] = 0
                    for place in range(stride * column, stride * column + kernel[1]):
                        for channel in range(channels):
                            value[channel] += share * lines[place, channel]
                    for channel in range(channels):
                        target[channel] = _rounded(number[channel])
        _pool(part, width_stride, highest[sample], places[sample])


@compiled
def _tap_and_pool_gradient(x: np.ndarray, scale: np.ndarray, shift: np.ndarray, mean: np.ndarray, of_tap: np.ndarray,
                           of_pooled: np.ndarray, places: np.ndarray, kernel: tuple[int, int], stride: int,
                           width_stride: int, gradient: np.ndarray, sums: np.ndarray, first: int, last: int) -> None:
    """The gradient before the ReLU of what ``_norm_tap_pool`` computes, and what ``_gradient_sums`` says of it."""
    _, rows, columns, channels = x.shape
    taken = of_pooled.shape[3]
    step = channels // taken
    lines = np.empty((columns, channels), np.float32)  # of the tap's windows, for all lines of pixels in them
    maxima = np.empty((rows, columns, taken), np.float32)
    flat, passed = maxima.reshape(-1), np.empty(taken, np.int32)
    passing = passed.view(np.float32)
    steps = np.array([(down * columns + across) * taken for down in range(3) for across in range(3)])
    number = np.empty((2, channels), np.int32)
    value = number.view(np.float32)
    share = np.float32(1 / (kernel[0] * kernel[1]))
    for sample in range(first, last):
        total = sums[sample]
        total[:] = 0
        maxima[:] = 0
        for row in range(of_pooled.shape[1]):
            for column in range(of_pooled.shape[2]):
                for channel in range(taken):
                    passed[channel] = _widened(of_pooled[sample, row, column, channel])
                start = (row * columns + width_stride * column) * taken
                for channel in range(taken):
                    flat[start + steps[places[sample, row, column, channel]] + channel] += passing[channel]
        for row in range(rows):
            seen, target = x[sample, row], gradient[sample, row]
            if row % kernel[0] == 0:
                lines[:] = 0
                for column in range(of_tap.shape[2] if row // kernel[0] < of_tap.shape[1] else 0):
                    for channel in range(channels):
                        number[0, channel] = _widened(of_tap[sample, row // kernel[0], column, channel])
                    for place in range(stride * column, stride * column + kernel[1]):
                        for channel in range(channels):
                            lines[place, channel] += share * value[0, channel]
            for column in range(columns):
                for channel in range(channels):
                    number[0, channel] = _widened(seen[column, channel])
                for channel in range(channels):
                    value[1, channel] = lines[column, channel]
                if step == 1:
                    for channel in range(taken):
                        value[1, channel] += maxima[row, column, channel]
                else:
                    for channel in range(taken):
                        value[1, step * channel] += maxima[row, column, channel]
                for channel in range(channels):
                    above = scale[channel] * value[0, channel] + shift[channel] > 0
                    value[1, channel] = value[1, channel] if above else np.float32(0)
                for channel in range(channels):
                    total[0, channel] += value[1, channel]
                    total[1, channel] += value[1, channel] * (value[0, channel] - mean[channel])
                for channel in range(channels):
                    target[column, channel] = _rounded(number[1, channel])
