"""STNet: the spatial transformer that straightens a plate crop (Jaderberg et al., NeurIPS 2015)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class STNet(nn.Module):
    """Predicts one affine transform a crop and samples the crop by it: (N, 3, 24, 94) -> (N, 3, 24, 94)."""

    def __init__(self) -> None:
        super().__init__()
        self.localization = nn.Sequential(
            nn.Conv2d(3, 32, kernel_size=3),
            nn.MaxPool2d(2, stride=2),
            nn.ReLU(),
            nn.Conv2d(32, 32, kernel_size=5),
            nn.MaxPool2d(3, stride=3),
            nn.ReLU(),
        )
        first, last = nn.Linear(32 * 2 * 14, 32), nn.Linear(32, 2 * 3)
        self.fc_loc = nn.Sequential(first, nn.ReLU(), last)
        nn.init.zeros_(last.weight)  # training starts from the identity transform
        last.bias.data.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def theta(self, x: torch.Tensor) -> torch.Tensor:
        """The transforms (N, 2, 3) from output to input coordinates, both in -1..1 over the crop; float32 always."""
        # Convolutions in bfloat16 move a plate's corners by 0.03 of a 94-wide crop's pixels. A transform in bfloat16
        # has steps of a fifth of a pixel at the edge: too coarse to sample by.
        features = self.localization(x).flatten(1)
        with torch.autocast(x.device.type, enabled=False):
            return self.fc_loc(features.float()).view(-1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.sample(x, self.theta(x))

    @staticmethod
    def sample(x: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """The crops (N, 3, H, W) sampled by their transforms (N, 2, 3)."""
        with torch.autocast(x.device.type, enabled=False):  # the grid too: it is made by a matrix product
            grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
            return functional.grid_sample(x.float(), grid, align_corners=False)


# Where a straightened plate's corners should come to lie, in -1..1 over the crop: a small margin on every side.
# In CCPD's order: right-bottom, left-bottom, left-top, right-top.
STRAIGHT_CORNERS = ((0.95, 0.88), (-0.95, 0.88), (-0.95, -0.88), (0.95, -0.88))


def straightening_loss(theta: torch.Tensor, corners: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """How far the transforms (N, 2, 3) are from straightening plates whose corners (N, 4, 2) are known: a scalar.

    ``corners`` are pixels of the crop of ``size`` (height, width), NaN where not known. The loss is the smooth L1
    distance in pixels between them and the places that the transform samples for ``STRAIGHT_CORNERS``.
    """
    known = corners.isfinite().all(dim=(1, 2))
    sampled = plate_corners(theta[known], size)
    return functional.smooth_l1_loss(sampled, corners[known], reduction="sum") / (8 * len(corners))


def plate_corners(theta: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Where the transforms (N, 2, 3) take a plate's corners to be: (N, 4, 2), in pixels of a crop (height, width)."""
    straight = theta.new_tensor([(x, y, 1.0) for x, y in STRAIGHT_CORNERS])  # (4, 3)
    return (straight @ theta.transpose(1, 2) + 1) * theta.new_tensor([size[1] / 2, size[0] / 2])


def compose(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """The transforms (N, 2, 3) that take a point where ``outer`` takes it from where ``inner`` took it."""
    return torch.cat([outer[:, :, :2] @ inner[:, :, :2], outer[:, :, :2] @ inner[:, :, 2:] + outer[:, :, 2:]], dim=2)
