"""What the tests share: the real scripts run as a user runs them, pictures, weights, and the shared data."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import settings

from platekit import errors
from platekit.boxes import box_iou
from platekit.devices import multiplies_bfloat16
from platekit.opencv import cv2

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"

RESULT = jsonschema.Draft202012Validator(
    json.loads((ROOT / "platekit" / "results.schema.json").read_text("utf-8")))

needs_bfloat16 = pytest.mark.skipif(not multiplies_bfloat16(torch.device("cpu")),
                                    reason="the processor has no bfloat16")

needs_locks = pytest.mark.skipif(os.name == "nt", reason="on Windows nothing keeps two runs apart")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a shell runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"  # servers of the tests' own
settings.register_profile("untimed", deadline=None)  # machine code is made, or loaded, at the first call
settings.load_profile("untimed")
torch.set_num_threads(1)  # sums in one order give the same bits, and small pictures are no work for several threads


@dataclass(frozen=True)
class Outcome:
    """How a script ended and what it said."""

    status: int
    out: str
    err: str

    def sentence(self) -> str:
        """The one line on standard error of a script that ended on the user's mistake, without a traceback."""
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture
def shared_data() -> Path:
    """The folder of real photos and crops beside the checkout; the test is skipped where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the shared data is not at {os.path.relpath(SHARED_DATA, ROOT)}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def run_script() -> Callable[..., Outcome]:
    """``run(script, *arguments, cwd=..., module=False)``: a process of its own, as file or as ``-m module``.

    ``root`` is another checkout to run the script of.
    """

    def run(script: str, *arguments: Any, cwd: Path, module: bool = False, root: Path = ROOT,
            timeout: float = 300) -> Outcome:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
        if module:
            env["PYTHONPATH"] = str(root)
            command = [sys.executable, "-m", script.removesuffix(".py").replace("/", ".")]
        else:
            env.pop("PYTHONPATH", None)
            command = [sys.executable, str(root / script)]
        done = subprocess.run([*command, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, timeout=timeout)
        return Outcome(done.returncode, done.stdout.decode("utf-8"), done.stderr.decode("utf-8"))

    return run


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``call(main, *arguments, cwd=None)``: a script's ``main`` in this process, which spares importing torch."""

    def call_main(main: Callable[[], int | None], *arguments: Any, cwd: Path | None = None) -> Outcome:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["script", *map(str, arguments)])
            if cwd:
                patch.chdir(cwd)
            with pytest.raises(SystemExit) as ended:
                errors.run_script(main)
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return call_main


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file grows beyond ``size`` bytes, as on a disk that is full. The test is skipped on Windows."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def lines_of(json_lines: str | Path) -> list[dict]:
    """The entries of JSON lines: of a text, or of the file at a path."""
    text = json_lines.read_text("utf-8") if isinstance(json_lines, Path) else json_lines
    return [json.loads(line) for line in text.splitlines()]


def results_of(json_lines: str | Path) -> list[dict]:
    """``lines_of`` results, each of which has to be as the schema says."""
    lines = lines_of(json_lines)
    for line in lines:
        RESULT.validate(line)
    return lines


def make_picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth, coloured picture (H, W, 3) that JPEG keeps well."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def put_picture(path: Path, image: np.ndarray, *parameters: int) -> Path:
    """Write a picture by OpenCV and Python alone, without the code under test."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(path.suffix, image, parameters)
    assert done
    path.write_bytes(data.tobytes())
    return path


def overlap(box: Sequence[float], other: Sequence[float]) -> float:
    """IoU of two boxes."""
    return box_iou(np.array([box]), np.array([other])).item()


def files_below(folder: Path) -> list[str]:
    """All files below a folder, hidden ones too, relative and sorted."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
