"""Other plates on real photos: a drawn plate of any kind over the photo's own, as lit and as sharp as that one.

Real photos show blue plates almost only. With a green, yellow, white or black plate at the same corners the nets learn
these kinds in real surroundings; with a sign that is no plate they learn that the place alone makes none.
"""

from __future__ import annotations

import os

import numpy as np

from ccpd import camera
from ccpd.layout import corners_of_kind, enlarge
from ccpd.plate_kinds import ALL_KINDS, KINDS, PlateKind
from ccpd.plate_numbers import FORCES_SHARE, UNREAD_SYMBOLS, forces_text, random_text, unread_plate
from ccpd.plates import PlateRenderer, plate_mask
from ccpd.scenes import mount_plate, plate_scale
from ccpd.textures import pick_by_share, sign
from ccpd.tones import BLUE_TONE, tone_in, tone_of
from platekit.corners import box_corners
from platekit.opencv import cv2

KIND_SHARES = {"green": 0.14, "yellow": 0.1, "white": 0.16, "black": 0.2, "blue": 0.06, "yellow_double": 0.1,
               "motorcycle": 0.06, "moped": 0.06, "white_double": 0.1, "white_police": 0.02}
UNREAD = 0.5  # share of plates with a symbol outside the alphabet, and its dot, among kinds that can have one
MOVED_DOTS = 0.3  # share of the others of one row whose dot is somewhere else
SIGNS = 0.08  # share of swaps that leave no plate but a sign
RIM = 1.03  # the drawn plate is this much larger than the photo's own, to hide its rim
MARGIN = 20  # pixels about the plate that are worked on


def swapped_plate(rng: np.random.Generator) -> tuple[PlateKind, str]:
    """A kind by ``KIND_SHARES``, and a number of it."""
    kind = ALL_KINDS[pick_by_share(rng, KIND_SHARES)]
    if kind.name not in KINDS or (kind.name == "white" and rng.random() < FORCES_SHARE):
        return kind, forces_text(rng, kind)
    if kind.name in UNREAD_SYMBOLS and rng.random() < UNREAD:
        return unread_plate(rng, kind)
    if kind.symbols == 7 and not kind.upper and rng.random() < MOVED_DOTS:
        kind = kind.with_dot_behind(int(rng.integers(1, 6)))
    return kind, random_text(rng, kind)


class PlateSwapper:
    """Swaps the plates of a ``share`` of the photos that it is given."""

    def __init__(self, share: float, glyphs: str | os.PathLike | None = None) -> None:
        """``glyphs`` as for ``PlateRenderer``; UserError when they are not there."""
        self.share, self.renderer = share, PlateRenderer(glyphs)

    def __call__(self, image: np.ndarray, corners: np.ndarray,
                 rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None, float]:
        """The photo, or a changed copy; its plate's corners (4, 2) in CCPD's order, None if a sign hides the plate now;
        and ``tone_of`` the plate.
        """
        if rng.random() >= self.share:
            return image, corners, 1.0
        kind, text = swapped_plate(rng)
        scale = plate_scale(float(np.linalg.norm(corners[0] - corners[1])) / kind.width_mm)
        if rng.random() < SIGNS:
            plate = sign(round(KINDS["blue"].height_mm * scale), round(KINDS["blue"].width_mm * scale), rng)
            mask = plate_mask(plate, KINDS["blue"])  # its corners do not give it away
            return replace_plate(image, corners, enlarge(corners, RIM), plate, mask, rng), None, 1.0
        plate = self.renderer.render(text, kind, rng, scale)
        target, tone = enlarge(corners_of_kind(corners, kind), RIM), tone_of(plate, kind)
        return replace_plate(image, corners, target, plate, plate_mask(plate, kind), rng), target, tone


def replace_plate(image: np.ndarray, corners: np.ndarray, target: np.ndarray, plate: np.ndarray, mask: np.ndarray,
                  rng: np.random.Generator) -> np.ndarray:
    """A copy of the photo with ``plate`` at ``target``, in the light and no sharper than what was at ``corners``.

    ``mask`` as by ccpd.plates.plate_mask.
    """
    height, width = image.shape[:2]
    low = np.clip(np.floor(target.min(axis=0)).astype(int) - MARGIN, 0, (width, height))
    high = np.clip(np.ceil(target.max(axis=0)).astype(int) + MARGIN, 0, (width, height))
    window = slice(low[1], high[1]), slice(low[0], high[0])
    part = np.ascontiguousarray(image[window])
    straight = box_corners((0, 0, 220, 70)).astype(np.float32)
    own = cv2.warpPerspective(part, cv2.getPerspectiveTransform((corners - low).astype(np.float32), straight),
                              (220, 70), borderMode=cv2.BORDER_REPLICATE)
    light = np.clip(float(own.mean()) / BLUE_TONE / tone_in(own), 0.1, 1.8) * rng.uniform(0.85, 1.2)
    box = (*np.clip(target.min(axis=0) - low, 0, None), *(target.max(axis=0) - low))
    sharp = camera.sharpness(part[round(box[1]):round(box[3]), round(box[0]):round(box[2])])
    mounted = part.copy()
    mount_plate(mounted, target - low, plate, mask, light * float(plate.mean()), rng)
    mounted = camera.blur_to(mounted, box, sharp * rng.uniform(0.6, 1.3), 0.05 * (box[2] - box[0]),
                             camera.random_blur(rng))
    cover = np.zeros(part.shape[:2], np.float32)
    cv2.fillConvexPoly(cover, (enlarge(target - low, 1.02)).round().astype(np.int32), 1.0)
    cover = cv2.GaussianBlur(cover, (0, 0), 1.0)
    swapped = image.copy()
    swapped[window] = cv2.blendLinear(mounted, part, cover, 1.0 - cover)
    return swapped
