"""Whole photos: a car's face around a plate, pavement below, a street behind, light, weather and a camera.

The plate's pose comes from ``ccpd.geometry``. The face of the car lies in the plate's plane, the pavement in the plane
that a camera at the height of a standing person sees below it, so that both agree with the plate's size and slant.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ccpd import camera
from ccpd.annotation import Annotation
from ccpd.cars import CarShape, Face, draw_face, random_shape
from ccpd.dataset import PHOTO_SIZE, PLATE_FREE
from ccpd.geometry import Pose, sample_pose
from ccpd.layout import HEIGHT, WIDTH, Layout, corners_of_kind, enlarge, layout_of
from ccpd.plate_kinds import KINDS, PlateKind
from ccpd.plate_numbers import random_text
from ccpd.plates import PlateRenderer, plate_mask
from ccpd.street import neighbour, surroundings
from ccpd.textures import WORDS, phrase, pick, pick_by_share, sign, stamp
from ccpd.tones import in_light_of, tone_of, tone_of_box
from platekit.corners import box_corners, edges
from platekit.opencv import cv2

KIND_SHARES = {"blue": 0.86, "yellow": 0.08, "white": 0.03, "black": 0.03}
NIGHTS = {"ccpd_db": 0.3, "ccpd_challenge": 0.2}  # share of photos taken at night, and of the other subsets'
OTHER_NIGHTS = 0.08
# Pixels per mm at which plates are drawn; few, so that glyphs are reused.
PLATE_SCALES = (0.2, 0.3, 0.45, 0.65, 0.9, 1.3)


def random_plate(subset: str, kinds: list[str] | None, rng: np.random.Generator) -> tuple[PlateKind, str]:
    """A kind and a number: one of ``kinds`` where given, else green in ccpd_green and mostly blue elsewhere."""
    if kinds:
        kind = KINDS[pick(rng, kinds)]
    elif subset == "ccpd_green":
        kind = KINDS["green"]
    else:
        kind = KINDS[pick_by_share(rng, KIND_SHARES)]
    return kind, random_text(rng, kind)


def render_photo(subset: str, renderer: PlateRenderer, rng: np.random.Generator, kinds: list[str] | None = None,
                 size: tuple[int, int] = PHOTO_SIZE,
                 plate: tuple[PlateKind, str] | None = None) -> tuple[np.ndarray, Annotation | None]:
    """A photo of a subset and its annotation (None in ccpd_np): uint8 BGR (height, width, 3), ``size`` (width, height).

    It shows the ``plate`` given, or a random one of ``kinds``. Pixels of the annotation are those of the returned
    photo. The same generator state gives the same photo.
    Raises UserError for an unknown subset.
    """
    pose, bare = sample_pose(subset, rng), subset == PLATE_FREE
    kind, text = plate or random_plate(subset, kinds, rng)
    if kind.size_mm != KINDS["blue"].size_mm:  # poses are those of blue plates
        pose = replace(pose, corners=_inside(corners_of_kind(pose.corners, kind)))
    night = bool(rng.random() < NIGHTS.get(subset, OTHER_NIGHTS))
    shape = random_shape(rng)
    layout = layout_of(pose, kind, shape, rng)

    photo = surroundings(layout, shape, night, rng)
    _car(photo, layout, shape, kind, bare, rng)
    quad = enlarge(pose.corners, 1.25)
    if rng.random() < {"ccpd_fn": 0.4, "ccpd_tilt": 0.35, "ccpd_challenge": 0.35}.get(subset, 0.12):
        neighbour(photo, quad, rng)
    dark, bright = pose.brightness < 50, pose.brightness > 200
    level = rng.normal(119, 14) * min(1.0, 0.45 + 0.55 * pose.brightness / 90)
    if bright:
        level = rng.uniform(125, 215)
    if night:  # falls below
        level = pose.brightness
    photo = camera.expose(photo, level / max(20.0, float(photo[::8, ::8].mean())))
    if not bare:
        drawn = renderer.render(text, kind, rng, plate_scale(layout.pixels_per_mm))
        tone = tone_of(drawn, kind)
        mount_plate(photo, pose.corners, drawn, plate_mask(drawn, kind), in_light_of(pose.brightness, tone), rng)
    photo = _light_and_weather(photo, subset, dark, night, rng)
    if night:  # after the weather, which is as dark as the scene
        camera.nightfall(photo, pose.corners, rng, bare)
    photo = camera.develop(photo, rng, harsh=0.15 if dark or night else 0.9, green=0.0 if night else 0.3)
    if not bare:  # weather and development changed the exposure of the plate
        x1, y1, x2, y2 = (round(value) for value in pose.box)
        brightness = in_light_of(pose.brightness, tone_of_box(tone, pose.corners))
        photo = camera.expose(photo, np.clip(brightness / max(4.0, float(photo[y1:y2, x1:x2].mean())), 0.6, 1.6))
    photo = _focus(photo, pose, subset, rng)
    blurred = pose.blurriness < 10
    noise = abs(rng.normal(0, 0.7 if blurred else 3.0))
    if (dark or night) and not blurred:
        noise += rng.uniform(1, 12)
    photo = camera.sensor(photo, rng, noise, sharpen=not blurred)

    corners = pose.corners
    if size != PHOTO_SIZE:
        photo, corners = fit_to(photo, corners, size)
    return photo, None if bare else annotate(photo, corners, text)


def fit_to(photo: np.ndarray, corners: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The photo and a plate's corners (4, 2) in a picture of ``size`` (width, height), undistorted.

    The photo fills the picture and is cut above and below or at the sides, the plate in the middle as far as can be.
    Where the plate would not fit in, the photo is made smaller, and its border goes on.
    """
    wanted, whole = np.array(size), np.array(photo.shape[1::-1])
    scale = min((wanted / whole).max(), (wanted / (np.ptp(corners, axis=0) + 4)).min())
    scaled = np.maximum(np.round(whole * scale).astype(int), 1)
    photo = cv2.resize(photo, scaled.tolist(), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    corners = (corners + 0.5) * (scaled / whole) - 0.5
    room = scaled - wanted
    start = np.round(corners.mean(axis=0) - wanted / 2).astype(int).clip(np.minimum(room, 0), np.maximum(room, 0))
    (left, top), (right, bottom) = (-start).clip(0), (start - room).clip(0)
    photo = cv2.copyMakeBorder(photo, top, bottom, left, right, cv2.BORDER_REPLICATE)
    x, y = start.clip(0)
    return np.ascontiguousarray(photo[y:y + size[1], x:x + size[0]]), corners - start


def annotate(photo: np.ndarray, corners: np.ndarray, text: str) -> Annotation:
    """The annotation of a plate with ``corners`` (4, 2) in a photo: rounded, inside, the box their bounding box."""
    height, width = photo.shape[:2]
    points = np.round(corners).astype(int).clip(0, (width - 1, height - 1))
    (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    across, down = edges(corners)
    slope, lean = np.degrees(np.arctan2((across[1], down[0]), (across[0], down[1])))
    part = photo[y1:y2 + 1, x1:x2 + 1]
    # CCPD's areas and angles are rounded down; the second angle is by how much the corners' differ from right ones
    return Annotation(area=f"{min(10000 * (x2 - x1) * (y2 - y1) // (width * height), 9999):04d}",
                      tilt=(int(abs(slope)), int(abs(slope + lean))), box=(int(x1), int(y1), int(x2), int(y2)),
                      vertices=tuple((int(x), int(y)) for x, y in points), plate=text,
                      brightness=round(float(part.mean())), blurriness=round(camera.sharpness(part)))


def plate_scale(pixels_per_mm: float) -> float:
    """The scale to draw a plate at that has ``pixels_per_mm`` in the photo."""
    return next((scale for scale in PLATE_SCALES if scale >= 0.9 * pixels_per_mm), PLATE_SCALES[-1])


def _inside(corners: np.ndarray) -> np.ndarray:
    """Corners (4, 2) moved into a photo of ``PHOTO_SIZE`` where they reach beyond its edge, shrunk if they must be."""
    corners = enlarge(corners, min(1.0, float((np.array(PHOTO_SIZE) / np.ptp(corners, axis=0)).min())))
    beyond = corners.min(axis=0).clip(max=0.0) + (corners.max(axis=0) - PHOTO_SIZE).clip(min=0.0)
    return corners - beyond


# What is drawn.


def _car(photo: np.ndarray, layout: Layout, shape: CarShape, kind: PlateKind, bare: bool,
         rng: np.random.Generator) -> None:
    """Draw the car's face, its plate frame included, into the photo; ``bare`` cars carry a dealer's card or nothing."""
    inverse = cv2.invertAffineTransform(layout.plane)
    seen = np.array([(0, 0), (WIDTH, 0), (0, HEIGHT), (WIDTH, HEIGHT)], float) @ inverse[:, :2].T + inverse[:, 2]
    limits = np.array([[-1.05 * shape.half_width, -1600], [1.05 * shape.half_width, shape.road + 5]])
    low, high = seen.min(axis=0).clip(*limits), seen.max(axis=0).clip(*limits)
    scale = min(layout.pixels_per_mm, 1.0, float(np.sqrt(2.0e6 / max(1.0, np.prod(high - low)))))
    face = draw_face(shape, (*low, *high), scale, rng)
    _plate_place(face, kind, bare, rng)
    to_face = np.array([[1 / scale, 0, face.left], [0, 1 / scale, face.top], [0, 0, 1.0]])
    layer = cv2.warpAffine(cv2.merge((*cv2.split(face.colour), face.opacity)), (layout.plane @ to_face)[:2],
                           (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR)
    weight = layer[:, :, 3].astype(np.float32) / 255.0
    photo[:] = cv2.blendLinear(cv2.cvtColor(layer, cv2.COLOR_BGRA2BGR), photo, weight, 1.0 - weight)


def _plate_place(face: Face, kind: PlateKind, bare: bool, rng: np.random.Generator) -> None:
    """What surrounds a plate: its shadow, a dealer's frame with lettering below, or a card in its stead."""
    half, high = kind.width_mm / 2, kind.height_mm / 2

    def box(left: float, top: float, right: float, bottom: float, colour) -> None:
        face.fill(((left, top), (right, top), (right, bottom), (left, bottom)), colour, bent=False)

    style = rng.random()
    if bare and style < 0.35:
        return
    if style < 0.75:
        box(-half - 4, -high + 8, half + 6, high + rng.uniform(6, 16), (12, 12, 12))
    if style < 0.45:
        tone = rng.choice((15.0, 40.0, 150.0, 215.0))
        rim, chin = rng.uniform(3, 14), rng.uniform(4, 42)
        box(-half - rim, -high - rim, half + rim, high + chin, (tone, tone, tone))
        if chin > 18 and rng.random() < 0.8:
            ink = (225, 225, 225) if tone < 100 else (25, 25, 25)
            words = f"{pick(rng, WORDS)}  {phrase(rng)}  {phrase(rng)}"
            centre = (-face.left * face.scale, (high + chin / 2 + 2 - face.top) * face.scale)
            reach = (0.9 * half * face.scale, 0.4 * chin * face.scale)
            stamp(face.colour, words,
                  (centre[0] - reach[0], centre[1] - reach[1], centre[0] + reach[0], centre[1] + reach[1]), ink)
    if bare:
        if style < 0.6:
            tone = rng.uniform(10, 200)
            box(-half, -high, half, high, (tone, tone, tone))
            for x in (-0.5, 0.5):
                for y in (-0.8, 0.8):
                    face.ellipse(x * half, y * high, 9, 6, (10, 10, 10))
        else:
            face.paste(sign(140, 440, rng), -half, -high, 2 * half, 2 * high)


def mount_plate(photo: np.ndarray, corners: np.ndarray, plate: np.ndarray, mask: np.ndarray, brightness: float,
                rng: np.random.Generator) -> None:
    """Warp a plate, which light may change in place, onto ``corners`` (4, 2) in CCPD's order, lit so that its mean
    comes to ``brightness`` (0..255). ``mask`` as by ccpd.plates.plate_mask."""
    rows, columns = photo.shape[:2]
    height, width = plate.shape[:2]
    if rng.random() < 0.6:
        camera.uneven_light(plate, rng, rng.uniform(0.05, 0.3))
    if rng.random() < 0.08:  # a mirrored window or lamp
        streak = np.zeros((height, width), np.float32)
        x = rng.uniform(0, width)
        cv2.line(streak, (int(x), 0), (int(x + rng.normal(0, 0.4 * height)), height), 1.0,
                 max(1, int(rng.uniform(0.1, 0.7) * height)))
        streak = cv2.GaussianBlur(streak, (0, 0), max(0.6, height / 12)) * rng.uniform(40, 150)
        cv2.add(plate, cv2.merge((streak, streak, streak)), dst=plate, dtype=cv2.CV_8U)
    plate = camera.expose(plate, np.clip(brightness / max(8.0, float(plate.mean())), 0.06, 3.0))
    if brightness > 170:  # overexposure also lifts what is dark
        veil = int(min(140, (brightness - 170) * 1.4))
        plate = cv2.addWeighted(plate, 1 - veil / 300, np.full_like(plate, 255), veil / 300, 0)
    (x1, y1), (x2, y2) = np.floor(corners.min(axis=0)) - 2, np.ceil(corners.max(axis=0)) + 3
    x1, y1, x2, y2 = int(max(x1, 0)), int(max(y1, 0)), int(min(x2, columns)), int(min(y2, rows))
    source = box_corners((0, 0, width, height)).astype(np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(source, (corners - (x1, y1)).astype(np.float32))
    size = (x2 - x1, y2 - y1)
    weight = cv2.warpPerspective(mask, matrix, size, flags=cv2.INTER_LINEAR)
    warped = cv2.warpPerspective(plate, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    part = np.ascontiguousarray(photo[y1:y2, x1:x2])
    photo[y1:y2, x1:x2] = cv2.blendLinear(warped, part, weight, 1.0 - weight)


# What happens to it.


def _light_and_weather(photo: np.ndarray, subset: str, dark: bool, night: bool,
                       rng: np.random.Generator) -> np.ndarray:
    hard = subset in ("ccpd_challenge", "ccpd_db")
    if rng.random() < (0.3 if hard else 0.15):
        camera.cast_shadow(photo, rng)
    if rng.random() < (0.7 if hard else 0.35):
        camera.uneven_light(photo, rng, rng.uniform(0.1, 0.9 if hard else 0.45))
    if not night and rng.random() < (0.35 if dark or hard else 0.04):  # the night has lamps of its own
        camera.glare(photo, rng, int(rng.integers(1, 4)))
    if subset == "ccpd_weather" or (subset == "ccpd_challenge" and rng.random() < 0.3):
        photo = (camera.rain, camera.snow, camera.fog)[int(rng.choice(3, p=(0.55, 0.2, 0.25)))](photo, rng)
    return photo


def _focus(photo: np.ndarray, pose: Pose, subset: str, rng: np.random.Generator) -> np.ndarray:
    """Blur the photo as far as the plate's published blurriness asks."""
    kind = camera.BlurKind(bool(rng.random() < (0.5 if subset == "ccpd_blur" else 0.25)), rng.uniform(0, np.pi))
    largest = (0.08 if subset == "ccpd_blur" else 0.035) * (round(pose.box[2]) - round(pose.box[0]))
    return camera.blur_to(photo, pose.box, pose.blurriness, largest, kind)
