"""Data sets of plate crops, and the batches made of them.

A sample is ``(crop, label)``: BGR uint8 (24, 94, 3) and the classes of the plate's symbols, or a ``Sample``. A batch is
``(images, labels, lengths)``: float (N, 3, 24, 94) normalised, the labels of all samples in one row, and the length
of each.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from ccpd.tones import tone_in, tone_of_box
from LPRNet.alphabet import CHARS, CHARS_DICT, CHINESE, TIME_STEPS, Alphabet
from LPRNet.data import augment
from LPRNet.data.crop_names import CropName
from LPRNet.data.labels import Labels, check_tables, label_of
from LPRNet.rows import places_of
from platekit.corners import bounding_box
from platekit.crops import CROP_SIZE, crop_resize, normalise, to_picture, upload
from platekit.errors import UserError
from platekit.files import real_path
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.opencv import cv2

__all__ = ["CHARS", "CHARS_DICT", "LPRDataLoader", "collate_fn", "crop_box", "network_crop"]

SIDE_BY_SIDE = {True: 0.5, False: 0.03}  # share of plates of two rows, and of others, shown as if of two rows
ROW_ERROR = 0.6  # how far such plates are from straight, over that of others: a row must not leave its place


class Sample(NamedTuple):
    """A crop (24, 94, 3), the classes of its plate's symbols, and the plate's corners (4, 2) in it where known."""

    crop: np.ndarray
    label: list[int]
    corners: np.ndarray | None


def crop_box(picture: np.ndarray, corners: np.ndarray | None = None) -> tuple[float, float, float, float]:
    """The plate's box in a crop: round its ``corners``, or the whole picture without them."""
    return tuple(bounding_box(plate_in(picture, corners)).tolist())


def plate_in(picture: np.ndarray, corners: np.ndarray | None) -> np.ndarray:
    """The plate's corners (4, 2) in a crop: the known ones, or the picture's own."""
    return augment.picture_corners(*picture.shape[:2]) if corners is None else corners


def network_crop(picture: np.ndarray, corners: np.ndarray | None = None) -> np.ndarray:
    """The plate's box, resized as the detector does: uint8 (24, 94, 3)."""
    return to_picture(crop_resize(upload(picture), np.array([crop_box(picture, corners)]))[0])


@dataclasses.dataclass(frozen=True, eq=False)
class Crop:
    """A picture to read: its ``label`` in the alphabet, and its plate's ``corners`` (4, 2), if the name tells them or
    they were found."""

    path: Path
    name: CropName
    label: list[int]
    corners: np.ndarray | None

    @property
    def in_scene(self) -> bool:
        """Whether its name tells the corners: it shows surroundings too."""
        return self.name.corners is not None

    def __str__(self) -> str:
        """What ``run_facts`` fingerprints: a training that goes on must find the same crops."""
        return f"{self.path.name} {self.name.plate}" + " in two rows" * (self.name.rows > 1)


