"""Box arithmetic and the crop that both stages see.

A box is ``(x1, y1, x2, y2)`` in pixels of the picture, float, x2 and y2 exclusive edges, so that the width is
``x2 - x1`` and the whole picture is ``(0, 0, W, H)``. Batches are tensors (N, 4).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from platekit.images import check_picture
from platekit.opencv import cv2

CROP_SIZE = (24, 94)  # height, width of the crop that ONet, STNet and LPRNet see
SAMPLES = (4, 2)  # of the picture, one below another and side by side, for a pixel of a transformed crop
SUPPRESS_BLOCK = 64  # boxes that are compared with all kept ones at a time
PART_VALUES = 1_000_000  # of a large box become float at a time


def upload(image: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """A BGR uint8 picture (H, W, 3) as uint8 (1, 3, H, W) on the device, channels last in memory.

    Raises ValueError for any other array.
    """
    check_picture(image)
    pixels = torch.from_numpy(np.ascontiguousarray(image))
    pixels = pixels.pin_memory() if torch.device(device).type == "cuda" else pixels
    return pixels.to(device, non_blocking=True).permute(2, 0, 1).unsqueeze(0)


def to_tensor(image: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """A BGR uint8 picture (H, W, 3) as network input (1, 3, H, W): float32, ``(x - 127.5) / 128``."""
    return normalise(upload(image, device))


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """Pixel values 0..255 of any shape to network input: float32, ``(x - 127.5) / 128``."""
    return pixels.float().sub_(127.5).mul_(1 / 128) if pixels.dtype == torch.uint8 else (pixels - 127.5) / 128


def to_picture(pixels: torch.Tensor) -> np.ndarray:
    """Network input (3, H, W) as a BGR uint8 picture (H, W, 3): the inverse of ``to_tensor``."""
    return (pixels.detach() * 128 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().contiguous().numpy()


def encode_offsets(boxes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Offsets (N, 4) of ``boxes`` from ``anchors``: corner differences over the anchor's width and height."""
    size = anchors[:, 2:] - anchors[:, :2]
    return (boxes - anchors) / size.repeat(1, 2)


