"""Work shared among threads is done once, whichever threads there are; machine code needs no folder to be kept in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from platekit import compiled as module
from platekit.compiled import compiled, in_threads
from platekit.paths import SAMPLES
from platekit.pipeline import PlateReader
from tests.conftest import ROOT


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("openmp", [module.openmp, None], ids=["OpenMP", "other threads"])
@pytest.mark.parametrize(("count", "least", "parts"), [(0, 5, 1), (4, 5, 1), (11, 5, 2), (100, 5, 4), (100, 1, 4)])
def test_every_number_is_worked_on_once(count, least, parts, openmp, four_threads, monkeypatch):
    monkeypatch.setattr(module, "openmp", openmp)
    done, calls = np.zeros(count, int), []

    def work(name: str, first: int, last: int) -> None:
        done[first:last] += 1
        calls.append((name, last - first))

    in_threads(work, count, least, "name")
    assert (done == 1).all() and len(calls) == parts
    assert all(name == "name" and (number >= least or parts == 1) for name, number in calls)


@pytest.mark.parametrize("openmp", [module.openmp, None], ids=["OpenMP", "other threads"])
def test_several_threads_work_at_once(openmp, four_threads, monkeypatch):
    """All wait for the last of them: one after another, they would for ever."""
    monkeypatch.setattr(module, "openmp", openmp)
    together = threading.Barrier(4, timeout=60)
    in_threads(lambda first, last: together.wait(), 4, 1)
    assert not together.broken


@pytest.mark.parametrize("openmp", [module.openmp, None], ids=["OpenMP", "other threads"])
def test_what_is_raised_on_any_thread_is_raised(openmp, four_threads, monkeypatch):
    monkeypatch.setattr(module, "openmp", openmp)

    def work(first: int, last: int) -> None:
        if last == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_threads(work, 4, 1)


def test_one_thread_is_the_caller_itself():
    seen = []
    in_threads(lambda first, last: seen.append(threading.get_ident()), 1000, 1)
    assert seen == [threading.get_ident()]


def test_machine_code_needs_no_folder(monkeypatch):
    """Where nothing can be written it is made anew in every process."""
    made = []

    def njit(cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return lambda function: made.append(function) or function

    monkeypatch.setattr(module.numba, "njit", njit)
    assert compiled(len) is len and made == [len]


@pytest.mark.parametrize("error", [OSError, EOFError, TypeError])
def test_a_full_or_damaged_cache_means_that_code_is_made_anew(monkeypatch, error):
    function = compiled(lambda number: number + 1)

    def fail(*arguments: object) -> None:
        raise error

    for name in ("load_overload", "save_overload", "flush"):
        monkeypatch.setattr(function._cache._cache, name, fail if name != "flush" else lambda: None)
    assert function(1) == 2


def test_without_machine_code_everything_is_there():
    done = subprocess.run([sys.executable, "-c", "import platekit.boxes"], cwd=ROOT,
                          env={**os.environ, "NUMBA_DISABLE_JIT": "1"}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_without_numba_the_same_is_found_and_read(tmp_path):
    (tmp_path / "numba.py").write_text("raise ImportError('none for this Python')")
    code = ("import sys\nfrom platekit.compiled import COMPILES\nfrom platekit.pipeline import PlateReader\n"
            "from platekit.paths import SAMPLES\nimport json\nassert not COMPILES\nreader = PlateReader('cpu')\n"
            "print(json.dumps([[plate.to_dict() for plate in reader(path).plates]\n"
            "                  for path in sorted(SAMPLES.glob('*.jpg'))]))")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    reader = PlateReader("cpu")
    for found, picture in zip(json.loads(done.stdout), sorted(SAMPLES.glob("*.jpg")), strict=True):
        wanted = [plate.to_dict() for plate in reader(picture).plates]
        assert [plate["text"] for plate in found] == [plate["text"] for plate in wanted]
        for plate, other in zip(found, wanted):
            assert plate["box"] == pytest.approx(other["box"], abs=0.2)
            assert plate["confidence"] == pytest.approx(other["confidence"], abs=0.02)  # read in bfloat16
