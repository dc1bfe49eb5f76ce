"""Weights of an LPRNet for another alphabet: what both alphabets have is kept, other symbols begin as their mean."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch

from LPRNet.alphabet import Alphabet
from LPRNet.model.LPRNET import LPRNet
from LPRNet.recogniser import recorded_alphabet
from platekit.checkpoints import load_state, read_checkpoint

OF_CLASSES = ("backbone.20.", "backbone.21.", "container.")  # layers with one output per class


def start_from(net: LPRNet, alphabet: Alphabet, path: str | os.PathLike) -> Alphabet:
    """Fill ``net``, which reads ``alphabet``, from weights of any alphabet; return theirs.

    Raises UserError when they are missing or no LPRNet's.
    """
    state, facts = read_checkpoint(path, "lprnet")
    recorded = recorded_alphabet(state, facts, path, alphabet)
    given = net if recorded.chars == alphabet.chars else LPRNet(len(recorded))
    load_state(given, state, path)
    if given is not net:
        net.load_state_dict(translated(given.state_dict(), recorded.chars, net.state_dict(), alphabet.chars))
    return recorded


def translated(given: dict[str, torch.Tensor], given_chars: Sequence[str], state: dict[str, torch.Tensor],
               chars: Sequence[str]) -> dict[str, torch.Tensor]:
    """A copy of ``state``, a net's for the alphabet ``chars``, with the weights of ``given``, another's for
    ``given_chars``, wherever both have them. Both alphabets end with the blank."""
    given_class = {symbol: index for index, symbol in enumerate(given_chars[:-1])}
    known = [(index, given_class[symbol]) for index, symbol in enumerate(chars[:-1]) if symbol in given_class]
    blanks = len(chars) - 1, len(given_chars) - 1
    classes, given_classes = torch.tensor([*known, blanks]).T
    shared = torch.arange(given["container.0.weight"].shape[1] - len(given_chars))  # the last layer's other inputs
    inputs, given_inputs = (torch.cat([shared, len(shared) + part]) for part in (classes, given_classes))
    result = {name: value.clone() for name, value in state.items()}
    for name, value in given.items():
        if name == "container.0.weight":
            result[name][classes[:, None], inputs] = value[given_classes[:, None], given_inputs]
        elif name.startswith(OF_CLASSES) and value.dim():
            result[name][classes] = value[given_classes]
        else:
            result[name] = value
    if known:
        # At random, a new symbol would be likelier than the known ones, each of which training has made unlikely at
        # most time steps: it would be read everywhere.
        new = [index for index, symbol in enumerate(chars[:-1]) if symbol not in given_class]
        for name in ("container.0.weight", "container.0.bias"):
            result[name][new] = result[name][classes[:-1]].mean(dim=0)
    return result