class LPRDataLoader(Dataset):
    """Crops of folders, labelled by ``labels`` or their file names; ``augmented``, every access shows another view.

    Indexed by ``index`` or, augmented, by ``(index, seed)`` (the view that belongs to the seed). Raises UserError for
    a folder without pictures, for one with a table of labels that was not read, and for the first picture without a
    label, or with one that has a symbol outside the alphabet, is too long or of more rows than the alphabet; it says
    how many more there are, and names some.
    """

    def __init__(self, img_dirs: str | Path | Sequence[str | Path], alphabet: Alphabet | None = None,
                 augmented: bool = False, labels: Labels | None = None) -> None:
        if not isinstance(alphabet, Alphabet | None):
            raise UserError(f"the second argument is an Alphabet, not {alphabet}; crops are always {CROP_SIZE[0]} x "
                            f"{CROP_SIZE[1]}, and need no size")
        folders = [img_dirs] if isinstance(img_dirs, (str, Path)) else img_dirs
        alphabet, labels = alphabet or Alphabet(), labels or Labels()
        check_tables(folders, labels)
        crops, bad, lacking = [], [], set()
        for path in (path for folder in folders for path in find_images(folder)):
            try:
                name = label_of(path, labels)
                lacking |= set(name.plate) - set(alphabet.symbols)
                crops.append(checked_crop(path, name, labels, alphabet))
            except UserError as error:
                bad.append((path, error))
        if bad:
            others = ", ".join(path.name for path, _ in bad[1:6])
            all_lacking = f"; what the alphabet lacks in all: {''.join(sorted(lacking))}" if len(lacking) > 1 else ""
            raise UserError(f"{bad[0][1]}" + (f" ({len(bad) - 1} others too: {others}{' ...' * (len(bad) > 6)})"
                                              if others else "")
                            + all_lacking)
        self.alphabet = alphabet
        self._set_crops(crops, augmented)

    def _set_crops(self, crops: list[Crop], augmented: bool) -> None:
        """Have these crops, ``augmented`` or not, in place of any others."""
        self.crops, self.augmented = crops, augmented
        self.has_double = any(crop.name.rows > 1 for crop in crops)

    def with_crops(self, crops: list[Crop], augmented: bool) -> LPRDataLoader:
        """A data set of these crops alone."""
        made = copy.copy(self)
        made._set_crops(crops, augmented)
        return made

    def joined(self, other: LPRDataLoader) -> LPRDataLoader:
        """The crops of both, each picture once."""
        mine = {real_path(crop.path) for crop in self.crops}
        new = [crop for crop in other.crops if real_path(crop.path) not in mine]
        return self.with_crops(self.crops + new, self.augmented)

    @property
    def labels(self) -> list[list[int]]:
        """What each crop shows, as indices of the alphabet."""
        return [crop.label for crop in self.crops]

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, key: int | tuple[int, int]) -> tuple[np.ndarray, list[int]]:
        index, seed = key if isinstance(key, tuple) else (key, any_seed())
        if self.augmented:
            return self.view(index, seed)[:2]
        crop = self.crops[index]
        picture, corners = read_image(crop.path), crop.name.corner_array()
        if crop.name.rows > 1:
            return self.side_by_side(picture, corners, augment.straight_pose()), crop.label
        return network_crop(picture, corners), crop.label

    def side_by_side(self, picture: np.ndarray, corners: np.ndarray | None, pose: np.ndarray) -> np.ndarray:
        """The rows of a plate at ``corners`` (4, 2), or filling the picture, that straightening has left in ``pose``,
        as LPRNet reads them: uint8 (24, 94, 3)."""
        plate = plate_in(picture, corners)
        return augment.rows_side_by_side(pose, lambda place: augment.warp(picture, plate, place),
                                         places_of(self.alphabet)[0])

    def find_corners(self, find: Callable[[np.ndarray], np.ndarray]) -> None:
        """Have ``find(picture)`` tell the corners (4, 2) of the plates whose crops do not come with them.

        Good enough to turn the crop by and to cut between symbols, not to teach the corners by. Corners of next to
        nothing, as an untrained transformer may find them, are left out.
        """
        for index, crop in enumerate(tqdm(self.crops, desc="corners", unit="crop", leave=False)):
            if not crop.in_scene:
                try:
                    picture = read_image(crop.path)
                except UserError:  # said when its turn comes
                    continue
                corners = find(picture).astype(np.float32)
                middle, size = corners.mean(axis=0), picture.shape[1::-1]
                sound = ((middle > 0) & (middle < size)).all() and cv2.contourArea(corners) > 0.2 * size[0] * size[1]
                self.crops[index] = dataclasses.replace(crop, corners=corners if sound else None)

    def same_layout(self, *crops: Crop) -> bool:
        """Whether two plates' symbols stand in the same places: Chinese ones of seven symbols in one row."""
        return self.alphabet.chinese and all(
            crop.name.rows == 1 and len(crop.label) == len(augment.CUTS) + 1 and CHINESE.fullmatch(crop.name.plate)
            for crop in crops)

    def view(self, index: int, seed: int, partner: int | None = None, to_train: bool = False) -> Sample:
        """The view of a crop that belongs to the seed; its last symbols are those of crop ``partner``, where both fit.

        So the nets see symbols of real plates in texts that no plate of theirs has: they cannot learn them by heart.
        Two rows are shown side by side. Where there are such plates, some of the views ``to_train`` show two rows as
        one, or one as two: these have no text, by which the reader tells them apart.
        """
        rng = np.random.default_rng(seed)
        crop = self.crops[index]
        picture, corners, label = read_image(crop.path), crop.corners, crop.label
        known, double = crop.in_scene, crop.name.rows > 1
        other = None if partner is None else self.crops[partner]
        if other and corners is not None and other.corners is not None and self.same_layout(crop, other):
            cut = int(rng.choice(len(augment.CUTS), p=augment.CUT_SHARES)) + 1
            exchanged = augment.exchange(picture, corners, read_image(other.path), other.corners, cut)
            if exchanged is not None:
                picture, label = exchanged, label[:cut] + other.label[cut:]
        tone = tone_in(augment.plate_alone(picture, plate_in(picture, corners)))
        confuse = to_train and self.has_double
        side_by_side = rng.random() < SIDE_BY_SIDE[double] if confuse else double
        if side_by_side:
            view = self.side_by_side(picture, corners, augment.nearly_straight_pose(rng, ROW_ERROR))
            return Sample(augment.degrade(view, rng, tone), label if double else [],
                          augment.straight_pose() if known else None)
        if corners is not None and (known or rng.random() < 0.5):
            view, corners = augment.view_with_corners(picture, corners, rng)
            tone = tone_of_box(tone, corners)
        else:
            view = augment.view_without_corners(picture, rng)
        return Sample(augment.degrade(view, rng, tone), [] if double else label, corners if known else None)


