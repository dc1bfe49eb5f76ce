"""Muon, the optimiser of the nets' inner weights: steps of momentum whose matrix is made orthogonal.

After K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), where the coefficients come
from, and J. Liu et al., "Muon is scalable for LLM training" (2025), who measure a step by its root mean square.
torch's own takes matrices only, and multiplies in bfloat16, for which processors without it take many times as long.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

COEFFICIENTS = 3.4445, -4.7750, 2.0315
ITERATIONS = 5
STEP = 0.6  # the root mean square of a step over the learning rate; AdamW's is 0.2 to 0.4
LEAST = 16  # rows and columns of a matrix that is worth it


def is_inner(weight: torch.Tensor) -> bool:
    """Whether a parameter is the matrix of a layer between others: neither of pictures nor of a few answers."""
    return weight.dim() >= 2 and weight.shape[1] > 3 and min(len(weight), weight[0].numel()) >= LEAST


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """Nearly the orthogonal matrix next to a given one (rows, columns): singular values become 0.7 to 1.2."""
    wide = matrix.T if len(matrix) > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        products = wide @ wide.T
        wide = a * wide + torch.addmm(products, products, products, beta=b, alpha=c) @ wide
    return wide.T if len(matrix) > matrix.shape[1] else wide


class Muon(torch.optim.Optimizer):
    """For weights (out, in, ...), which count as matrices of ``out`` rows."""

    def __init__(self, weights: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
                 ) -> None:
        super().__init__(weights, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # nobody passes one
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["mean"] = torch.zeros_like(weight)
                mean = state["mean"].lerp_(weight.grad, 1 - group["momentum"])
                ahead = weight.grad.lerp(mean, group["momentum"]).flatten(1)  # Nesterov's
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                size = STEP * max(ahead.shape) ** 0.5
                weight.add_(orthogonal(ahead).view(weight.shape), alpha=-group["lr"] * size)
