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


def translated(given: dict[str, torch.Tensor], chars: Sequence[str], state: dict[str, torch.Tensor],
               wanted: Sequence[str]) -> dict[str, torch.Tensor]:
    """``state``, whose classes are ``wanted``, with all that ``given`` has, whose classes are ``chars``; both end with
    the blank."""
    places = {symbol: index for index, symbol in enumerate(chars[:-1])}
    known = [(index, places[symbol]) for index, symbol in enumerate(wanted[:-1]) if symbol in places]
    to, source = torch.tensor([*known, (len(wanted) - 1, len(chars) - 1)]).T
    shared = torch.arange(given["container.0.weight"].shape[1] - len(chars))  # inputs of the last layer: no classes
    inputs = [torch.cat([shared, len(shared) + part]) for part in (to, source)]
    result = {name: value.clone() for name, value in state.items()}
    for name, value in given.items():
        if name == "container.0.weight":
            result[name][to[:, None], inputs[0]] = value[source[:, None], inputs[1]]
        elif name.startswith(OF_CLASSES) and value.dim():
            result[name][to] = value[source]
        else:
            result[name] = value
    if known:  # a symbol that begins at random is likelier than known ones, which seldom are, and read everywhere
        new = [index for index, symbol in enumerate(wanted[:-1]) if symbol not in places]
        for name in ("container.0.weight", "container.0.bias"):
            result[name][new] = result[name][to[:-1]].mean(dim=0)
    return result