def decode_offsets(offsets: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Boxes (N, 4) from offsets: the inverse of ``encode_offsets``."""
    size = anchors[:, 2:] - anchors[:, :2]
    return anchors + offsets * size.repeat(1, 2)


def clip_boxes(boxes: torch.Tensor, height: int, width: int, smallest: float = 1.0
               ) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes cut to the picture (a new tensor), and the mask (N,) of those that keep ``smallest`` pixels a side."""
    clipped = torch.maximum(boxes.minimum(boxes.new_tensor([width, height]).repeat(2)), boxes.new_zeros(4))
    return clipped, ((clipped[:, 2:] - clipped[:, :2]) >= smallest).all(dim=1)


def box_area(boxes: torch.Tensor) -> torch.Tensor:
    """The areas (N,) of boxes (N, 4)."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)


def common_area(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """What every one of ``boxes`` (N, 4) shares with every one of ``others`` (M, 4), in square pixels: (N, M)."""
    low = torch.maximum(boxes[:, None, :2], others[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return (high - low).clamp(min=0).prod(dim=2)


def box_iou(boxes: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Intersection over union of every one of ``boxes`` (N, 4) with every one of ``others`` (M, 4): (N, M)."""
    common = common_area(boxes, others)
    return common / (box_area(boxes)[:, None] + box_area(others)[None] - common)


def suppress(boxes: torch.Tensor, scores: torch.Tensor, overlap: float, limit: int | None = None) -> torch.Tensor:
    """Indices of the best of ``boxes`` (N, 4) by ``scores`` (N,), best first, that overlap no better one: (K,) int64.

    Two boxes whose IoU is above ``overlap`` are one. It ends at ``limit`` boxes, and works on the CPU, a block at a
    time: torchvision's function compares all pairs, and importing it takes longer than reading a photo.
    """
    order = scores.argsort(descending=True, stable=True).numpy()
    corners = boxes.numpy()[order]
    kept = np.zeros(0, np.int64)
    for first in range(0, len(order), SUPPRESS_BLOCK):
        block = np.arange(first, min(first + SUPPRESS_BLOCK, len(order)))
        block = block[~_overlaps(corners[block], corners[kept], overlap).any(axis=1)]
        same, free = _overlaps(corners[block], corners[block], overlap), np.ones(len(block), bool)
        for index in range(len(block)):
            if free[index]:
                free[index + 1:] &= ~same[index, index + 1:]
        kept = np.concatenate([kept, block[free]])
        if limit is not None and len(kept) >= limit:
            break
    return torch.from_numpy(order[kept[:limit]])


def _overlaps(boxes: np.ndarray, others: np.ndarray, overlap: float) -> np.ndarray:
    """Whether the IoU of ``boxes`` (N, 4) with ``others`` (M, 4) is above ``overlap``: (N, M)."""
    x1, y1, x2, y2 = boxes.T[:, :, None]
    left, top, right, bottom = others.T
    width, height = np.minimum(x2, right) - np.maximum(x1, left), np.minimum(y2, bottom) - np.maximum(y1, top)
    common = width.clip(0) * height.clip(0)
    return common > overlap * ((x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - common)


def crop_resize(pixels: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int] = CROP_SIZE) -> torch.Tensor:
    """Cut ``boxes`` (N, 4) out of one picture (1, 3, H, W) and resize them: (N, 3, *size), on the picture's device.

    The picture is uint8 or network input, the crops are network input. Every output pixel is the mean over its part of
    the box (bilinear where the box is smaller than ``size``), so that large plates do not alias. Parts of a box outside
    the picture come out as mid-grey.
    """
    as_input = normalise if pixels.dtype == torch.uint8 else torch.Tensor.float
    if pixels.device.type != "cpu":
        from torchvision.ops import roi_align  # the same function; to import it takes seconds

        rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1).float().to(pixels.device)
        return roi_align(as_input(pixels), rois, size, spatial_scale=1.0, sampling_ratio=-1, aligned=True)
    # On the CPU, two matrix products a box are several times faster; and only the box's own pixels become float.
    rows = pixels[0].permute(1, 2, 0)
    crops = torch.empty(len(boxes), 3, *size)
    for crop, (x1, y1, x2, y2) in zip(crops, boxes.tolist()):
        top, down = _interpolation(y1, y2, size[0], rows.shape[0])
        left, across = _interpolation(x1, x2, size[1], rows.shape[1])
        part = rows[top:top + down.shape[1], left:left + across.shape[1]]
        step = max(1, PART_VALUES // (3 * across.shape[1]))
        lines = sum(down[:, first:first + step] @ as_input(part[first:first + step]).flatten(1)
                    for first in range(0, len(part), step))
        columns = lines.view(size[0], -1, 3).transpose(0, 1).flatten(1)
        crop.copy_((across @ columns).view(size[1], size[0], 3).permute(2, 1, 0))
    return crops


def _interpolation(low: float, high: float, count: int, length: int) -> tuple[int, torch.Tensor]:
    """How ``count`` output pixels from ``low`` to ``high`` follow from a line of ``length`` input pixels.

    Returns the first input pixel that counts, and weights (count, K) of it and those behind it. Every output pixel is
    the mean of as many bilinear samples, evenly spread over it, as it has input pixels, rounded up.
    """
    samples = max(1, math.ceil((high - low) / count))
    step = (high - low) / (count * samples)
    places = low - 0.5 + step * (np.arange(count * samples) + 0.5)
    weights = ((places >= -1) & (places <= length)) / samples
    places = places.clip(0, length - 1)
    before = places.astype(np.int64)
    behind = (places - before) * weights
    first, width = int(before[0]), min(int(before[-1]) + 2, length) - int(before[0])
    # The matrix has one column more while it is made: the last pixel has none behind it.
    cells = np.repeat(np.arange(count) * (width + 1) - first, samples) + before
    matrix = np.bincount(cells, weights - behind, count * (width + 1))
    matrix += np.bincount(cells + 1, behind, count * (width + 1))
    return first, torch.from_numpy(matrix.astype(np.float32)).view(count, width + 1)[:, :width]


def sample_boxes(pixels: torch.Tensor, boxes: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Crops (N, 3, *CROP_SIZE), network input, of ``boxes`` (N, 4) of a uint8 picture (1, 3, H, W), each transformed.

    The transforms ``theta`` (N, 2, 3) go from output to input, both in -1..1 over the box, and may lead out of it.
    Every output pixel is the mean of ``SAMPLES`` bilinear samples of the picture, made smaller by a power of two where
    the box's would else lie more than two of its pixels apart, in the mean of both directions. Outside the picture it
    is mid-grey, from a pixel behind the border on. Raises ValueError for a picture of floats.
    """
    if pixels.dtype != torch.uint8:
        raise ValueError(f"a picture of uint8 pixels is needed, not of {pixels.dtype}")
    height, width = CROP_SIZE[0] * SAMPLES[0], CROP_SIZE[1] * SAMPLES[1]
    low, high = boxes.cpu().float().split(2, dim=1)
    steps = (high - low) / torch.tensor([width, height])
    factors = steps.log2().mean(dim=1).floor().clamp(min=0).exp2().int()
    half, centre = ((high - low) / 2).to(theta.device), ((high + low) / 2).to(theta.device)
    places = theta.float() * half[:, :, None]  # from -1..1 over the samples to pixels of the picture
    places[:, :, 2] += centre
    sample = _sample_by_opencv if pixels.device.type == "cpu" else _sample_by_torch
    return functional.avg_pool2d(sample(pixels, places, factors, (height, width)), SAMPLES)


def _sample_by_opencv(pixels: torch.Tensor, places: torch.Tensor, factors: torch.Tensor,
                      size: tuple[int, int]) -> torch.Tensor:
    """Samples (N, 3, *size) of a uint8 picture made smaller by ``factors`` (N,), where ``places`` (N, 2, 3) say."""
    rows, (height, width) = pixels[0].permute(1, 2, 0).numpy(), size
    reach = places[:, :, :2].abs().sum(dim=2)
    low, high = places[:, :, 2] - reach, places[:, :, 2] + reach
    samples = np.empty((len(places), *size, 3), np.uint8)
    steps = torch.tensor([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1], [0, 0, 1]])
    for sample, place, factor, (left, top), (right, bottom) in zip(
            samples, (places @ steps).numpy(), factors.tolist(), low.tolist(), high.tolist()):
        left, top = (max(0, math.floor(side / factor) - 1) * factor for side in (left, top))
        right, bottom = (max(0, math.ceil(side / factor) + 1) * factor for side in (right, bottom))
        part = rows[top:bottom, left:right]
        if not part.size:
            sample[:] = 127
            continue
        place[:, 2] -= left, top
        if left == 0 or top == 0 or right > rows.shape[1] or bottom > rows.shape[0]:
            down, across = (-side % factor + factor for side in part.shape[:2])
            part = cv2.copyMakeBorder(part, factor, down, factor, across, cv2.BORDER_REPLICATE)
            place[:, 2] += factor
        if factor > 1:
            part = cv2.resize(part, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
        place /= factor
        place[:, 2] -= 0.5  # OpenCV counts from the middle of the first pixel
        cv2.warpAffine(part, place, (width, height), sample, cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                       cv2.BORDER_CONSTANT, (127, 127, 127))
    return normalise(torch.from_numpy(samples)).permute(0, 3, 1, 2)


def _sample_by_torch(pixels: torch.Tensor, places: torch.Tensor, factors: torch.Tensor,
                     size: tuple[int, int]) -> torch.Tensor:
    """The same in a few large calls."""
    picture = normalise(pixels)
    samples = picture.new_empty(len(places), 3, *size)
    for factor in factors.unique().tolist():
        mine = torch.nonzero(factors == factor)[:, 0].to(places.device)
        down, across = (-side % factor + factor for side in picture.shape[2:])
        level = functional.avg_pool2d(functional.pad(picture, (factor, across, factor, down), mode="replicate"), factor)
        transform = places[mine] * (2 / factor)
        transform[:, :, 2] += 2
        transform[:, 0] /= level.shape[3]
        transform[:, 1] /= level.shape[2]
        transform[:, :, 2] -= 1
        grid = functional.affine_grid(transform, [len(mine), 3, *size], align_corners=False)
        found = functional.grid_sample(level, grid.flatten(0, 1)[None], align_corners=False)
        samples[mine] = found[0].unflatten(1, (len(mine), size[0])).transpose(0, 1)
    return samples
