"""The detector's loss: plate or not on the hardest samples, and the box on samples that overlap a plate."""

from __future__ import annotations

import torch
from torch.nn import functional

from platekit.boxes import decode_offsets

HARDEST = 0.7  # share of positives and negatives that count: online hard-example mining, MTCNN (Zhang et al. 2016)
END_WEIGHT, CUT_WEIGHT = 1.5, 1.6  # of box loss "ends": of left and right edges, and a further factor where they cut


def class_loss(logits: torch.Tensor, labels: torch.Tensor, hardest: float = HARDEST) -> torch.Tensor:
    """Mean cross entropy of the ``hardest`` share of samples with label 0 or 1; 0 when there are none.

    ``logits`` (N, 2), ``labels`` (N,): parts (-1) say nothing about the class and are left out.
    """
    judged = labels >= 0
    if not judged.any():
        return logits.sum() * 0
    losses = functional.cross_entropy(logits[judged].float(), labels[judged], reduction="none")
    return losses.topk(max(1, round(hardest * len(losses)))).values.mean()


def box_loss(offsets: torch.Tensor, wanted: torch.Tensor, labels: torch.Tensor, kind: str = "l1") -> torch.Tensor:
    """Mean box loss over positives and parts; 0 when there are none. ``offsets`` and ``wanted`` are (N, 4).

    ``kind`` "l1": smooth L1 of the offsets; "ends": the same with more weight on the left and right edges, most where
    they lie inside the plate: a symbol cut off cannot be read, a margin costs little.
    """
    boxed = labels != 0
    if not boxed.any():
        return offsets.sum() * 0
    offsets, wanted = offsets[boxed].float(), wanted[boxed]
    losses = functional.smooth_l1_loss(offsets, wanted, beta=0.05, reduction="none")
    if kind == "ends":
        cut = (offsets - wanted)[:, ::2] * offsets.new_tensor([1, -1]) > 0
        losses = torch.cat([losses[:, ::2] * END_WEIGHT * torch.where(cut, CUT_WEIGHT, 1.0), losses[:, 1::2]], 1)
    return losses.sum(1).mean()


def box_overlaps(offsets: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """IoU (N,) of the boxes that two sets of offsets (N, 4) lead to."""
    unit = torch.tensor([[0.0, 0.0, 1.0, 1.0]], device=offsets.device).expand_as(offsets)  # IoU doesn't feel the scale
    first, second = decode_offsets(offsets, unit), decode_offsets(wanted, unit)
    low, high = torch.maximum(first[:, :2], second[:, :2]), torch.minimum(first[:, 2:], second[:, 2:])
    common = (high - low).clamp(min=0).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1) for boxes in (first, second)]
    return common / (areas[0] + areas[1] - common).clamp(min=1e-9)
