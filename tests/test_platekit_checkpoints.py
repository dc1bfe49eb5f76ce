"""Weights: half the size, loadable anywhere, and refused in one sentence when they are not what they should be."""

from __future__ import annotations

import collections
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from platekit.checkpoints import load_weights, read_checkpoint, save_checkpoint, save_weights
from platekit.errors import UserError
from tests.conftest import files_below, full_disk
from tests.makers import Malicious


class Small(nn.Module):
    """A net with parameters, buffers and an integer."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.linear = nn.Linear(3, width)
        self.norm = nn.BatchNorm1d(width)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "net.pth"
    save_weights(path, Small(), {"chars": "皖A-", "epochs": 3})
    return path


def test_weights_come_back_in_float32_to_half_precision(tmp_path):
    torch.manual_seed(0)
    net, other = Small(), Small()
    net.norm.num_batches_tracked += 70_001  # an integer that half precision could not hold
    save_weights(tmp_path / "net.pth", net)
    load_weights(other, tmp_path / "net.pth")
    for key, value in net.state_dict().items():
        loaded = other.state_dict()[key]
        assert loaded.dtype == value.dtype
        assert torch.equal(loaded, value.half().to(value.dtype) if value.is_floating_point() else value), key
    assert not torch.equal(other.linear.weight, net.linear.weight)  # rounded, so it was half in the file
    assert net.linear.weight.dtype == torch.float32  # saving leaves the net as it is


def test_a_value_that_half_precision_cannot_hold_survives(tmp_path):
    net, other = Small(), Small()
    net.norm.running_var.fill_(1e6)
    save_weights(tmp_path / "net.pth", net)
    load_weights(other, tmp_path / "net.pth")
    assert torch.equal(other.norm.running_var, net.norm.running_var)


def test_facts_travel_with_the_weights(weights):
    for facts in (load_weights(Small(), weights), read_checkpoint(weights)[1]):
        assert facts["chars"] == "皖A-" and facts["epochs"] == 3


def test_plain_torch_loads_them(weights):
    state = torch.load(weights, weights_only=True)
    assert Small().load_state_dict(state).missing_keys == []
    assert set(state) == set(Small().state_dict())


def test_published_weights_without_facts_load(tmp_path):
    torch.save(dict(Small().state_dict()), tmp_path / "plain.pth")
    assert load_weights(Small(), tmp_path / "plain.pth") == {}


def one_sentence(caught: pytest.ExceptionInfo[UserError], path: Path) -> str:
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and len(text) < 500
    return text


def odd_states() -> dict[str, object]:
    """Contents of files that torch reads and that are no weights of ``Small``."""
    state = Small().state_dict()
    return {
        "left-over": {**state, "extra.weight": torch.zeros(2)}, "missing": dict(list(state.items())[1:]),
        "shape": Small(9).state_dict(), "no-tensor": {**state, "linear.bias": "text"}, "number keys": {1: 2, "a": 3},
        "complex": {**state, "linear.bias": torch.zeros(8, dtype=torch.complex64)},
        "sparse": {**state, "linear.bias": state["linear.bias"].to_sparse()},
        "not finite": {**state, "linear.bias": torch.full((8,), float("nan"))},
        "infinite in float32": {**state, "linear.bias": torch.full((8,), 1e300, dtype=torch.float64)},
        "list": [1, 2], "tensor": torch.zeros(3), "nothing": {},
    }


@pytest.mark.parametrize("kind", odd_states())
def test_other_contents_are_refused_and_the_net_stays(tmp_path, kind):
    path = tmp_path / "odd.pth"
    torch.save(odd_states()[kind], path)
    net = Small()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_weights(net, path)
    one_sentence(caught, path)
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


@pytest.mark.parametrize("form", ["several GPUs", "net_state_dict", "state_dict", "both", "old torch"])
def test_the_forms_of_others_files_are_read(tmp_path, form):
    state = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).state_dict()
    if form in ("several GPUs", "both"):
        written = {f"module.{key}": value for key, value in state.items()}
    else:
        written = {key: value for key, value in state.items() if form != "old torch" or "tracked" not in key}
    if form in ("net_state_dict", "state_dict", "both"):
        written = {"epoch": 3, form.replace("both", "net_state_dict"): written, "optimizer": {"state": {}}}
    torch.save(written, tmp_path / "theirs.ckpt")
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    load_weights(net, tmp_path / "theirs.ckpt")
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


def test_odd_facts_are_ignored(tmp_path):
    state = collections.OrderedDict(Small().state_dict())
    for metadata in (5, {"": 5}, {"": None}):
        state._metadata = metadata
        torch.save(state, tmp_path / "odd.pth")
        assert read_checkpoint(tmp_path / "odd.pth")[1] == {}


def test_missing_garbage_and_truncated_files_are_refused(tmp_path, weights):
    whole = weights.read_bytes()
    broken = {"empty.pth": b"", "garbage.pth": bytes(range(256)) * 40, "text.pth": b"<html>Not found</html>",
              "pointer.pth": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"}
    broken |= {f"truncated-{tenth}.pth": whole[:len(whole) * tenth // 10] for tenth in range(1, 10)}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as caught:
            read_checkpoint(tmp_path / name)
        assert "cannot load" in one_sentence(caught, tmp_path / name)
    for missing in (tmp_path / "missing.pth", tmp_path):  # a folder is no file either
        with pytest.raises(UserError) as caught:
            read_checkpoint(missing)
        assert "not found" in one_sentence(caught, missing)


def test_a_file_too_large_for_weights_is_not_read(tmp_path):
    with open(tmp_path / "large.pth", "wb") as file:
        file.truncate(1 << 40)  # takes no room
    with pytest.raises(UserError, match="more than 2 GB"):
        read_checkpoint(tmp_path / "large.pth")


@pytest.mark.parametrize("form", ["bare pickle", "torch file", "inside a state dict"])
def test_code_in_a_file_is_refused_and_does_not_run(tmp_path, form):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(Malicious(trace), protocol=2))
    else:
        torch.save(Malicious(trace) if form == "torch file" else {**Small().state_dict(), "x": Malicious(trace)}, path)
    with pytest.raises(UserError) as caught:
        load_weights(Small(), path)
    one_sentence(caught, path)
    assert not trace.exists()
    # The file is a real one: unpickled without care it does its work.
    data = path.read_bytes()
    if form != "bare pickle":
        with zipfile.ZipFile(path) as archive:
            data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    if form != "inside a state dict":  # whose tensors need torch's own unpickler
        pickle.loads(data)
        assert trace.exists()


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path):
    path = tmp_path / "last.pth"
    save_checkpoint(path, {"step": 1})
    before = path.read_bytes()
    with full_disk(50_000), pytest.raises(UserError, match=r"cannot write .*last\.pth"):
        save_checkpoint(path, {"step": 2, "net": torch.zeros(100_000)})
    assert files_below(tmp_path) == ["last.pth"] and path.read_bytes() == before
