"""Training samples in batches: rows gathered from the memory-mapped arrays."""

from __future__ import annotations

import os
import warnings
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from MTCNN.data_preprocessing.sample_store import ARRAY, PHOTOS, SUMMARY, are_of_a_table, open_array
from MTCNN.train.augment import prepare
from platekit.crops import normalise
from platekit.errors import UserError
from platekit.files import file_fingerprint


class Batch(NamedTuple):
    """``pixels`` network input (N, 3, h, w), ``labels`` (N,) 1 positive, 0 negative, -1 part, ``offsets`` (N, 4)."""

    pixels: torch.Tensor
    labels: torch.Tensor
    offsets: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(part.to(device, non_blocking=True) for part in self))


class SampleList(Dataset):
    """The samples of an assembled list. Indexed with (index, seed) it only passes the key on: ``collate`` reads the
    whole batch at once, which is many times faster than sample by sample."""

    def __init__(self, path: str | os.PathLike, augment: bool, size: tuple[int, int], raw: bool = False) -> None:
        """``raw`` leaves pixels as bytes, for ``prepare`` on a GPU: it is many times faster than a loader process.

        Raises UserError when the list or an array is missing, malformed or of another sample ``size``.
        """
        self.path, self.augment, self.size, self.raw = Path(path), augment, size, raw
        try:
            with open(self.path, encoding="utf-8") as file:
                arrays = []
                for line in file:
                    if not line.startswith(ARRAY):
                        break
                    arrays.append(line.removeprefix(ARRAY).rstrip("\n").split(" ", 1))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # an empty list is reported below
                rows = np.loadtxt(self.path, dtype=np.float64, comments="#", ndmin=2, encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UserError(f"cannot read the list {self.path}: {error}; run the assemble_*_imglist.py script") \
                from None
        whole = rows[:, :3]  # array, row and label
        sound = len(rows) and arrays and rows.shape[1] == 7 and min(map(len, arrays)) == 2 \
            and (abs(whole) < 2**53).all() and (whole == whole.round()).all() \
            and (whole[:, :2] >= 0).all() and rows[:, 0].max() < len(arrays)  # 2**53: float64 holds all below exactly
        if not sound:
            raise UserError(f"{self.path} is no list of samples; run the assemble_*_imglist.py script again")
        self._files = [self.path.parent / name for _, name in arrays]
        self.arrays = [open_array(file) for file in self._files]
        self.array, self.row = rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64)
        self.labels = torch.from_numpy(rows[:, 2].astype(np.int64))
        self.offsets = torch.from_numpy(rows[:, 3:].astype(np.float32))
        for number, (summary_fingerprint, name) in enumerate(arrays):
            wanted, array = self.row[self.array == number], self.arrays[number]
            if len(wanted) and (array.shape[1:3] != tuple(size) or wanted.max() >= len(array)
                                or file_fingerprint(self._files[number].with_name(SUMMARY)) != summary_fingerprint):
                raise UserError(f"{self.path} does not fit {name}; assemble the list again")

    @property
    def are_of_a_table(self) -> bool:
        """Whether samples are of photos in a table of boxes."""
        return any(are_of_a_table(file.parent) for file in self._files)

    @property
    def photo_lists(self) -> list[Path]:
        """The lists of the photos that the samples are of."""
        lists = dict.fromkeys(file.with_name(PHOTOS) for file in self._files)
        return [path for path in lists if path.is_file()]

    @property
    def photos(self) -> set[str]:
        """The photos that the samples are of, as far as they are noted."""
        return set(chain.from_iterable(os.fsdecode(path.read_bytes()).splitlines() for path in self.photo_lists))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"arrays": None}  # memory-mapped ones would be pickled with all that is in them

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.arrays = [open_array(file) for file in self._files]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: tuple[int, int]) -> tuple[int, int]:
        return key

    def read(self, indices: np.ndarray) -> torch.Tensor:
        """Pixels uint8 (N, h, w, 3) of the samples."""
        pixels = np.empty((len(indices), *self.size, 3), np.uint8)
        for number in np.unique(self.array[indices]):
            here = np.flatnonzero(self.array[indices] == number)
            here = here[np.argsort(self.row[indices[here]])]  # in the order of the file
            pixels[here] = self.arrays[number][self.row[indices[here]]]
        return torch.from_numpy(pixels)

    def collate(self, keys: list[tuple[int, int]]) -> Batch:
        """The batch of these (index, seed) keys; what is random in it follows from the first seed."""
        indices = np.array([index for index, _ in keys])
        pixels = self.read(indices).permute(0, 3, 1, 2)  # stays channels-last in memory
        if not self.raw:
            generator = torch.Generator().manual_seed(keys[0][1])
            pixels = prepare(pixels, generator) if self.augment else normalise(pixels)
        return Batch(pixels, self.labels[indices], self.offsets[indices])
