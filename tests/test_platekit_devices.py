"""Devices, and the cores that a container leaves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from platekit import ahead, devices
from platekit.devices import cpu_quota, enough_memory, pick_device
from platekit.errors import UserError


@pytest.mark.parametrize("kind", [str, torch.device])
def test_a_gpu_computes_exactly_and_is_there(monkeypatch, kind):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    assert pick_device(kind("cpu")) == torch.device("cpu") and torch.backends.cudnn.allow_tf32
    with pytest.raises(UserError, match="is not there"):
        pick_device(kind("cuda:1"))
    assert pick_device(kind("cuda")) == torch.device("cuda") and not torch.backends.cudnn.allow_tf32


TWO, ONE = "0::/slice/job\n", "7:memory:/\n4:cpu,cpuacct:/docker/ab\n1:name=systemd:/\n"  # versions of control groups


@pytest.mark.parametrize("own, files, quota", [
    (TWO, {"slice/job/cpu.max": "150000 100000"}, 1.5),
    (TWO, {"slice/job/cpu.max": "max 100000", "slice/cpu.max": "300000 100000"}, 3),
    (TWO, {"cpu.max": "50000 100000"}, 0.5),  # as within a container
    (TWO, {"slice/job/cpu.max": "max 100000", "other/cpu.max": "1 100000"}, math.inf),
    (TWO, {"slice/job/cpu.max": "strange"}, math.inf),
    (ONE, {"cpu/docker/ab/cpu.cfs_quota_us": "50000", "cpu/docker/ab/cpu.cfs_period_us": "100000"}, 0.5),
    (ONE, {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2),
    (ONE, {"cpu/docker/ab/cpu.cfs_quota_us": "-1", "cpu/docker/ab/cpu.cfs_period_us": "100000"}, math.inf),
    ("nonsense", {"cpu.max": "150000 100000"}, math.inf),
    (None, {}, math.inf),
])
def test_a_containers_share_of_the_processor(tmp_path: Path, own, files, quota):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(text + "\n")
    if own:
        (tmp_path / "own").write_text(own)
    assert cpu_quota(tmp_path, tmp_path / "own") == quota


@pytest.fixture
def two_threads(monkeypatch):
    """torch computes on two threads, and nobody asked for that."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    devices.cores.cache_clear()
    yield
    torch.set_num_threads(before)
    devices.cores.cache_clear()


@pytest.mark.parametrize("quota, threads", [(0.5, 1), (1.5, 1), (2.0, 2), (math.inf, 2)])
def test_torch_computes_on_no_more_threads_than_a_container_has_cores(two_threads, monkeypatch, quota, threads):
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda _: range(8), raising=False)
    monkeypatch.setattr(devices, "cpu_quota", lambda: quota)
    pick_device("cpu")
    assert torch.get_num_threads() == threads


def test_the_users_number_of_threads_holds(two_threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(devices, "cpu_quota", lambda: 0.5)
    pick_device("cpu")
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(("cores", "processes", "threads"), [(1, "1", 1), (3, "1", 3), (16, "1", 4), (8, "4", 2),
                                                             (2, "4", 1)])
def test_processes_of_one_machine_share_its_cores(monkeypatch, cores, processes, threads):
    monkeypatch.setattr(ahead, "cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    assert ahead.spare_threads() == threads


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("work", [
    lambda: torch.empty(2**50), lambda: np.empty(2**60, np.uint8),
    lambda: cv2.copyMakeBorder(np.zeros((1, 1, 3), np.uint8), 0, 2**30, 0, 2**20, cv2.BORDER_CONSTANT),
    lambda: fail(Exception("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory for requested buffer of size 9")),
    lambda: fail(RuntimeError("std::bad_alloc"))])
def test_too_little_memory_is_a_sentence(work: Callable[[], object]):
    with pytest.raises(UserError, match=r"too little memory for a\.jpg; make it smaller, or end other programs"), \
            enough_memory("a.jpg"):
        work()


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), UserError("not enough memory cards")])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error), match=str(error)), enough_memory("a.jpg"):
        raise error
