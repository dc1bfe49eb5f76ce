"""Weights and checkpoints: read safely, written whole.

Beside the bundled weights lies ``SHA256SUMS``, as the command ``sha256sum`` writes and checks it; a file named there is
read only when it has that sum. Training that replaces such a file rewrites its sum. After copying one by hand::

    cd LPRNet/weights && sha256sum *.pth > SHA256SUMS
    cd MTCNN/weights && sha256sum *_Weights > SHA256SUMS
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from platekit.errors import UserError
from platekit.files import fingerprint, is_device, real_path, takes_files, write_bytes, write_text

SUMS = "SHA256SUMS"
# Under which a checkpoint holds a state dict: last.pth and best.pth of a training here, others' checkpoints.
# The first that is there counts: a training's average before its net.
WRAPPERS = "average", "net", "net_state_dict", "model_state_dict", "state_dict"
MOST_BYTES = 2 << 30  # of a file to read; a training's checkpoint has a hundredth of that
COUNTER = "num_batches_tracked"  # of batch norm, which files of old versions of torch lack, and nothing here needs


def save_checkpoint(path: str | os.PathLike, content: dict[str, Any]) -> None:
    """Write tensors and plain values to ``path``, whole or not at all."""
    write_bytes(path, _in_memory(content))


def _in_memory(content: Any) -> memoryview:
    """What ``torch.save`` writes: to a full disk, it would fail with an error that does not name the disk."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def save_weights(path: str | os.PathLike, net: nn.Module, facts: dict[str, Any] | None = None) -> None:
    """Write a net's plain state dict in half precision (half the size; loading brings it back to float32).

    ``facts`` travel in the state dict's own metadata, so that the file still loads with ``load_state_dict`` anywhere.
    """
    save_state(path, net.state_dict(), facts)


def weights_fingerprint(net: nn.Module) -> str:
    """The ``fingerprint`` of a net's weights as files hold them, in half precision."""
    return fingerprint(*(value.detach().cpu().half().numpy().tobytes() for value in net.state_dict().values()))


def tell_if_apart(facts: Mapping[str, Any], path: str | os.PathLike, mark: str, other: str | os.PathLike) -> None:
    """Say on standard error if the weights at ``path`` were not made with those at ``other``, whose fingerprint is
    ``mark``: where they record that of the ones they were made with in ``facts``, as ``with``."""
    if facts.get("with", mark) != mark:
        print(f"{path} was made with other weights than {other}; together they may read little", file=sys.stderr)


def save_state(path: str | os.PathLike, state: Mapping[str, torch.Tensor],
               facts: dict[str, Any] | None = None) -> None:
    """Write a state dict, a net's or a loaded one, as ``save_weights`` does."""
    written = OrderedDict()
    for key, value in state.items():
        value = value.detach().cpu()
        half = value.half() if value.is_floating_point() else value
        written[key] = half if half.isfinite().all() else value  # a value beyond 65,504 stays float32
    metadata = OrderedDict(getattr(state, "_metadata", {}))  # a plain dict has none
    metadata[""] = {**metadata.get("", {}), **(facts or {})}
    written._metadata = metadata  # type: ignore[attr-defined]  # as torch's own have it
    path, data = Path(path), _in_memory(written)
    if path.name in read_sums(path.parent):
        # Old and new count until the new file is there, so that a kill in between leaves weights that are read.
        write_sum(path, data, keep=True)
        write_bytes(path, data)
        write_sum(path, data)
    else:
        write_bytes(path, data)


def read_sums(folder: Path) -> dict[str, set[str]]:
    """What ``SHA256SUMS`` of a folder allows each file to be; nothing where there is no such file."""
    try:
        lines = [line.split() for line in (folder / SUMS).read_text("utf-8").splitlines()]
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {folder / SUMS}: {error}; restore it with 'git checkout'") from None
    sums: dict[str, set[str]] = {}
    for digest, name in (line for line in lines if len(line) == 2):
        sums.setdefault(name.removeprefix("*"), set()).add(digest)
    return sums


def write_sum(path: Path, data: bytes | memoryview, keep: bool = False) -> None:
    """Set the sum of the file ``path`` to that of ``data``; with ``keep`` its old sum stays valid too."""
    sums = read_sums(path.parent)
    sums[path.name] = {hashlib.sha256(data).hexdigest(), *(sums[path.name] if keep else ())}
    lines = [f"{digest}  {name}\n" for name in sorted(sums) for digest in sorted(sums[name])]
    write_text(path.parent / SUMS, "".join(lines))


