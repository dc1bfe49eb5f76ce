"""Plates that the generator draws, as crops to train on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ccpd.plate_kinds import FORCES, KINDS, PlateKind
from ccpd.plate_numbers import FORCES_SHARE, UNREAD_SYMBOLS, forces_text, random_text, unread_plate
from ccpd.plates import PlateRenderer, plate_mask
from ccpd.symbols import PROVINCES
from ccpd.textures import pick, pick_by_share
from ccpd.tones import tone_of, tone_of_box
from LPRNet.alphabet import Alphabet
from LPRNet.data import augment
from LPRNet.data.crop_names import CropName
from LPRNet.data.load_data import ROW_ERROR, SIDE_BY_SIDE, LPRDataLoader, Sample
from platekit.errors import UserError
from platekit.images import read_image

# Real plates are blue nearly all.
KIND_SHARES = {"blue": 6, "yellow": 5, "white": 13, "black": 7, "yellow_double": 9, "green": 7, "motorcycle": 6,
               "moped": 7}
FORCES_KIND_SHARES = {"white": 0.3, "white_police": 0.2, "white_double": 0.5}
UNREAD_SHARE = 0.35  # of plates with a symbol outside the alphabet, among kinds that can have one; labels omit it
UNREAD_WHITE = 0.7  # the same of white ones that are not the forces': others are hardly ever issued
LOCAL = 0.5  # share of the blue plates drawn into a scene that are of its own plate's city, as most are on a street
SURROUNDINGS = 600


class Scene(NamedTuple):
    """A real picture, the corners (4, 2) of its plate, and the plate's text."""

    picture: np.ndarray
    corners: np.ndarray
    text: str


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
        self.renderers, self.alphabet = dict(renderers), alphabet
        self.pictures, self.scenes, self.kind_shares = pictures, scenes, KIND_SHARES

    def plate(self, rng: np.random.Generator) -> tuple[PlateKind, str]:
        """A random kind, and a text of it."""
        kind = KINDS[pick_by_share(rng, self.kind_shares)]
        if kind.name == "white" and rng.random() < FORCES_SHARE:
            kind = FORCES[pick_by_share(rng, FORCES_KIND_SHARES)]
            return kind, forces_text(rng, kind)
        if kind.name in UNREAD_SYMBOLS and rng.random() < (UNREAD_WHITE if kind.name == "white" else UNREAD_SHARE):
            return unread_plate(rng, kind)
        return kind, random_text(rng, kind)

    def view(self, seed: int) -> Sample:
        """The plate that belongs to the seed."""
        rng = np.random.default_rng(seed)
        kind, text = self.plate(rng)
        return self.view_of(kind, text, rng)

    def view_of(self, kind: PlateKind, text: str, rng: np.random.Generator, for_colour: bool = False) -> Sample:
        """A plate with this text, drawn anyhow; some with their rows side by side, some grey, unless ``for_colour``."""
        scene = pick(rng, self.scenes) if self.scenes and rng.random() < 0.5 else None
        if scene and kind.name == "blue" and rng.random() < LOCAL:
            text = scene.text[:2] + text[2:]
        renderer = pick_by_share(rng, self.renderers)
        plate = renderer.render(text, kind, rng)
        mask = plate_mask(plate, kind)
        tone = tone_of(plate, kind)
        double = kind.upper > 0
        side_by_side = not for_colour and rng.random() < SIDE_BY_SIDE[double]
        pose = augment.nearly_straight_pose(rng, ROW_ERROR) if side_by_side else augment.random_pose(rng)
        if scene:
            plate = augment.match_light(plate, scene.picture, scene.corners, rng)
        else:
            background = augment.random_background(self.pictures, rng)

        def show(corners: np.ndarray) -> np.ndarray:
            behind = augment.warp(scene.picture, scene.corners, corners) if scene else background
            return augment.warp(plate, augment.picture_corners(*plate.shape[:2]), corners, behind, mask)

        view = augment.rows_side_by_side(pose, show) if side_by_side else show(pose)
        # What is one row shown as two, or two as one, is no text: the reader tells them apart by that.
        readable = "".join(filter(self.alphabet.__contains__, text))
        label = self.alphabet.encode(readable) if side_by_side == double else []
        if not side_by_side:
            tone = tone_of_box(tone, pose)
        view = augment.degrade(view, rng, tone, grey=0 if for_colour else augment.GREY)
        return Sample(view, label, augment.straight_pose() if side_by_side else pose)


def build_rendered(glyphs: Path | None, real: LPRDataLoader, alphabet: Alphabet) -> RenderedPlates:
    """Drawn plates, in the surroundings of up to ``SURROUNDINGS`` real crops of each kind; a tenth in OpenCV's font.

    Of crops with known corners only those of blue plates are taken: their brightness tells the light.
    """

    def some(with_corners: bool) -> Iterator[tuple[np.ndarray, CropName]]:
        crops = [crop for crop in real.crops if crop.in_scene == with_corners]
        chosen = np.linspace(0, len(crops) - 1, min(len(crops), SURROUNDINGS)).astype(int)
        for crop in (crops[index] for index in chosen):
            with contextlib.suppress(UserError):  # training says which cannot be read
                yield read_image(crop.path), crop.name

    pictures = [picture for picture, _ in some(with_corners=False)]
    scenes = [Scene(picture, corners, name.plate) for picture, name in some(with_corners=True)
              if (corners := name.corner_array()) is not None and name.plate[:1] in PROVINCES
              and len(name.plate) >= KINDS["blue"].symbols and augment.shows_blue(picture, corners)]
    shares = {glyphs: 0.9, None: 0.1} if glyphs else {None: 1.0}
    renderers = [(PlateRenderer(source), share) for source, share in shares.items()]
    return RenderedPlates(renderers, alphabet, pictures, scenes)
