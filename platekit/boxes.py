"""Box arithmetic and the crop that both stages see.

A box is ``(x1, y1, x2, y2)`` in pixels of the picture, float, x2 and y2 exclusive edges, so that the width is
``x2 - x1`` and the whole picture is ``(0, 0, W, H)``. Batches are tensors (N, 4).
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional
from torchvision.ops import clip_boxes_to_image, roi_align

CROP_SIZE = (24, 94)  # height, width of the crop that ONet, STNet and LPRNet see
VIEW_SIZE = (120, 236)  # height, width of a plate's view: its box at 4 and 2 times the crop's resolution, and a margin
VIEW_SHARE = (96 / 120, 188 / 236)  # the box's share of the view's height and width


def to_tensor(image: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
    """A BGR uint8 picture (H, W, 3) as network input (1, 3, H, W): float32, ``(x - 127.5) / 128``."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device, non_blocking=True)
    return normalise(pixels.permute(2, 0, 1).unsqueeze(0))


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
    clipped = clip_boxes_to_image(boxes, (height, width))
    return clipped, ((clipped[:, 2:] - clipped[:, :2]) >= smallest).all(dim=1)


def crop_resize(pixels: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int] = CROP_SIZE) -> torch.Tensor:
    """Cut ``boxes`` (N, 4) out of one picture (1, 3, H, W) and resize them: (N, 3, *size), on the picture's device.

    The picture is uint8 or network input, the crops are network input. Every output pixel is the mean over its part of
    the box (bilinear where the box is smaller than ``size``), so that large plates do not alias. Parts of a box outside
    the picture come out as mid-grey.
    """
    pixels = normalise(pixels) if pixels.dtype == torch.uint8 else pixels
    rois = torch.cat([boxes.new_zeros(len(boxes), 1), boxes], dim=1).to(pixels.dtype)
    return roi_align(pixels, rois, size, spatial_scale=1.0, sampling_ratio=-1, aligned=True)


def cut_views(pixels: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """The views (N, 3, *VIEW_SIZE) of ``boxes`` (N, 4), cut as by ``crop_resize``: finer than a crop, and wider."""
    share = boxes.new_tensor(VIEW_SHARE[::-1])
    margin = (boxes[:, 2:] - boxes[:, :2]) * (1 / share - 1) / 2
    return crop_resize(pixels, boxes + torch.cat([-margin, margin], dim=1), VIEW_SIZE)


def sample_views(views: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Crops (N, 3, *CROP_SIZE) sampled from views by transforms (N, 2, 3) that were found for the crops of their boxes.

    ``theta`` goes from output to input, both in -1..1 over the crop. Every output pixel is the mean of four samples.
    """
    share = theta.new_tensor(VIEW_SHARE[::-1]).unsqueeze(1)
    size = [len(views), 3, 2 * CROP_SIZE[0], 2 * CROP_SIZE[1]]
    grid = functional.affine_grid(theta * share, size, align_corners=False)
    return functional.avg_pool2d(functional.grid_sample(views, grid, align_corners=False), 2)
