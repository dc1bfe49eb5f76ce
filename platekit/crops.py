"""The crops that both stages see, cut out of a picture on any device, and what the nets take for pixels."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from platekit.boxes import checked_boxes
from platekit.compiled import COMPILES, compiled, in_threads
from platekit.images import check_picture
from platekit.opencv import cv2

CROP_SIZE = (24, 94)  # height, width of the crop that ONet, STNet and LPRNet see
SAMPLES_PER_PIXEL = (4, 2)  # of the picture, one below another and side by side, for a pixel of a transformed crop
LEAST_CROPS = 8  # for a thread
MIDDLE, SPAN = 127.5, 128  # of pixel values: the nets take (x - MIDDLE) / SPAN


def upload(image: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """A BGR uint8 picture (H, W, 3) as uint8 (1, 3, H, W) on the device, channels last in memory.

    Raises ValueError for any other array.
    """
    check_picture(image)
    pixels = torch.from_numpy(np.require(image, requirements=("C", "W")))  # of one that is not writable a copy
    pixels = pixels.pin_memory() if torch.device(device).type == "cuda" else pixels
    return pixels.to(device, non_blocking=True).permute(2, 0, 1).unsqueeze(0)


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Pixel values 0..255, of any shape, to network input, ``(x - MIDDLE) / SPAN``: float32 of bytes, or their type."""
    return pixels.float().sub_(MIDDLE).mul_(1 / SPAN) if pixels.dtype == torch.uint8 else (pixels - MIDDLE) / SPAN


def without_colours(crops: torch.Tensor) -> torch.Tensor:
    """Crops (N, 3, H, W) in BGR as shades of grey, of three equal channels, by ITU-R BT.601."""
    weights = crops.new_tensor([0.114, 0.587, 0.299]).view(3, 1, 1)
    return (crops * weights).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1)


def to_picture(pixels: torch.Tensor) -> np.ndarray:
    """Network input (..., 3, H, W) as BGR uint8 (..., H, W, 3): the inverse of ``normalise``."""
    return (pixels.detach() * SPAN + MIDDLE).round().clamp(0, 255).byte().movedim(-3, -1).cpu().contiguous().numpy()


def crop_resize(pixels: torch.Tensor, boxes: np.ndarray, size: tuple[int, int] = CROP_SIZE) -> torch.Tensor:
    """Cut ``boxes`` (N, 4) out of one picture (1, 3, H, W) and resize them: (N, 3, *size), on the picture's device.

    The picture is uint8, the crops are network input. Every output pixel is the mean over its part of the box (bilinear
    where the box is smaller than ``size``), so that large plates do not alias. Parts of a box outside the picture come
    out as mid-grey. Raises ValueError for a picture of floats and for boxes that are not finite or have no area.
    """
    if pixels.dtype != torch.uint8:
        raise ValueError(f"a picture of uint8 pixels is needed, not of {pixels.dtype}")
    boxes = checked_boxes(boxes)
    if pixels.device.type != "cpu" or not COMPILES:
        from torchvision.ops import roi_align  # the same function; to import it takes seconds

        rois = torch.from_numpy(np.pad(boxes, ((0, 0), (1, 0)))).to(pixels.device, non_blocking=True)
        return roi_align(normalise(pixels), rois, size, spatial_scale=1.0, sampling_ratio=-1, aligned=True)
    crops = np.empty((len(boxes), *size, 3), np.float32)
    in_threads(_cut, len(boxes), LEAST_CROPS, pixels[0].permute(1, 2, 0).contiguous().flatten(1).numpy(), boxes, crops)
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


