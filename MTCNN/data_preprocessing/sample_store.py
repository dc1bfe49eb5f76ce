"""Training samples on disk: one memory-mapped array a kind, and a text list that points into it.

A folder holds ``positive.npy``, ``part.npy`` and ``negative.npy``, uint8 (N, height, width, 3) in BGR, and beside each
a ``.txt`` with a line ``row label dx1 dy1 dx2 dy2`` a sample: label 1, -1 or 0, and the offsets in full precision.
``samples.json`` says that the folder is complete. Until it is there the files grow as ``.partial`` files, and
``progress.json`` says how far they are sound, so that a killed run goes on where it stopped. ``photos.txt``, written
after it (generate.generate_split), lists the photos.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from MTCNN.data_preprocessing.windows import LABELS, SAMPLE_KINDS
from platekit.errors import UserError
from platekit.files import replace, write_text

SUMMARY, PROGRESS = "samples.json", "progress.json"
PHOTOS = "photos.txt"  # that the samples are of, one path per line
ARRAY = "# array "  # what a list's lines begin with that name its arrays
HEADER = 128  # bytes before an array's samples, however many they are


class SampleWriter:
    """Appends samples of all kinds; ``settings`` is what they depend on, and a folder of other settings is refused."""

    def __init__(self, folder: str | os.PathLike, size: tuple[int, int], settings: dict[str, Any]) -> None:
        """``size`` is (height, width) of the samples. Raises UserError when the folder holds other samples."""
        self.folder, self.size, self.settings = Path(folder), size, json.loads(json.dumps(settings))
        self.steps = 0
        self.left_out: dict[str, None] = {}  # what could not be used: keys, in the order of their coming
        self.rows, self.list_bytes = dict.fromkeys(SAMPLE_KINDS, 0), dict.fromkeys(SAMPLE_KINDS, 0)
        self.arrays: dict[str, BinaryIO] = {}
        self.lists: dict[str, BinaryIO] = {}
        self.complete = (self.folder / SUMMARY).exists()
        if self.complete:
            self._restore(self.folder / SUMMARY)
            for _, name, sound in self._files():
                path = self.folder / name
                if not path.exists() or path.stat().st_size != sound:
                    raise self._damaged(path)
            (self.folder / PROGRESS).unlink(missing_ok=True)  # which a kill at the very end leaves
        elif (self.folder / PROGRESS).exists():
            self._restore(self.folder / PROGRESS)
            self._open("r+b")
        else:
            self._open("wb")

    def _restore(self, path: Path) -> None:
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            theirs = dict(state["settings"])
            differing = [key for key in {**self.settings, **theirs} if theirs.get(key) != self.settings.get(key)]
            self.steps, self.rows = state["steps"], {kind: int(state["rows"][kind]) for kind in SAMPLE_KINDS}
            self.list_bytes = {kind: int(state["list_bytes"][kind]) for kind in SAMPLE_KINDS}
            self.left_out = dict.fromkeys(state.get("left_out", ()))
        except (OSError, ValueError, KeyError, TypeError):
            raise self._damaged(path) from None
        if differing:
            key = differing[0]
            raise UserError(f"{self.folder} holds samples made with another {key} ({theirs.get(key)}, now "
                            f"{self.settings.get(key)}); remove it or name another folder")

    def _damaged(self, path: Path) -> UserError:
        return UserError(f"{path} is damaged; remove {self.folder} and generate it again")

    def _files(self) -> Iterator[tuple[str, str, int]]:
        """The kind, name and bytes of each file, by what was written so far."""
        for kind in SAMPLE_KINDS:
            yield kind, f"{kind}.npy", HEADER + self.rows[kind] * math.prod(self.size) * 3
            yield kind, f"{kind}.txt", self.list_bytes[kind]

    def _open(self, mode: str) -> None:
        """Open the growing files and cut off what a killed run wrote after its last ``progress.json``."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for kind, name, sound in self._files():
                whole, path = self.folder / name, self.folder / f"{name}.partial"
                if mode == "r+b":
                    if whole.exists() and not path.exists():  # the run was killed while it renamed
                        replace(whole, path)
                    if not path.exists() or path.stat().st_size < sound:
                        raise self._damaged(path)
                files = self.arrays if name.endswith(".npy") else self.lists
                files[kind] = open(path, mode)  # type: ignore[assignment]  # both modes are binary
                files[kind].truncate(sound)
                files[kind].seek(sound)
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror}; choose another folder") from error

    def add(self, samples: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Append one step's samples: kind -> (pixels uint8 (N, height, width, 3), offsets float (N, 4))."""
        try:
            for kind, (pixels, offsets) in samples.items():
                numbers = np.arange(self.rows[kind], self.rows[kind] + len(pixels))
                lines = np.column_stack([numbers, np.full(len(pixels), LABELS[kind]), offsets.astype(np.float32)])
                self.arrays[kind].write(np.ascontiguousarray(pixels, dtype=np.uint8).tobytes())
                self.list_bytes[kind] += self.lists[kind].write(as_lines(lines))
                self.rows[kind] += len(pixels)
        except OSError as error:
            raise UserError(f"cannot write to {self.folder}: {error.strerror}; free some space and run it again, "
                            "it goes on where it stopped") from error
        self.steps += 1

    def save_progress(self) -> None:
        """Make what was added so far survive a kill."""
        for file in (*self.arrays.values(), *self.lists.values()):
            file.flush()
            os.fsync(file.fileno())
        write_text(self.folder / PROGRESS, json.dumps(self._state()))

    def _state(self) -> dict[str, Any]:
        return {"settings": self.settings, "steps": self.steps, "rows": self.rows, "list_bytes": self.list_bytes,
                "left_out": list(self.left_out)}

    def finish(self) -> dict[str, int]:
        """Give the grown files headers and their names, then write the summary; return the rows of each kind."""
        for kind, file in self.arrays.items():
            file.seek(0)
            np.lib.format.write_array_header_1_0(file, {
                "descr": "|u1", "fortran_order": False, "shape": (self.rows[kind], *self.size, 3)})
            assert file.tell() == HEADER
        self.save_progress()
        for file in (*self.arrays.values(), *self.lists.values()):
            file.close()
            replace(Path(file.name), Path(file.name).with_suffix(""))
        write_text(self.folder / SUMMARY, json.dumps(self._state(), indent=1))
        (self.folder / PROGRESS).unlink()
        self.complete = True
        return self.rows


def are_of_a_table(folder: Path) -> bool:
    """Whether the samples of a folder are of photos in a table of boxes, and not of CCPD's."""
    try:
        return "boxes" in json.loads((folder / SUMMARY).read_text(encoding="utf-8"))["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def as_lines(rows: np.ndarray) -> bytes:
    """Rows (N, 6) of a kind's list as its lines; nine digits of an offset give back every float32."""
    text = io.BytesIO()
    np.savetxt(text, rows, "%d %d %.9g %.9g %.9g %.9g")
    return text.getvalue()


def open_array(path: Path) -> np.ndarray:
    """A kind's array, memory-mapped. Raises UserError when it is missing or malformed."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the samples {path}: {error}; remove {path.parent} and generate it again") \
            from None
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != 3:
        raise UserError(f"{path} holds no samples (uint8, N x height x width x 3); remove {path.parent} and generate "
                        "it again")
    return array
