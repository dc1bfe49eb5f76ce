"""Weights and checkpoints: read safely, written whole."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from platekit.errors import UserError
from platekit.files import write_bytes


def save_checkpoint(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """Write tensors and plain values to ``path``, whole or not at all."""
    # By way of memory: on a full disk torch.save fails with an error that does not name the disk.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer())


def save_weights(path: str | os.PathLike, net: nn.Module, facts: dict[str, Any] | None = None) -> None:
    """Write a net's plain state dict in half precision (half the size; loading brings it back to float32).

    ``facts`` travel in the state dict's own metadata, so that the file still loads with ``load_state_dict`` anywhere.
    """
    state = net.state_dict()
    metadata = state._metadata
    for key, value in state.items():
        value = value.detach().cpu()
        half = value.half() if value.is_floating_point() else value
        state[key] = half if half.isfinite().all() else value  # a value beyond 65,504 stays float32
    metadata[""] = {**metadata[""], **(facts or {})}
    save_checkpoint(path, state)


def read_checkpoint(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """A file's content on the CPU and the facts saved with it; code in the file is refused. Raises UserError."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"weights {path} not found; train them, or restore the file with 'git checkout'")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a broken or hostile file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"cannot load {path}: {reason[:160]}; fetch or train the file again") from None
    if not isinstance(content, dict):
        raise UserError(f"cannot load {path}: it holds no state dict; fetch or train the file again")
    metadata = getattr(content, "_metadata", None)
    facts = metadata.get("") if isinstance(metadata, dict) else None
    return content, facts if isinstance(facts, dict) else {}


def load_weights(net: nn.Module, path: str | os.PathLike) -> dict[str, Any]:
    """Load a state dict strictly into ``net``; return the facts saved with it.

    Raises UserError when a key is missing or left over, or when a shape differs.
    """
    state, facts = read_checkpoint(path)
    fill(net, state, path)
    return facts


def fill(net: nn.Module, state: dict[str, Any], path: str | os.PathLike) -> None:
    """Load a state dict that was read from ``path`` strictly into ``net``. Raises UserError as ``load_weights``."""
    wanted = net.state_dict()
    wrong = sorted(map(str, set(wanted) ^ set(state))) or sorted(
        key for key, value in wanted.items() if getattr(state[key], "shape", None) != value.shape)
    if wrong:
        raise UserError(f"{path} does not fit {type(net).__name__}: '{wrong[0]}' is missing, unknown or of another "
                        f"shape ({len(wrong)} such entries); name weights of this network")
    net.load_state_dict(state)
