"""Confidences that say how often readings are right: the temperature that a trained LPRNet's logits are divided by."""

from __future__ import annotations

import numpy as np
import torch

from LPRNet.alphabet import Alphabet
from LPRNet.model.LPRNET import LPRNet

TEMPERATURE_SPREAD = 0.5  # of a temperature's logarithm, before any crop is seen


def read_right(texts: list[list[int]], labels: list[list[int]]) -> np.ndarray:
    """Which plates are read wholly right (N,)."""
    return np.array([text == label for text, label in zip(texts, labels)])


def fit_temperature(logits: torch.Tensor, labels: list[list[int]], alphabet: Alphabet) -> float:
    """The number to divide the logits by, so that the confidence predicts best whether a reading is right.

    Training with hard views leaves the nets less sure of ordinary crops than they may be. The temperature of the least
    cross-entropy is taken (Guo et al., ICML 2017), with a prior towards 1: a few crops that are all read right
    would otherwise make the nets as sure as can be, which so few cannot show. It changes no greedy reading. Crops of
    which nothing is read do not count: the confidence of no text is 0.
    """
    read = alphabet.classes(logits)
    told = [index for index, text in enumerate(read) if text]
    if not told:
        return 1.0
    logits, read, labels = logits[told], [read[index] for index in told], [labels[index] for index in told]
    right = read_right(read, labels)

    def cross_entropy(temperature: float) -> float:
        confidence = alphabet.likelihood(logits / temperature, read).numpy()
        likelihood = np.log(np.clip(np.where(right, confidence, 1 - confidence), 1e-6, None)).sum()
        return 0.5 * (np.log(temperature) / TEMPERATURE_SPREAD) ** 2 - likelihood

    return float(min(np.geomspace(0.25, 4, 49), key=cross_entropy))


def cool(lprnet: LPRNet, temperature: float) -> None:
    """Divide the net's logits by ``temperature``, for good: its last layer is linear."""
    with torch.no_grad():
        for parameter in lprnet.container.parameters():
            parameter.div_(temperature)
