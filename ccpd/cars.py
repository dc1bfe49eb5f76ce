"""The face of a car around its plate, drawn in millimetres: x to the right, y down, the plate's centre at (0, 0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np

from ccpd.camera import gain_field
from ccpd.textures import (
    BRANDS,
    MAKERS,
    TRIMS,
    Colour,
    cloud,
    foliage,
    grain,
    phrase,
    pick,
    pick_by_share,
    random_colour,
    sign,
    stamp,
)
from platekit.opencv import cv2

Points = Sequence[tuple[float, float]] | np.ndarray
Values = TypeVar("Values", float, np.ndarray)
PAINTS = {  # BGR, with how often: white, silver, grey, black, then colours
    (225, 228, 228): 0.3,
    (165, 168, 165): 0.14,
    (95, 98, 98): 0.08,
    (28, 26, 26): 0.2,
    (45, 35, 130): 0.08,
    (120, 60, 30): 0.07,
    (95, 130, 160): 0.06,
    (60, 75, 110): 0.03,
    (50, 160, 200): 0.02,
    (170, 90, 40): 0.02,
}


@dataclass(frozen=True)
class CarShape:
    """Measures of one car's face, in millimetres from the plate's centre."""

    rear: bool
    half_width: float
    top: float  # of hood or rear window
    bottom: float  # lower edge of the bumper
    bow: float  # how much higher the edges lie half a metre off the middle, because the face bulges
    road: float  # where the wheels stand


class Face:
    """A drawing of a car's face: colour (H, W, 3) and opacity (H, W), both uint8, ``scale`` pixels per millimetre."""

    def __init__(self, window: tuple[float, float, float, float], scale: float, bow: float) -> None:
        self.left, self.top = window[:2]
        self.scale = scale
        self.bow = bow
        height, width = max(8, round((window[3] - window[1]) * scale)), max(8, round((window[2] - window[0]) * scale))
        self.colour = np.zeros((height, width, 3), np.uint8)
        self.opacity = np.zeros((height, width), np.uint8)

    def bend(self, x: Values, y: Values) -> Values:
        """The height at which a point appears: the bulge lifts what lies beside the middle, less so near the plate."""
        return y - self.lift(x)

    def lift(self, x: Values) -> Values:
        """How far the bulge lifts what is at x."""
        return self.bow * (np.abs(x) / 500.0) ** 2.2

    def pixels(self, points: Points, bent: bool = True) -> np.ndarray:
        """Points in millimetres as canvas coordinates with four binary places, edges cut short enough to bend."""
        corners = np.asarray(points, np.float64)
        if bent and len(corners) < 12:
            steps = np.linspace(0.0, 1.0, 6, endpoint=False)[None, :, None]
            corners = (corners[:, None] * (1 - steps) + np.roll(corners, -1, 0)[:, None] * steps).reshape(-1, 2)
        if bent:
            corners = np.stack((corners[:, 0], self.bend(corners[:, 0], corners[:, 1])), 1)
        return np.round((corners - (self.left, self.top)) * (self.scale * 16.0)).astype(np.int32)

    def fill(self, points: Points, colour: Colour, solid: bool = False, bent: bool = True) -> None:
        """Fill a polygon; ``solid`` also makes it part of the silhouette."""
        corners = self.pixels(points, bent)
        cv2.fillPoly(self.colour, [corners], tuple(map(float, colour)), cv2.LINE_AA, 4)
        if solid:
            cv2.fillPoly(self.opacity, [corners], 255, cv2.LINE_AA, 4)

    def chrome(self, points: Points, colour: Colour, width: float) -> None:
        """A rounded bar ``width`` millimetres thick: dark below, where it mirrors the ground, and bright on top."""
        shifted = np.asarray(points, np.float64)
        self.line(shifted + (0, 0.3 * width), np.multiply(colour, 0.3), width)
        self.line(shifted, colour, 0.8 * width)
        if width * self.scale > 4:
            self.line(shifted - (0, 0.25 * width), np.minimum(np.multiply(colour, 1.35), 255), 0.25 * width)

    def line(self, points: Points, colour: Colour, width: float) -> None:
        """A polyline ``width`` millimetres thick."""
        steps = np.linspace(0.0, 1.0, 8)
        corners = np.asarray(points, np.float64)
        bent = np.concatenate([a + (b - a) * steps[:, None] for a, b in pairwise(corners)])
        bent[:, 1] = self.bend(bent[:, 0], bent[:, 1])
        bent = np.round((bent - (self.left, self.top)) * (self.scale * 16.0)).astype(np.int32)
        cv2.polylines(self.colour, [bent], False, tuple(map(float, colour)), max(1, round(width * self.scale)),
                      cv2.LINE_AA, 4)

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: Colour, width: float = 0.0) -> None:
        """An ellipse, filled where ``width`` is 0."""
        centre = round((x - self.left) * self.scale * 16), round((self.bend(x, y) - self.top) * self.scale * 16)
        thick = -1 if width == 0 else max(1, round(width * self.scale))
        axes = max(1, round(rx * self.scale * 16)), max(1, round(ry * self.scale * 16))
        cv2.ellipse(self.colour, centre, axes, 0, 0, 360, tuple(map(float, colour)), thick, cv2.LINE_AA, 4)

    def text(self, text: str, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Lettering centred at (x, y)."""
        cx, cy = (x - self.left) * self.scale, (self.bend(x, y) - self.top) * self.scale
        w, h = width * self.scale / 2, height * self.scale / 2
        stamp(self.colour, text, (cx - w, cy - h, cx + w, cy + h), colour)

    def paste(self, picture: np.ndarray, x: float, y: float, width: float, height: float) -> None:
        """A flat picture with its left top at (x, y), in millimetres; only what lies on the canvas."""
        size = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        left, top = round((x - self.left) * self.scale), round((self.bend(x + width / 2, y) - self.top) * self.scale)
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        y1, y2 = max(top, 0), min(top + size[1], self.colour.shape[0])
        x1, x2 = max(left, 0), min(left + size[0], self.colour.shape[1])
        if x2 > x1 and y2 > y1:
            self.colour[y1:y2, x1:x2] = picture[y1 - top:y2 - top, x1 - left:x2 - left]

    def shade(self, knots: Sequence[tuple[float, float]], side: float) -> None:
        """Light the whole face: gain by height (y, gain), falling off towards the sides by ``side``."""
        height, width = self.opacity.shape
        small = max(2, height // 8), max(2, width // 8)
        x = self.left + np.linspace(0, width, small[1]) / self.scale
        y = self.top + np.linspace(0, height, small[0]) / self.scale
        heights, gains = zip(*knots)
        gain = np.interp((y[:, None] + self.lift(x)[None]).ravel(), heights, gains).reshape(small)
        gain = gain * (1.0 - side * np.clip(np.abs(x) / 900.0, 0, 1.2) ** 2)
        gain_field(self.colour, gain)


def random_shape(rng: np.random.Generator) -> CarShape:
    """Front or rear of a car, its measures drawn at random."""
    rear = bool(rng.random() < 0.5)
    plate_height = rng.uniform(550, 850) if rear else rng.uniform(330, 560)
    return CarShape(rear, rng.uniform(790, 920), -rng.uniform(850, 1100), plate_height - rng.uniform(180, 260),
                    rng.uniform(15, 60) if rear else rng.uniform(25, 95), plate_height)


def draw_face(shape: CarShape, window: tuple[float, float, float, float], scale: float,
              rng: np.random.Generator) -> Face:
    """Paint a car's face without its plate. ``window`` (x1, y1, x2, y2) is the part to paint, in millimetres."""
    face = Face(window, scale, shape.bow)
    paint = np.array(pick_by_share(rng, PAINTS), np.float64)
    paint = np.clip(paint * rng.uniform(0.8, 1.08) + rng.normal(0, 2, 3), 8, 250)
    w, top, bottom = shape.half_width, shape.top, shape.bottom
    roof = top - rng.uniform(150, 400)
    floor = shape.road - rng.uniform(0.1, 0.3) * (shape.road - bottom)
    face.fill(((-0.8 * w, 0), (0.8 * w, 0), (0.8 * w, floor), (-0.8 * w, floor)), (9, 9, 9), solid=True, bent=False)
    for side in (-1, 1):
        face.fill(
            ((side * 0.72 * w, 0), (side * 0.98 * w, 0), (side * 0.97 * w, shape.road), (side * 0.74 * w, shape.road)),
            (22, 22, 22),
            solid=True,
            bent=False,
        )
    face.fill(
        ((-0.62 * w, roof), (0.62 * w, roof), (0.82 * w, top * 0.72), (w, top * 0.45), (1.02 * w, bottom * 0.4),
         (0.93 * w, bottom), (-0.93 * w, bottom), (-1.02 * w, bottom * 0.4), (-w, top * 0.45), (-0.82 * w, top * 0.72)),
        paint,
        solid=True,
    )
    _light_paint(face, shape, rng)
    (_rear if shape.rear else _front)(face, shape, paint, rng)
    # Chrome, plastic and glass take the light unevenly too.
    heights = np.arange(top - 400, bottom + 100, 45)
    face.shade(list(zip(heights, 1.0 + rng.normal(0, 0.1, len(heights)))), rng.uniform(-0.1, 0.2))
    return face


def _light_paint(face: Face, shape: CarShape, rng: np.random.Generator) -> None:
    """Sky on the upward surfaces, a crease, shade below; and what is mirrored in the paint."""
    crease = rng.uniform(-260, -120)
    high, low = rng.uniform(1.0, 1.35), rng.uniform(0.35, 0.75)
    knots = [(shape.top - 400, high), (shape.top * 0.5, rng.uniform(0.8, 1.15)), (crease - 25, rng.uniform(0.85, 1.2)),
             (crease, rng.uniform(0.55, 0.95)), (crease + 30, rng.uniform(0.75, 1.05)), (60, rng.uniform(0.7, 1.0)),
             (110, rng.uniform(0.85, 1.15)), (150, rng.uniform(0.6, 0.9)), (shape.bottom, low),
             (shape.bottom + 50, 0.2)]
    face.shade(knots, rng.uniform(0.05, 0.5))
    height, width = face.opacity.shape
    size = max(2, height // 4), max(2, width // 4)
    gain = 1.0 + rng.uniform(0.0, 0.025) * grain(*size, rng)
    if rng.random() < 0.5:  # trees and houses mirrored in the paint
        gain += rng.uniform(0.02, 0.12) * cloud(*size, int(rng.choice((16, 64, 128))), rng)
    if rng.random() < 0.6:  # lights drawn out along the bulges
        streaks = cv2.resize(np.ascontiguousarray(cloud(size[0], 4, 8, rng)), size[::-1], interpolation=cv2.INTER_CUBIC)
        gain += rng.uniform(0.03, 0.25) * np.clip(streaks - 0.6, 0, 3)
    gain_field(face.colour, gain)


def _grey(rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    return rng.uniform(low, high) * np.array([1.0, 1.0, 1.0]) * rng.uniform(0.94, 1.06, 3)


def _bars(face: Face, outline: Points, rng: np.random.Generator) -> None:
    """Fill a polygon with a grille: horizontal or vertical bars, or a mesh, chrome or black."""
    corners = np.asarray(outline)
    (x1, y1), (x2, y2) = corners.min(0), corners.max(0)
    face.fill(outline, _grey(rng, 8, 35))
    bar = _grey(rng, 120, 230) if rng.random() < 0.5 else _grey(rng, 35, 75)
    style, pitch = rng.random(), rng.uniform(22, 70)
    thick = pitch * rng.uniform(0.15, 0.5)

    def width_at(y: float) -> tuple[float, float]:
        inside = (y - y1) / max(1.0, y2 - y1)
        return corners[0][0] + (corners[-1][0] - corners[0][0]) * inside, corners[1][0] + (
            corners[2][0] - corners[1][0]
        ) * inside

    if style < 0.6:
        for y in np.arange(y1 + pitch / 2, y2, pitch):
            left, right = width_at(y)
            face.chrome(((left, y), (right, y)), bar, thick)
    elif style < 0.75:
        for x in np.arange(x1 + pitch / 2, x2, pitch):
            face.line(((x, y1 + 4), (x, y2 - 4)), bar, thick)
    else:
        step = max(pitch * 0.7, 6 / face.scale)
        for x in np.arange(x1 - (y2 - y1), x2, step):
            for a, b in (((x, y1), (x + y2 - y1, y2)), ((x + y2 - y1, y1), (x, y2))):
                face.line((np.clip(a, (x1 + 15, y1), (x2 - 15, y2)), np.clip(b, (x1 + 15, y1), (x2 - 15, y2))),
                          bar * 0.7, 5)
    if rng.random() < 0.7:
        face.chrome((*outline, outline[0]), _grey(rng, 90, 215), rng.uniform(5, 18))


def _badge(face: Face, x: float, y: float, size: float, rng: np.random.Generator) -> None:
    """A maker's sign: rings, an oval with lettering, or chrome strokes."""
    chrome = _grey(rng, 150, 245)
    style = rng.random()
    if style < 0.35:
        back = _grey(rng, 10, 60) if rng.random() < 0.6 else np.array([130.0, 60.0, 20.0])
        face.ellipse(x, y, size, size * rng.uniform(0.5, 1.0), back)
        face.ellipse(x, y + 3, size, size * 0.8, chrome * 0.3, 8)
        face.ellipse(x, y, size, size * 0.8, chrome, 7)
        if rng.random() < 0.5:
            face.text(pick(rng, BRANDS), x, y, size * 1.5, size * 0.6, chrome)
    elif style < 0.5:
        for step in (-1.2, -0.4, 0.4, 1.2):
            face.ellipse(x + step * size * 1.1, y + 3, size * 0.7, size * 0.7, chrome * 0.3, 10)
            face.ellipse(x + step * size * 1.1, y, size * 0.7, size * 0.7, chrome, 8)
    else:
        points = rng.normal(0, 0.6, (int(rng.integers(3, 6)), 2)) * size
        points = np.concatenate((points, points[::-1] * (-1, 1))) + (x, y)
        face.chrome(points, chrome, 14)
        face.ellipse(x, y, size, size * 0.85, chrome, 9)


def _lamp(face: Face, side: int, points: Points, rng: np.random.Generator, red: bool) -> None:
    """A lamp and its parts; ``points`` of the right-hand one, mirrored for ``side`` -1."""
    outline = [(side * x, y) for x, y in points]
    base = np.array([35.0, 30.0, rng.uniform(110, 200)]) if red else _grey(rng, 90, 190)
    face.fill(outline, base)
    centre = np.mean(outline, axis=0)
    for _ in range(int(rng.integers(2, 5))):
        spot = centre + rng.normal(0, 45, 2) * (1.4, 0.7)
        size = rng.uniform(15, 50)
        tone = (
            np.array([60.0, 70.0, 240.0]) * rng.uniform(0.5, 1.1) if red and rng.random() < 0.7 else _grey(rng, 30, 255)
        )
        face.ellipse(spot[0], spot[1], size, size * rng.uniform(0.4, 1.0), tone.clip(0, 255))
    face.line((*outline, outline[0]), base * 0.4, 8)


def _window(face: Face, outline: Points, rng: np.random.Generator) -> None:
    """Glass: dark, with trees, sky or nothing mirrored in it."""
    corners = face.pixels(outline)
    x, y, width, height = cv2.boundingRect(corners >> 4)
    x2, y2 = min(x + width, face.colour.shape[1]), min(y + height, face.colour.shape[0])
    x, y = max(x, 0), max(y, 0)
    if x2 - x < 2 or y2 - y < 2:
        return
    mask = np.zeros((y2 - y, x2 - x), np.uint8)
    cv2.fillPoly(mask, [corners - (x << 4, y << 4)], 255, cv2.LINE_AA, 4)
    glass = np.full((y2 - y, x2 - x, 3), _grey(rng, 12, 60))
    if rng.random() < 0.75:
        leaves = cv2.resize(foliage((y2 - y) // 2 + 1, (x2 - x) // 2 + 1, rng), (x2 - x, y2 - y))
        glass = glass * 0.7 + leaves * rng.uniform(0.08, 0.4)
    fall = np.linspace(rng.uniform(20, 130), 0, y2 - y)[:, None, None]  # sky towards the upper edge
    part = face.colour[y:y2, x:x2]
    cv2.copyTo((glass + fall).clip(0, 255).astype(np.uint8), mask, part)


def _front(face: Face, shape: CarShape, paint: np.ndarray, rng: np.random.Generator) -> None:
    w, top, bottom = shape.half_width, shape.top, shape.bottom
    _window(face, ((-0.7 * w, top * 1.12), (0.7 * w, top * 1.12), (0.85 * w, top * 0.8), (-0.85 * w, top * 0.8)), rng)
    hood = rng.uniform(-380, -230)
    face.line(((-0.8 * w, hood), (0.8 * w, hood)), paint * 0.3, 7)  # the gap below the hood
    if rng.random() < 0.6:
        for side in (-1, 1):
            face.line(((side * 250, top * 0.8), (side * 330, hood)), np.clip(paint * rng.uniform(0.6, 1.3), 0, 255), 12)
    low = min(-85.0, hood + rng.uniform(110, 260))
    half = rng.uniform(260, 0.72 * w)
    grille = ((-half, hood + 20), (half, hood + 20), (half * rng.uniform(0.7, 1.0), low),
              (-half * rng.uniform(0.7, 1.0), low))
    if rng.random() < 0.25:  # one deep grille that reaches below the plate
        low = rng.uniform(90, 200)
        grille = (grille[0], grille[1], (half * 0.75, low), (-half * 0.75, low))
    _bars(face, grille, rng)
    _badge(face, 0, (hood + min(low, -70)) / 2 if rng.random() < 0.7 else hood - 45, rng.uniform(45, 75), rng)
    lamp = ((half + 40, hood + rng.uniform(10, 50)), (0.93 * w, hood - rng.uniform(-20, 60)), (0.95 * w, hood + 110),
            (half + 80, hood + rng.uniform(110, 170)))
    for side in (-1, 1):
        _lamp(face, side, lamp, rng, red=False)
    intake = min(bottom - 50, rng.uniform(100, 150))
    deep = min(bottom - 15, intake + rng.uniform(60, 160))
    if deep > intake + 20:
        _bars(face, ((-0.62 * w, intake), (0.62 * w, intake), (0.55 * w, deep), (-0.55 * w, deep)), rng)
        for side in (-1, 1):
            face.ellipse(side * 0.78 * w, (intake + deep) / 2, rng.uniform(35, 60), rng.uniform(30, 50),
                         _grey(rng, 15, 60))
            face.ellipse(side * 0.78 * w, (intake + deep) / 2, 25, 25, _grey(rng, 120, 240))
    if rng.random() < 0.4:
        face.fill(((-0.93 * w, bottom - 60), (0.93 * w, bottom - 60), (0.9 * w, bottom), (-0.9 * w, bottom)),
                  _grey(rng, 15, 60))
    if rng.random() < 0.12:
        face.text(" ".join(pick(rng, BRANDS)), 0, hood - 30, 700, 45, _grey(rng, 120, 240))
    if rng.random() < 0.4:
        face.paste(sign(60, 110, rng), rng.uniform(-500, 350), top * 0.95, rng.uniform(90, 150), rng.uniform(60, 90))


def _rear(face: Face, shape: CarShape, paint: np.ndarray, rng: np.random.Generator) -> None:
    w, top, bottom = shape.half_width, shape.top, shape.bottom
    sill = rng.uniform(-480, -330)
    _window(face, ((-0.6 * w, top * 1.05), (0.6 * w, top * 1.05), (0.78 * w, sill), (-0.78 * w, sill)), rng)
    if rng.random() < 0.4:
        x = rng.uniform(-100, 100)
        face.line(((x, sill - 10), (x + rng.uniform(-450, 450), sill - 60)), (15, 15, 15), 22)
    for _ in range(int(rng.integers(0, 4))):  # stickers and lettering on the glass
        x, y = rng.uniform(-0.6 * w, 0.3 * w), rng.uniform(top * 0.95, sill - 60)
        if rng.random() < 0.5:
            face.text(phrase(rng), x + 150, y, rng.uniform(250, 700), rng.uniform(30, 80),
                      random_colour(rng, (0, 0.3), (0.7, 1)))
        else:
            face.paste(sign(80, 200, rng), x, y, rng.uniform(100, 420), rng.uniform(50, 130))
    lid = rng.uniform(120, 200)
    face.line(((-0.75 * w, lid), (0.75 * w, lid)), paint * 0.25, 8)
    for side in (-1, 1):
        face.line(((side * 0.72 * w, sill), (side * 0.7 * w, lid)), paint * 0.3, 7)
    if rng.random() < 0.7:  # the recess that holds the plate
        wide, deep = rng.uniform(260, 420), rng.uniform(85, 115)
        tone = paint * rng.uniform(0.4, 0.85) if rng.random() < 0.7 else _grey(rng, 10, 40)
        face.fill(((-wide, -deep), (wide, -deep), (wide * 0.9, deep), (-wide * 0.9, deep)), tone)
        face.fill(((-wide, -deep), (wide, -deep), (wide * 0.98, -deep + 22), (-wide * 0.98, -deep + 22)), tone * 0.5)
    if rng.random() < 0.65:  # chrome strip with the lamps that light the plate
        half, y = rng.uniform(250, 600), rng.uniform(-125, -90)
        face.fill(((-half, y - 16), (half, y - 16), (half, y + 14), (-half, y + 14)), _grey(rng, 90, 210))
        face.line(((-half, y - 10), (half, y - 10)), (235, 235, 235), 4)
    _badge(face, 0, rng.uniform(-240, -165), rng.uniform(40, 65), rng)
    chrome = _grey(rng, 40, 230)
    if rng.random() < 0.7:
        face.text(pick(rng, MAKERS), -rng.uniform(400, 560), rng.uniform(-120, 20), 230, 38,
                  chrome)
    if rng.random() < 0.7:
        face.text(pick(rng, BRANDS), rng.uniform(400, 560), rng.uniform(-120, 20), 230, 36, chrome)
    if rng.random() < 0.5:
        face.text(pick(rng, TRIMS), rng.uniform(420, 560), rng.uniform(40, 90), 170, 36, chrome)
    high, low = rng.uniform(-330, -230), rng.uniform(-80, 60)
    inner = rng.uniform(0.48, 0.7) * w
    lamp = ((inner, high + 30), (0.96 * w, high), (1.0 * w, low), (inner + rng.uniform(0, 120), low - 20))
    for side in (-1, 1):
        _lamp(face, side, lamp, rng, red=True)
    step = rng.uniform(200, 280)
    if bottom > step + 40:
        face.fill(((-0.95 * w, step), (0.95 * w, step), (0.95 * w, step + 25), (-0.95 * w, step + 25)),
                  np.clip(paint * 1.15, 0, 255))
        if rng.random() < 0.5:
            face.fill(((-0.8 * w, bottom - 130), (0.8 * w, bottom - 130), (0.75 * w, bottom), (-0.75 * w, bottom)),
                      _grey(rng, 12, 60))
        for side in (-1, 1):
            inner, outer = side * 0.65 * w, side * 0.85 * w
            face.fill(((inner, step + 60), (outer, step + 60), (outer, step + 85), (inner, step + 85)), (30, 30, 140))
        if rng.random() < 0.5:
            face.ellipse(rng.choice((-1, 1)) * 0.55 * w, bottom - 30, 55, 30, _grey(rng, 120, 220))
    if rng.random() < 0.2:
        face.text(phrase(rng), rng.uniform(-350, 350), rng.uniform(170, 240), 400, 55,
                  random_colour(rng, (0, 1), (0.3, 1)))