@compiled
def _cut(lines: np.ndarray, boxes: np.ndarray, crops: np.ndarray, first: int, last: int) -> None:
    """Network input (N, h, w, 3), from box ``first`` to ``last``, out of the lines (H, 3 W) of a uint8 picture."""
    rows, columns = crops.shape[1:3]
    height, width = lines.shape[0], lines.shape[1] // 3
    for number in range(first, last):
        x1, y1, x2, y2 = boxes[number]
        tall, above, upper, lower = _samples(y1, y2, rows, height)
        wide, before, near, far = _samples(x1, x2, columns, width)
        left = 3 * before[0]
        sums = np.empty(3 * (before[-1] + 2) - left, np.float32)
        known = min(len(sums), lines.shape[1] - left)
        for row in range(rows):
            part = slice(row * tall, (row + 1) * tall)
            sums[:] = np.float32(-MIDDLE) * (upper[part].sum() + lower[part].sum())
            for sample in range(part.start, part.stop):
                line, following = lines[above[sample], left:], lines[min(above[sample] + 1, height - 1), left:]
                for place in range(known):
                    sums[place] += upper[sample] * line[place] + lower[sample] * following[place]
            for column in range(columns):
                blue = green = red = np.float32(0)
                for sample in range(column * wide, (column + 1) * wide):
                    place = 3 * before[sample] - left
                    blue += near[sample] * sums[place] + far[sample] * sums[place + 3]
                    green += near[sample] * sums[place + 1] + far[sample] * sums[place + 4]
                    red += near[sample] * sums[place + 2] + far[sample] * sums[place + 5]
                crop = crops[number, row, column]
                crop[0], crop[1], crop[2] = blue / SPAN, green / SPAN, red / SPAN


@compiled
def _samples(low: float, high: float, count: int, length: int) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """How ``count`` output pixels from ``low`` to ``high`` follow from a line of ``length`` input pixels.

    Every output pixel is the sum of as many bilinear samples, evenly spread over it, as it has input pixels, rounded
    up. Returns that number, and for all samples the pixel before it, and the weights of that one and the next.
    """
    samples = max(1, math.ceil((high - low) / count))
    step = (high - low) / (count * samples)
    before = np.empty(count * samples, np.int64)
    near, far = np.empty(count * samples, np.float32), np.empty(count * samples, np.float32)
    for sample in range(count * samples):
        place = low - 0.5 + step * (sample + 0.5)
        weight = (-1 <= place <= length) / samples
        place = min(max(place, 0), length - 1)
        before[sample] = int(place)
        far[sample] = (place - before[sample]) * weight
        near[sample] = weight - far[sample]
    return samples, before, near, far


def sample_boxes(pixels: torch.Tensor, boxes: np.ndarray, theta: torch.Tensor) -> torch.Tensor:
    """Crops (N, 3, *CROP_SIZE), network input, of ``boxes`` (N, 4) of a uint8 picture (1, 3, H, W), each transformed.

    The transforms ``theta`` (N, 2, 3) go from output to input, both in -1..1 over the box, and may lead out of it.
    Every output pixel is the mean of ``SAMPLES_PER_PIXEL`` bilinear samples. For a large box the picture is first made
    smaller by a power of two, so that samples lie at most two of its pixels apart, in the mean of both directions.
    Outside the picture (from one pixel beyond its border) samples are mid-grey. Raises ValueError as ``crop_resize``.
    """
    if pixels.dtype != torch.uint8:
        raise ValueError(f"a picture of uint8 pixels is needed, not of {pixels.dtype}")
    height, width = CROP_SIZE[0] * SAMPLES_PER_PIXEL[0], CROP_SIZE[1] * SAMPLES_PER_PIXEL[1]
    low, high = np.split(checked_boxes(boxes), 2, axis=1)
    factors = 2 ** np.floor(np.log2((high - low) / (width, height)).mean(axis=1)).clip(min=0).astype(int)
    half, centre = (torch.from_numpy(side / 2).to(theta.device, non_blocking=True) for side in (high - low, high + low))
    transforms = theta.float() * half[:, :, None]  # from -1..1 over the samples to pixels of the picture
    transforms[:, :, 2] += centre
    sample = _sample_by_opencv if pixels.device.type == "cpu" else _sample_by_torch
    return functional.avg_pool2d(sample(pixels, transforms, factors, (height, width)), SAMPLES_PER_PIXEL)


