"""Training samples on disk: one memory-mapped array a kind, and a text list that points into it.

A folder holds ``positive.npy``, ``part.npy`` and ``negative.npy``, uint8 (N, height, width, 3) in BGR, and beside each
a ``.txt`` with a line ``row label dx1 dy1 dx2 dy2`` a sample: label 1, -1 or 0, and the offsets in full precision.
``samples.json`` is written last and says that the folder is complete; ``photos.txt`` lists the photos. Until then the
arrays grow as ``.partial`` files, and ``progress.json`` says how far they are sound, so that a killed run goes on where
it stopped.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from MTCNN.data_preprocessing.windows import LABELS, SAMPLE_KINDS
from platekit.errors import UserError
from platekit.files import atomic_path, write_text

SUMMARY, PROGRESS = "samples.json", "progress.json"
PHOTOS = "photos.txt"  # that the samples are of, one path per line


class SampleWriter:
    """Appends samples of all kinds; ``settings`` is what they depend on, and a folder of other settings is refused."""

    def __init__(self, folder: str | os.PathLike, size: tuple[int, int], settings: dict[str, Any]) -> None:
        """``size`` is (height, width) of the samples. Raises UserError when the folder holds other samples."""
        self.folder, self.size, self.settings = Path(folder), size, json.loads(json.dumps(settings))
        self.steps = 0
        self.left_out: dict[str, None] = {}  # what could not be used: keys, in the order of their coming
        self.rows = dict.fromkeys(SAMPLE_KINDS, 0)
        for name in (SUMMARY, PROGRESS):
            if (self.folder / name).exists():
                self._restore(self.folder / name)
                break
        self.complete = (self.folder / SUMMARY).exists()
        self.pixels: dict[str, Any] = {}
        self.lists: dict[str, Any] = {}
        if self.complete:
            self._remove_partial()  # which a kill at the very end leaves
        else:
            self._open()

    def _restore(self, path: Path) -> None:
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            theirs = dict(state["settings"])
            differing = [key for key in {**self.settings, **theirs} if theirs.get(key) != self.settings.get(key)]
            self.steps, self.rows = state["steps"], state["rows"]
            self.left_out = dict.fromkeys(state.get("left_out", ()))
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{path} is damaged; remove {self.folder} and generate it again") from None
        if differing:
            key = differing[0]
            raise UserError(f"{self.folder} holds samples made with another {key} ({theirs.get(key)}, now "
                            f"{self.settings.get(key)}); remove it or name another folder")

    def _open(self) -> None:
        """Open the growing files and cut off what a killed run wrote after its last ``progress.json``."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for kind in SAMPLE_KINDS:
                self.pixels[kind] = open(self.folder / f"{kind}.partial", "ab")
                self.lists[kind] = open(self.folder / f"{kind}.offsets.partial", "ab")
                self.pixels[kind].truncate(self.rows[kind] * self.size[0] * self.size[1] * 3)
                self.lists[kind].truncate(self.rows[kind] * 4 * 4)
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror}; choose another folder") from error

    def add(self, samples: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Append one step's samples: kind -> (pixels uint8 (N, height, width, 3), offsets float (N, 4))."""
        try:
            for kind, (pixels, offsets) in samples.items():
                self.pixels[kind].write(np.ascontiguousarray(pixels, dtype=np.uint8).tobytes())
                self.lists[kind].write(np.ascontiguousarray(offsets, dtype=np.float32).tobytes())
                self.rows[kind] += len(pixels)
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror}; free some space and run it again, "
                            "it goes on where it stopped") from error
        self.steps += 1

    def save_progress(self) -> None:
        """Make what was added so far survive a kill."""
        for file in (*self.pixels.values(), *self.lists.values()):
            file.flush()
            os.fsync(file.fileno())
        write_text(self.folder / PROGRESS, json.dumps(self._state()))

    def _state(self) -> dict[str, Any]:
        return {"settings": self.settings, "steps": self.steps, "rows": self.rows, "size": self.size,
                "left_out": list(self.left_out)}

    def finish(self) -> dict[str, int]:
        """Turn the growing files into arrays and lists, then write the summary; return the rows of each kind."""
        self.save_progress()
        for kind in SAMPLE_KINDS:
            self.pixels[kind].close()
            self.lists[kind].close()
            offsets = np.fromfile(self.folder / f"{kind}.offsets.partial", dtype=np.float32).reshape(-1, 4)
            numbers = np.column_stack([np.arange(len(offsets)), np.full(len(offsets), LABELS[kind])])
            write_text(self.folder / f"{kind}.txt", rows_as_text(np.hstack([numbers, offsets])))
            self._to_array(kind)
        write_text(self.folder / SUMMARY, json.dumps(self._state(), indent=1))
        self._remove_partial()
        self.complete = True
        return self.rows

    def _remove_partial(self) -> None:
        for kind in SAMPLE_KINDS:
            (self.folder / f"{kind}.partial").unlink(missing_ok=True)
            (self.folder / f"{kind}.offsets.partial").unlink(missing_ok=True)
        (self.folder / PROGRESS).unlink(missing_ok=True)

    def _to_array(self, kind: str) -> None:
        """Copy ``kind.partial`` behind the header of ``kind.npy``."""
        with atomic_path(self.folder / f"{kind}.npy") as temporary, open(temporary, "wb") as file, \
                open(self.folder / f"{kind}.partial", "rb") as source:
            np.lib.format.write_array_header_1_0(file, {
                "descr": "|u1", "fortran_order": False, "shape": (self.rows[kind], *self.size, 3)})
            shutil.copyfileobj(source, file, 1 << 24)
            file.flush()
            os.fsync(file.fileno())


def are_ones_own(folder: Path) -> bool:
    """Whether the samples of a folder are of photos in a table of boxes, and not of CCPD's."""
    try:
        return "boxes" in json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def rows_as_text(rows: np.ndarray) -> str:
    """A line a row: whole numbers, and at the end four offsets, of which nine digits give back every float32."""
    text = io.BytesIO()
    np.savetxt(text, rows, (rows.shape[1] - 4) * "%d " + "%.9g %.9g %.9g %.9g")
    return text.getvalue().decode()


def read_rows(path: Path) -> np.ndarray:
    """A kind's list as float64 (N, 6): row, label, four offsets. Raises UserError when it is missing or malformed."""
    try:
        if path.stat().st_size == 0:
            return np.zeros((0, 6))
        return np.loadtxt(path, dtype=np.float64, ndmin=2).reshape(-1, 6)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the list {path}: {error}; generate the samples again") from None


def open_array(path: Path) -> np.ndarray:
    """A kind's array, memory-mapped. Raises UserError when it is missing or malformed."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the samples {path}: {error}; generate them again") from None
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
        raise UserError(f"{path} holds no samples (uint8, N x height x width x 3); generate them again")
    return array
