"""Data sets of plate crops, and the batches made of them.

A sample is ``(crop, label)``: BGR uint8 (24, 94, 3) and the classes of the plate's symbols, or a ``Sample``. A batch is
``(images, labels, lengths)``: float (N, 3, 24, 94) normalised, the labels of all samples in one row, and the length
of each.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from ccpd.plates import (
    FORCES,
    FORCES_SHARE,
    KINDS,
    UNREAD_SYMBOLS,
    PlateKind,
    PlateRenderer,
    forces_text,
    random_text,
    tone_of,
    unread_plate,
)
from ccpd.textures import pick
from LPRNet.alphabet import CHARS, CHARS_DICT, TIME_STEPS, Alphabet
from LPRNet.data import augment
from LPRNet.data.crop_names import CropName
from LPRNet.data.labels import Labels, check_tables, label_of
from LPRNet.rows import places_of
from platekit.corners import bounding_box
from platekit.crops import CROP_SIZE, crop_resize, normalise, to_picture, upload
from platekit.errors import UserError
from platekit.files import real_path
from platekit.images import find_images, read_image
from platekit.opencv import cv2

__all__ = ["CHARS", "CHARS_DICT", "LPRDataLoader", "RenderedPlates", "TrainingPlates", "build_rendered", "collate_fn",
           "collate_with_corners", "crop_box", "network_crop"]

Sample = tuple[np.ndarray, list[int], np.ndarray | None]  # crop, label, the plate's corners (4, 2) in the crop
Scene = tuple[np.ndarray, np.ndarray, str]  # picture, its plate's corners (4, 2), its plate's text
# Real plates are blue nearly all.
KIND_SHARES = {"blue": 6, "green": 7, "yellow": 5, "white": 13, "black": 7, "yellow_double": 9, "motorcycle": 6,
               "moped": 7}
FORCES_KIND_SHARES = {"white": 0.3, "white_police": 0.2, "white_double": 0.5}
UNREAD_SHARE = 0.35  # of plates with a symbol outside the alphabet, among kinds that can have one; labels omit it
LOCAL = 0.5  # share of the blue plates drawn into a scene that are of its own plate's city, as most are on a street
IN_SCENE = 0.4  # share of the real samples that are crops with surroundings, where there are such and others
MOST_OFTEN = 3  # times as often as an average crop those of either kind are taken: few would be learned by heart
SIDE_BY_SIDE = {True: 0.5, False: 0.03}  # share of drawn plates of two rows, and of others, shown as if of two rows
ROW_ERROR = 0.6  # how far such plates are from straight, over that of others: a row must not leave its place
TRIES = 50  # crops that may be tried for a sample, where some cannot be read
EXCHANGED = 0.7  # share of the real samples with symbols of two plates, where the corners of both are known or found


def crop_box(picture: np.ndarray, corners: np.ndarray | None = None) -> tuple[float, float, float, float]:
    """The plate's box in a crop: round its ``corners``, or the whole picture without them."""
    return (0.0, 0.0, float(picture.shape[1]), float(picture.shape[0])) if corners is None \
        else tuple(bounding_box(corners).tolist())


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

    def __str__(self) -> str:
        """What a training that goes on must find as it was."""
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
        crops, bad = [], []
        for path in (path for folder in folders for path in find_images(folder)):
            try:
                crops.append(checked_crop(path, labels, alphabet))
            except UserError as error:
                bad.append((path, error))
        if bad:
            others = ", ".join(path.name for path, _ in bad[1:6])
            raise UserError(f"{bad[0][1]}" + (f" ({len(bad) - 1} others too: {others}{' ...' * (len(bad) > 6)})"
                                              if others else ""))
        self.alphabet = alphabet
        self.show(crops, augmented)

    def show(self, crops: list[Crop], augmented: bool) -> None:
        """Have these crops, ``augmented`` or not, in place of any others."""
        self.crops, self.augmented = crops, augmented
        self.has_double = any(crop.name.rows > 1 for crop in crops)

    def with_crops(self, crops: list[Crop], augmented: bool) -> LPRDataLoader:
        """A data set of these crops alone."""
        made = copy.copy(self)
        made.show(crops, augmented)
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
        plate = augment.picture_corners(*picture.shape[:2]) if corners is None else corners
        return augment.rows_side_by_side(pose, lambda place: augment.warp(picture, plate, place),
                                         places_of(self.alphabet)[0])

    def find_corners(self, find: Callable[[np.ndarray], np.ndarray]) -> None:
        """Have ``find(picture)`` tell the corners (4, 2) of the plates whose crops do not come with them.

        Good enough to turn the crop by and to cut between symbols, not to teach the corners by. Corners of next to
        nothing, as an untrained transformer may find them, are left out.
        """
        for index, crop in enumerate(tqdm(self.crops, desc="corners", unit="crop", leave=False)):
            if crop.name.corners is None:
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
        return self.alphabet.chars == CHARS and all(
            crop.name.rows == 1 and len(crop.label) == len(augment.CUTS) + 1 and self.alphabet.is_label(crop.name.plate)
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
        known, double = crop.name.corners is not None, crop.name.rows > 1
        other = None if partner is None else self.crops[partner]
        if other and corners is not None and other.corners is not None and self.same_layout(crop, other):
            cut = int(rng.choice(len(augment.CUTS), p=augment.CUT_SHARES)) + 1
            both = augment.exchange(picture, corners, read_image(other.path), other.corners, cut)
            if both is not None:
                picture, label = both, label[:cut] + other.label[cut:]
        tone = augment.tone_in(picture, augment.picture_corners(*picture.shape[:2]) if corners is None else corners)
        confuse = to_train and self.has_double
        side_by_side = rng.random() < SIDE_BY_SIDE[double] if confuse else double
        if side_by_side:
            view = self.side_by_side(picture, corners, augment.nearly_straight_pose(rng, ROW_ERROR))
            return augment.degrade(view, rng, tone), label if double else [], augment.straight_pose() if known else None
        if corners is not None and (known or rng.random() < 0.5):
            view, corners = augment.view_with_corners(picture, corners, rng)
            tone = augment.tone_of_crop(tone, corners)
        else:
            view = augment.view_without_corners(picture, rng)
        return augment.degrade(view, rng, tone), [] if double else label, corners if known else None


def checked_crop(path: Path, labels: Labels, alphabet: Alphabet) -> Crop:
    """A crop and what it shows. Raises UserError for what cannot be trained on."""
    name = label_of(path, labels)
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


class RenderedPlates:
    """Plates drawn by the generator, kinds by ``KIND_SHARES``.

    A sample uses one of the ``renderers`` by their shares. Round the plate a blurred piece of one of the real
    ``pictures`` shows, or, in half of the samples, what surrounds the plate of one of the real ``scenes``, with that
    plate's light. Provinces come evenly, but for the blue plates (``LOCAL``) that come from the scene's city. White
    plates may be the armed forces'. The label lacks symbols outside the alphabet, as of the police. Plates of two rows
    come with their rows side by side, and as they are: without a text.
    """

    def __init__(self, renderers: Sequence[tuple[PlateRenderer, float]], alphabet: Alphabet,
                 pictures: Sequence[np.ndarray] = (), scenes: Sequence[Scene] = ()) -> None:
        self.renderers, self.alphabet = renderers, alphabet
        self.pictures, self.scenes = pictures, scenes
        shares = np.array([KIND_SHARES[kind] for kind in KINDS], dtype=float)
        self.kinds, self.shares = list(KINDS), shares / shares.sum()

    def plate(self, rng: np.random.Generator) -> tuple[PlateKind, str]:
        """A random kind, and a text of it."""
        kind = KINDS[str(rng.choice(self.kinds, p=self.shares))]
        if kind.name == "white" and rng.random() < FORCES_SHARE:
            kind = FORCES[str(rng.choice(list(FORCES_KIND_SHARES), p=list(FORCES_KIND_SHARES.values())))]
            return kind, forces_text(rng, kind)
        if kind.name in UNREAD_SYMBOLS and rng.random() < UNREAD_SHARE:
            return unread_plate(rng, kind)
        return kind, random_text(rng, kind)

    def view(self, seed: int) -> Sample:
        """The plate that belongs to the seed."""
        rng = np.random.default_rng(seed)
        kind, text = self.plate(rng)
        return self.view_of(kind, text, rng)

    def view_of(self, kind: PlateKind, text: str, rng: np.random.Generator) -> Sample:
        """A plate with this text, drawn anyhow."""
        scene = pick(rng, self.scenes) if self.scenes and rng.random() < 0.5 else None
        if scene and kind.name == "blue" and rng.random() < LOCAL:
            text = scene[2][:2] + text[2:]
        renderer = self.renderers[rng.choice(len(self.renderers), p=[share for _, share in self.renderers])][0]
        plate = renderer.render(text, kind, rng)
        tone = tone_of(plate, kind)
        double = kind.upper > 0
        side_by_side = rng.random() < SIDE_BY_SIDE[double]
        pose = augment.nearly_straight_pose(rng, ROW_ERROR) if side_by_side else augment.random_pose(rng)
        if scene:
            plate = augment.match_light(plate, *scene[:2], rng)
        else:
            background = augment.random_background(self.pictures, rng)

        def show(corners: np.ndarray) -> np.ndarray:
            behind = augment.warp(*scene[:2], corners) if scene else background
            return augment.warp(plate, augment.picture_corners(*plate.shape[:2]), corners, behind)

        view = augment.rows_side_by_side(pose, show) if side_by_side else show(pose)
        # What is one row shown as two, or two as one, is no text: the reader tells them apart by that.
        readable = "".join(filter(self.alphabet.__contains__, text))
        label = self.alphabet.encode(readable) if side_by_side == double else []
        if not side_by_side:
            tone = augment.tone_of_crop(tone, pose)
        return augment.degrade(view, rng, tone), label, augment.straight_pose() if side_by_side else pose


def build_rendered(glyphs: Path | None, real: LPRDataLoader, alphabet: Alphabet) -> RenderedPlates:
    """Drawn plates, in the surroundings of up to 600 real crops of each kind; a tenth in OpenCV's font.

    Of crops with known corners those of blue plates, which tell how bright the light is.
    """

    def some(with_corners: bool) -> Iterator[tuple[np.ndarray, CropName]]:
        crops = [crop for crop in real.crops if (crop.name.corners is not None) == with_corners]
        for crop in crops[:: 1 + len(crops) // 600]:
            with contextlib.suppress(UserError):  # training says which cannot be read
                yield read_image(crop.path), crop.name

    pictures = [picture for picture, _ in some(with_corners=False)]
    scenes = [(picture, corners, name.plate) for picture, name in some(with_corners=True)
              if (corners := name.corner_array()) is not None and augment.shows_blue(picture, corners)]
    shares = {glyphs: 0.9, None: 0.1} if glyphs else {None: 1.0}
    renderers = [(PlateRenderer(source), share) for source, share in shares.items()]
    return RenderedPlates(renderers, alphabet, pictures, scenes)


class TrainingPlates(Dataset):
    """One epoch of ``size`` samples: ``rendered_share`` of them drawn, the others views of real crops.

    Indexed by ``(index, seed)``; samples come with the plate's corners in the crop, where they are known. In place of a
    crop that cannot be read there is another; UserError where nearly all cannot.
    """

    def __init__(self, real: LPRDataLoader | None, rendered: RenderedPlates | None, size: int,
                 rendered_share: float = 0.5) -> None:
        if not real and rendered is None:
            raise UserError("there is nothing to train on; give --img_dirs_train or --rendered_share above 0")
        self.real, self.rendered, self.size = real, rendered, size
        self._problems: set[str] = set()  # what this process has said already
        self.chances = np.cumsum(sample_shares(real)) if real else None
        self.rendered_count = 0 if rendered is None else size if not real else round(size * rendered_share)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        index, seed = key
        if self.rendered is not None and index < self.rendered_count:
            return self.rendered.view(seed)
        assert self.real is not None and self.chances is not None  # else all are drawn
        for attempt in range(TRIES):
            # A random item, not index modulo: an epoch shorter than the set must not show its first part alone.
            rng = np.random.default_rng((seed, 1 + attempt))  # not the first numbers of the view's own draws
            chosen = int(np.searchsorted(self.chances[:-1], rng.random()))
            partner = int(rng.integers(len(self.real))) if rng.random() < EXCHANGED else None
            try:
                return self.real.view(chosen, seed, partner, to_train=True)
            except UserError as error:  # one damaged crop does not end a long training
                problem = error
                if str(error) not in self._problems:
                    self._problems.add(str(error))
                    print(f"left out: {error}", file=sys.stderr)
        raise problem


def sample_shares(data: LPRDataLoader) -> np.ndarray:
    """How often to take each crop (N,), in all 1.

    Crops with surroundings are taken evenly, ``IN_SCENE`` of all if neither kind is rare: their plates are as frequent
    as on the street, which is what decides between two provinces in blur. The others come by ``first_symbol_shares``.
    """
    in_scene = np.array([crop.name.corners is not None for crop in data.crops])
    if in_scene.all():
        return in_scene / len(data)
    shares = np.zeros(len(data))
    shares[~in_scene] = first_symbol_shares([label for label, there in zip(data.labels, in_scene) if not there])
    if not in_scene.any():
        return shares
    share = in_scene.mean()
    taken = min(max(IN_SCENE, 1 - MOST_OFTEN * (1 - share)), MOST_OFTEN * share)
    return np.where(in_scene, taken / in_scene.sum(), shares * (1 - taken))


def first_symbol_shares(labels: Sequence[Sequence[int]]) -> np.ndarray:
    """How often to take each sample (N,), in all 1: what rare provinces lack is half made up for.

    The chance of a sample falls with the root of how many share its first symbol, as a compromise between even
    samples, of which nearly all would be of few provinces, and even provinces, of which some are one photo.
    """
    first = np.array([label[0] for label in labels])
    weights = 1 / np.sqrt(np.bincount(first)[first])
    return weights / weights.sum()


def collate_fn(batch: Sequence[tuple[np.ndarray, list[int]]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Samples to ``(images, labels, lengths)`` as in the module's description."""
    crops, labels = zip(*batch)
    images = normalise(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2))
    return (images, torch.tensor([symbol for label in labels for symbol in label], dtype=torch.long),
            torch.tensor([len(label) for label in labels]))


def collate_with_corners(batch: Sequence[Sample]) -> tuple[torch.Tensor, ...]:
    """Samples with corners to ``(images, labels, lengths, corners)``: corners (N, 4, 2), NaN where not known."""
    unknown = np.full((4, 2), np.nan, dtype=np.float32)
    corners = np.stack([unknown if sample[2] is None else sample[2].astype(np.float32) for sample in batch])
    return *collate_fn([sample[:2] for sample in batch]), torch.from_numpy(corners)
