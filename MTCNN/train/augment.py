"""Training samples changed in colour, light and sharpness, a whole batch at a time, on any device."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from ccpd.camera import motion_kernel
from platekit.crops import normalise

LIT, MOVED = 0.25, 0.2  # shares of the samples


def prepare(pixels: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
    """Network input of bytes (N, 3, h, w), augmented. Draws come from ``generator``, or from the device's own."""
    with torch.autocast(pixels.device.type, enabled=False):  # that of a training step is for the net
        lit = light_some(pixels.float(), generator)
        coloured = change_colours(lit, generator)
        return normalise(blur_some(coloured, generator))


def change_colours(pixels: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Float pixels 0..255 (N, 3, h, w) with other gains, offsets and contrasts; some grey, some with swapped channels.

    Swapped channels keep the nets from leaning on blue alone: plates are green, yellow, white and black as well.
    """

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(len(pixels), *shape, generator=generator, device=pixels.device) * (high - low) + low

    swapped = uniform(0, 1) < 0.12
    if swapped.any():
        order = torch.randperm(3, generator=generator, device=pixels.device)
        pixels = torch.where(swapped[:, None, None, None], pixels[:, order], pixels)
    grey = (uniform(0, 1) < 0.08).float()[:, None, None, None]
    pixels = pixels + grey * (pixels.mean(1, keepdim=True) - pixels)
    gain = uniform(0.75, 1.25, 1, 1, 1) * uniform(0.92, 1.08, 3, 1, 1)
    mean = pixels.mean((1, 2, 3), keepdim=True)
    contrast = uniform(0.75, 1.25, 1, 1, 1)
    pixels = ((pixels - mean) * contrast + mean) * gain + uniform(-20, 20, 1, 1, 1)
    return pixels.clamp_(0, 255)


def light_some(pixels: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Float pixels 0..255 (N, 3, h, w), ``LIT`` of them half in shadow, streaked by one, or under a reflection.

    The training photos hardly show that; outdoors the edge of a shadow crosses many a plate, and part of it is in none
    of the colours that a plate has.
    """
    device = pixels.device
    chosen = torch.nonzero(torch.rand(len(pixels), generator=generator, device=device) < LIT)[:, 0]
    _, _, height, width = pixels.shape

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(len(chosen), *(shape or (1, 1)), generator=generator, device=device) * (high - low) + low

    columns, rows = torch.arange(width, device=device), torch.arange(height, device=device)[:, None]
    x, y = columns - uniform(0, width), rows - uniform(0, height)
    angle, softness, streak = uniform(0, 2 * math.pi), uniform(-1, 1.5).exp(), uniform(0.1, 2) * height
    across = x * angle.cos() + y * angle.sin()
    shadow = (across / softness).sigmoid() - ((across - streak) / softness).sigmoid() * (uniform(0, 1) < 0.4)
    dark = pixels[chosen] * (1 - shadow[:, None] * uniform(0.2, 0.9, 1, 1, 1) * uniform(0.9, 1.1, 3, 1, 1))
    spot = (-(x / uniform(0.05, 0.4) / width) ** 2 - (y / uniform(0.2, 1.5) / height) ** 2).exp()[:, None]
    bright = torch.lerp(pixels[chosen], pixels.new_tensor(255.0), spot * uniform(0.3, 1, 1, 1, 1))
    lit = pixels.clone()
    lit[chosen] = torch.where(uniform(0, 1, 1, 1, 1) < 0.75, dark, bright).clamp_(0, 255)
    return lit


def blur_some(pixels: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Float pixels (N, 3, h, w), ``MOVED`` of them moved while exposed: one direction and length for the batch.

    Photos blurred as a whole are few among the samples, and blurred plates the hardest to tell from their surroundings.
    """
    moved = torch.rand(len(pixels), generator=generator, device=pixels.device) < MOVED
    length, angle = torch.rand(2, generator=generator, device=pixels.device).tolist()
    kernel = motion_kernel(pixels.shape[3] * (0.02 + 0.15 * length), math.pi * angle)
    if moved.any():
        pixels = pixels.clone()
        padded = functional.pad(pixels[moved], 4 * (len(kernel) // 2,), mode="replicate")
        weight = torch.from_numpy(kernel).to(pixels.device)[None, None]
        pixels[moved] = functional.conv2d(padded.flatten(0, 1)[:, None], weight)[:, 0].unflatten(0, (-1, 3))
    return pixels
