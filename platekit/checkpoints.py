"""Weights and checkpoints: read safely, written whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from platekit.errors import UserError
from platekit.files import atomic_path


def save_checkpoint(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """Write tensors and plain values to ``path``, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def read_checkpoint(path: str | os.PathLike) -> dict[str, Any]:
    """Read a file of tensors and plain values to the CPU; code in it is refused. Raises UserError."""
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
    return content


def load_weights(net: nn.Module, path: str | os.PathLike) -> dict[str, Any]:
    """Load a plain state dict, or a checkpoint's ``net`` entry, strictly into ``net``; return what else was in the file.

    Raises UserError when a key is missing or left over, or when a shape differs.
    """
    content = read_checkpoint(path)
    state = content.get("net", content)
    wanted = net.state_dict()
    wrong = sorted(set(wanted) ^ set(state)) or sorted(
        key for key, value in wanted.items() if getattr(state[key], "shape", None) != value.shape)
    if wrong:
        raise UserError(f"{path} does not fit {type(net).__name__}: '{wrong[0]}' is missing, unknown or of another "
                        f"shape ({len(wrong)} such entries); name weights of this network")
    net.load_state_dict(state)
    return {key: value for key, value in content.items() if key != "net"} if state is not content else {}
