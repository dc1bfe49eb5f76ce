"""What an epoch of LPRNet's training shows: views of real crops and of drawn plates, by their shares."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from LPRNet.data.load_data import LPRDataLoader, Sample, collate_fn
from LPRNet.data.rendered import RenderedPlates
from platekit.errors import UserError

IN_SCENE = 0.4  # share of the real samples that are crops with surroundings, where there are such and others
MOST_OFTEN = 3  # times as often as an average crop one of either kind is taken at most: few are learned by heart
TRIES = 50  # crops that may be tried for a sample, where some cannot be read
EXCHANGED = 0.7  # share of the real samples with symbols of two plates, where the corners of both are known or found


class TrainingPlates(Dataset):
    """One epoch of ``size`` samples: ``rendered_share`` of them drawn, the others views of real crops.

    Indexed by ``(index, seed)``; samples come with the plate's corners in the crop, where they are known. In place of a
    crop that cannot be read there is another; UserError where nearly all cannot.
    """

    def __init__(self, real: LPRDataLoader | None, rendered: RenderedPlates | None, size: int,
                 rendered_share: float = 0.5) -> None:
        if not real and rendered is None:
            raise UserError("there is nothing to train on; give --img_dirs_train or --rendered_share above 0")
        self.real, self.rendered, self.size = real, rendered, size
        self._problems: set[str] = set()  # what this process has said already
        self.chances = np.cumsum(sample_shares(real)) if real else None
        self.rendered_count = 0 if rendered is None else size if not real else round(size * rendered_share)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index, seed = key
        if self.rendered is not None and index < self.rendered_count:
            return self.rendered.view(seed)
        assert self.real is not None and self.chances is not None  # else all are drawn
        for attempt in range(TRIES):
            # A random item, not index modulo: an epoch shorter than the set must not show its first part alone.
            rng = np.random.default_rng((seed, 1 + attempt))  # not the first numbers of the view's own draws
            chosen = int(np.searchsorted(self.chances[:-1], rng.random()))
            partner = int(rng.integers(len(self.real))) if rng.random() < EXCHANGED else None
            try:
                return self.real.view(chosen, seed, partner, to_train=True)
            except UserError as error:  # one damaged crop does not end a long training
                problem = error
                if str(error) not in self._problems:
                    self._problems.add(str(error))
                    print(f"left out: {error}", file=sys.stderr)
        raise problem


def share_with_corners(data: LPRDataLoader) -> float:
    """The share of the samples of real crops that tell their plate's corners."""
    known = [crop.in_scene for crop in data.crops]
    return float(sample_shares(data)[known].sum())


def sample_shares(data: LPRDataLoader) -> np.ndarray:
    """How often to take each crop (N,), in all 1.

    Crops with surroundings are taken evenly, ``IN_SCENE`` of all if neither kind is rare: their plates are as frequent
    as on the street, which is what decides between two provinces in blur. The others come by ``first_symbol_shares``.
    """
    in_scene = np.array([crop.in_scene for crop in data.crops])
    if in_scene.all():
        return in_scene / len(data)
    shares = np.zeros(len(data))
    shares[~in_scene] = first_symbol_shares([label for label, inside in zip(data.labels, in_scene) if not inside])
    if not in_scene.any():
        return shares
    share = in_scene.mean()
    taken = np.clip(IN_SCENE, 1 - MOST_OFTEN * (1 - share), MOST_OFTEN * share)
    return np.where(in_scene, taken / in_scene.sum(), shares * (1 - taken))


def first_symbol_shares(labels: Sequence[Sequence[int]]) -> np.ndarray:
    """How often to take each sample (N,), in all 1: what rare provinces lack is half made up for.

    The chance of a sample falls with the root of how many share its first symbol, as a compromise between even
    samples, of which nearly all would be of few provinces, and even provinces, of which some are one photo.
    """
    first = np.array([label[0] for label in labels])
    weights = 1 / np.sqrt(np.bincount(first)[first])
    return weights / weights.sum()


def collate_with_corners(batch: Sequence[Sample]) -> tuple[torch.Tensor, ...]:
    """Samples with corners to ``(images, labels, lengths, corners)``: corners (N, 4, 2), NaN where not known."""
    unknown = np.full((4, 2), np.nan, dtype=np.float32)
    corners = np.stack([unknown if sample.corners is None else sample.corners.astype(np.float32) for sample in batch])
    return *collate_fn([sample[:2] for sample in batch]), torch.from_numpy(corners)