def checked_crop(path: Path, name: CropName, labels: Labels, alphabet: Alphabet) -> Crop:
    """The crop that shows what ``name`` tells. Raises UserError for what cannot be trained on."""
    label = alphabet.encode(name.plate, source=str(path))
    if not 0 < len(label) <= alphabet.max_length:
        raise UserError(f"{path}: plate '{name.plate}' has {len(label)} symbols, the limit is {alphabet.max_length}; "
                        "correct the label (--max_length sets the limit)")
    twins = sum(a == b for a, b in pairwise(label))  # which CTC tells apart by a blank between them
    if len(label) + twins > TIME_STEPS:
        raise UserError(f"{path}: plate '{name.plate}' needs {len(label) + twins} time steps (one more "
                        f"between equal neighbours), but LPRNet has {TIME_STEPS}; leave this plate out")
    if name.rows > alphabet.rows:
        raise UserError(f"{path} is of a plate of two rows, but the alphabet of plates of one; give it rows=2")
    if not alphabet.is_label(name.plate) and real_path(path) not in labels:
        raise UserError(f"{path}: its name gives '{name.plate}', which is no plate; call crops "
                        "<plate>_<number>.jpg, or list what they show in a table (--labels)")
    return Crop(path, name, label, name.corner_array())


def any_seed() -> int:
    """The seed of a view that is asked for by its index alone, drawn by torch: each loader process has other ones."""
    return int(torch.randint(2**62, ()))


def collate_fn(batch: Sequence[tuple[np.ndarray, list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Samples to ``(images, labels, lengths)`` as in the module's description."""
    crops, labels = zip(*batch)
    images = normalise(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
    return (images, torch.tensor([symbol for label in labels for symbol in label], dtype=torch.long),
            torch.tensor([len(label) for label in labels]))