def _sample_by_opencv(pixels: torch.Tensor, transforms: torch.Tensor, factors: np.ndarray,
                      size: tuple[int, int]) -> torch.Tensor:
    """Samples (N, 3, *size) of a uint8 picture made smaller by ``factors`` (N,).

    ``transforms`` (N, 2, 3) go from -1..1 over the samples to pixels of the picture.
    """
    picture, transforms, (height, width) = pixels[0].permute(1, 2, 0).numpy(), transforms.numpy(), size
    reach = np.abs(transforms[:, :, :2]).sum(axis=2)
    sides = np.concatenate([transforms[:, :, 2] - reach, transforms[:, :, 2] + reach], axis=1)
    samples = np.empty((len(transforms), *size, 3), np.uint8)
    steps = np.array([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]], np.float32)
    boxes = list(zip(samples, transforms @ steps, factors.tolist(), sides.tolist()))

    def sample(first: int, last: int) -> None:
        for box in boxes[first:last]:
            _sample_one(picture, *box)

    in_threads(sample, len(boxes), LEAST_CROPS)
    return normalise(torch.from_numpy(samples)).permute(0, 3, 1, 2)


def _sample_one(picture: np.ndarray, sample: np.ndarray, transform: np.ndarray, factor: int,
                sides: list[float]) -> None:
    """Fill ``sample`` (h, w, 3) from the picture (H, W, 3) within ``sides`` (x1, y1, x2, y2); changes ``transform``,
    (2, 3) from the sample's pixels to the picture's."""
    # A pixel more than the samples see, and one that stands for the one behind the border.
    left, top = (max(0, math.floor(side / factor) - 2) * factor for side in sides[:2])
    right, bottom = (max(0, math.ceil(side / factor) + 2) * factor for side in sides[2:])
    part = picture[top:bottom, left:right]
    if not part.size:
        sample[:] = 127
        return
    transform[:, 2] -= left, top
    if left == 0 or top == 0 or right > picture.shape[1] or bottom > picture.shape[0]:
        down, across = (-side % factor + factor for side in part.shape[:2])
        part = cv2.copyMakeBorder(part, factor, down, factor, across, cv2.BORDER_REPLICATE)
        transform[:, 2] += factor
    if factor > 1:
        part = cv2.resize(part, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    transform /= factor
    transform[:, 2] -= 0.5  # OpenCV counts from the middle of the first pixel
    cv2.warpAffine(part, transform, sample.shape[1::-1], sample, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                   cv2.BORDER_CONSTANT, (127, 127, 127))


def _sample_by_torch(pixels: torch.Tensor, transforms: torch.Tensor, factors: np.ndarray,
                     size: tuple[int, int]) -> torch.Tensor:
    """``_sample_by_opencv`` in a few large calls, on any device: (N, 3, *size)."""
    picture = normalise(pixels)
    samples = picture.new_empty(len(transforms), 3, *size)
    for factor in np.unique(factors).tolist():
        mine = torch.from_numpy(np.flatnonzero(factors == factor)).to(transforms.device, non_blocking=True)
        down, across = (-side % factor + factor for side in picture.shape[2:])
        level = functional.pad(picture, (factor, across, factor, down), mode="replicate")
        if factor > 1:
            level = functional.avg_pool2d(level, factor)
        # from pixels of the picture to -1..1 over the level, which begins one of its own pixels before the picture
        transform = transforms[mine] * (2 / factor)
        transform[:, :, 2] += 2
        transform[:, 0] /= level.shape[3]
        transform[:, 1] /= level.shape[2]
        transform[:, :, 2] -= 1
        grid = functional.affine_grid(transform, [len(mine), 3, *size], align_corners=False)
        found = functional.grid_sample(level, grid.flatten(0, 1)[None], align_corners=False)
        samples[mine] = found[0].unflatten(1, (len(mine), size[0])).transpose(0, 1)
    return samples