def read_checkpoint(path: str | os.PathLike, part: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """A state dict on the CPU and the facts saved with it. Raises UserError.

    The state dict may be one of several things in a file, as in a training's ``last.pth``; where it has a ``part`` of
    this name, it is that part's.
    """
    content = read_content(path)
    state = next((content[name] for name in WRAPPERS if isinstance(content.get(name), dict)), content)
    metadata = getattr(state, "_metadata", None)
    facts: dict[str, Any] = {}
    for told in (content.get("facts"), metadata.get("") if isinstance(metadata, dict) else None):
        facts |= told if isinstance(told, dict) else {}
    if all(str(key).startswith("module.") for key in state):  # of a net that several GPUs trained
        state = _below("module.", state)
    return _below(f"{part}.", state) or state, facts


def _below(prefix: str, state: dict[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in state.items() if str(key).startswith(prefix)}


def read_content(path: str | os.PathLike) -> dict[str, Any]:
    """What is in a file that torch wrote, on the CPU; code in the file is refused. Raises UserError."""
    path = Path(path)
    if not os.path.isfile(path):
        raise UserError(f"weights {path} not found; train them, or restore the file with 'git checkout'")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"cannot load {path}: no weights of these nets have more than {MOST_BYTES >> 30} GB; name "
                            "another file")
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot load {path}: {error.strerror}; check the file") from None
    allowed = read_sums(path.parent).get(path.name)
    if allowed and hashlib.sha256(data).hexdigest() not in allowed:
        raise UserError(f"cannot load {path}: its SHA-256 is not the one in {path.parent / SUMS}; restore it with 'git "
                        "checkout', or, if you put it there yourself, delete its line in that file")
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception:  # torch raises many kinds for a broken or hostile file
        raise UserError(f"cannot load {path}: it is no file of weights, holds more than tensors, such as code, or is "
                        "damaged; name another, save its state_dict() alone, or fetch it again") from None
    if not isinstance(content, dict):
        raise UserError(f"cannot load {path}: it holds no state dict; fetch or train the file again")
    return content


def load_weights(net: nn.Module, path: str | os.PathLike, part: str = "") -> dict[str, Any]:
    """Load a state dict, or its ``part``, strictly into ``net``; return the facts saved with it.

    Raises UserError when a key is missing or left over, when a shape differs, or when a number is not finite.
    """
    state, facts = read_checkpoint(path, part)
    load_state(net, state, path)
    return facts


def load_state(net: nn.Module, state: dict[str, Any], path: str | os.PathLike) -> None:
    """Load a state dict that was read from ``path`` strictly into ``net``. Raises UserError as ``load_weights``."""
    wanted = net.state_dict()
    state = {**{key: value for key, value in wanted.items() if key.endswith(COUNTER)}, **state}
    wrong = sorted(map(str, set(wanted) ^ set(state))) or sorted(
        key for key, value in wanted.items() if getattr(state[key], "shape", None) != value.shape
        or state[key].is_floating_point() != value.is_floating_point())
    if wrong:
        raise UserError(f"{path} does not fit {type(net).__name__}: '{wrong[0]}' is missing, unknown or of another "
                        f"shape ({len(wrong)} such entries); name weights of this network")
    try:
        # as the net holds it: of float64, much is infinite in float32
        broken = [key for key, value in wanted.items() if not state[key].to(value.dtype).isfinite().all()]
    except RuntimeError:  # sparse, quantised or meta tensors
        raise UserError(f"{path} holds tensors that are not dense; name weights of this network") from None
    if broken:
        raise UserError(f"cannot load {path}: '{broken[0]}' holds numbers that are not finite; fetch or train the file "
                        "again")
    net.load_state_dict(state)


def check_save(save: Sequence[Path]) -> None:
    """UserError for a place that weights cannot go to, or that is named twice."""
    for path in save:
        if os.path.isdir(path) or is_device(path):
            raise UserError(f"--save {path} is a folder or a device; name a file")
        if not takes_files(path.parent):
            raise UserError(f"--save {path} is in no folder that files can be written to; name another place")
        if path.is_file() and path.stat().st_size:
            with open(path, "rb") as file:
                if file.read(2) not in (b"PK", b"\x80\x02"):  # torch writes zip archives, and once wrote pickles
                    raise UserError(f"--save {path} is there and holds no weights; name another file")
    if len(set(map(real_path, save))) < len(save):
        raise UserError(f"--save names {save[0]} twice; name two files")
