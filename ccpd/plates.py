"""Plates as pictures. Lengths are in millimetres on the metal; a picture has ``pixels_per_mm`` pixels for each.

The renderer varies colour, stroke, dirt, bolts, frame and relief, that is what belongs to the plate itself; camera,
light and perspective are the caller's.
"""

from __future__ import annotations

import functools
import os
from itertools import pairwise
from pathlib import Path

import numpy as np

from ccpd.plate_kinds import ALL_KINDS, PlateKind
from ccpd.symbols import DIGITS, LETTERS, PROVINCES
from platekit.errors import UserError
from platekit.opencv import cv2

CORNER_RADIUS = 10.0
BOLT_INSET = 13.5  # from the upper and the lower edge
YELLOW_RIM = 8.5  # about the green field of large new-energy vehicles' plates
EMPTY_HOLES = 0.1, 0.4  # share of the upper and of the lower holes that no screw fills
DOTS = 0.9, 1.15  # least and largest diameter of dots over the standard's
BLACK_DOTS = 0.5  # share of the dots between red symbols, or behind them, that are as dark as the other symbols
COVERED = 0.05  # share of plates with something in front of them
COVERED_AREA = 0.12  # the most of a plate that it hides
COVERED_INK = 4.0  # how far it reaches over symbols: less than half of a stroke, so that L has its foot still
# What is in front of plates, BGR: rubber, steel, chrome, mud, leaves, trousers, rust.
IN_FRONT = ((25, 25, 28), (70, 70, 72), (150, 152, 155), (60, 85, 110), (50, 110, 75), (105, 70, 50), (45, 70, 120))
RED = {"警": 1.0, "使": 0.7, "领": 0.7}  # how often these are red; not on embassies' and consulates' plates of 2018


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """One colour as float BGR (3,)."""
    pixel = np.array([[[hue % 180, min(saturation, 255), min(value, 255)]]], np.uint8)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float32)


class PlateRenderer:
    """Draws plates. Glyphs, border lines and patches of dirt are drawn once per size and kept.

    ``glyphs`` is a folder of glyph pictures, black on white: ``140_<symbol>.jpg`` for ordinary plates,
    ``green_<symbol>.jpg`` for new-energy plates, ``220_<symbol>.jpg``, for letters ``220_up_`` and ``220_down_``, for
    those of two rows. Any glyph that is not there, and every glyph without a folder, is drawn with OpenCV's built-in
    font, stretched to the same cell.
    """

    def __init__(self, glyphs: str | os.PathLike | None = None) -> None:
        self._files: dict[str, Path] = {}
        if glyphs is not None:
            folder = Path(glyphs)
            if not folder.is_dir():
                raise UserError(f"glyph folder {folder} does not exist; check --glyphs, or leave it out")
            self._files = {
                path.stem: path for path in sorted(folder.glob("*.jpg"))
                if path.stem[:-1] in ("140_", "green_", "220_", "220_up_", "220_down_")
            }
            if not self._files:
                raise UserError(f"glyph folder {folder} holds no 140_<symbol>.jpg; check --glyphs, or leave it out")
        self._glyphs: dict[tuple, np.ndarray] = {}

    def render(self, text: str, kind: PlateKind | str, rng: np.random.Generator,
               pixels_per_mm: float = 0.5) -> np.ndarray:
        """Draw a plate seen straight on: uint8 BGR (height, width, 3), (70, 220, 3) for blue at 0.5. The picture goes
        on beyond the rounded corners, which ``plate_mask`` tells.

        ``kind`` is one of ``ALL_KINDS``, or its name. The same generator state gives the same one.
        Raises UserError when ``text`` has the wrong length.
        """
        kind = ALL_KINDS[kind] if isinstance(kind, str) else kind
        if len(text) != kind.symbols:
            raise UserError(
                f"'{text}' has {len(text)} symbols, a {kind.name} plate has {kind.symbols}; change the text"
            )
        scale = float(pixels_per_mm)
        mask = self._ink(text, kind, scale, rng)
        plate = self._paint(mask, text, kind, scale, rng)
        if rng.random() < 0.3:
            self._emboss(plate, mask, rng)
        self._bolts(plate, kind, scale, rng)
        if rng.random() < 0.2:
            self._frame(plate, kind, scale, rng)
        if rng.random() < 0.45:
            self._soil(plate, rng)
        if rng.random() < COVERED:
            cover_plate(plate, kind, rng)
        return plate

    # What is printed: a mask (H, W), 255 where the paint of symbols, dot and border line is.

    def _glyph(self, index: int, symbol: str, kind: PlateKind, width: int, height: int) -> np.ndarray:
        """The symbol at this place of a plate."""
        names = [kind.typeface, "140_"]
        if kind.typeface == "220_":
            names.insert(1, "220_up_" if index < kind.upper else "220_down_")
        path = next((self._files[name + symbol] for name in names if name + symbol in self._files), None)
        key = (symbol, path, width, height)
        if key not in self._glyphs:
            ink = self._glyph_from_file(path) if path else _glyph_from_font(symbol)
            self._glyphs[key] = cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)
        return self._glyphs[key]

    @staticmethod
    def _glyph_from_file(path: Path) -> np.ndarray:
        data = np.fromfile(path, np.uint8)
        picture = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if data.size else None
        if picture is None:
            raise UserError(f"cannot decode glyph {path}: it is no picture; fetch it again")
        height, width = picture.shape
        cell = height // 2  # a cell is half as wide as high; wider pictures hold a cell and its margins
        if width > 1.1 * cell and not path.stem.startswith("220_"):  # those are cut tight, whatever their width
            left, inked = (width - cell) // 2, np.flatnonzero((picture < 128).any(axis=0))
            picture = picture[:, min([left, *inked[:1]]):max([left + cell, *(inked[-1:] + 1)])]
        return 255 - picture

    def _ink(self, text: str, kind: PlateKind, scale: float, rng: np.random.Generator) -> np.ndarray:
        mask = _border(kind, scale).copy()
        if kind.name != "green":  # green plates carry an emblem there
            # OpenCV draws circles half a pixel too large, and counts from the centre of the first pixel.
            radius = max(0.3, kind.dot_width / 2 * rng.uniform(*DOTS) * scale - 0.55)
            centre = [round((mm * scale - 0.5) * 256) for mm in (kind.dot_mm, kind.dot_y_mm)]
            cv2.circle(mask, centre, round(radius * 256), 255, -1, cv2.LINE_AA, 8)
        shift = rng.normal(0.0, 0.9, (len(text) + 1, 2)) * scale
        province = (0.84, 0.9, 0.97)[int(rng.integers(3))]  # workshops press the province smaller than its cell
        for i, symbol in enumerate(text):
            (left, width), (top, height) = kind.cells[i], kind.row(i)
            x = round(left * scale + shift[-1, 0] + 0.5 * shift[i, 0])
            y = round(top * scale + shift[-1, 1] + 0.5 * shift[i, 1])
            size = max(2, round(width * scale)), max(2, round(height * scale))
            if symbol in PROVINCES:
                whole = size[1]
                size = max(2, round(size[0] * (0.5 + province / 2))), max(2, round(whole * province))
                y += (whole - size[1]) // 2
            glyph = self._glyph(i, symbol, kind, *size)
            part = mask[y:y + glyph.shape[0], x:x + glyph.shape[1]]
            np.maximum(part, glyph, out=part)
        stroke = rng.random()
        if stroke < 0.24:
            other = (cv2.dilate if stroke < 0.12 else cv2.erode)(mask, np.ones((2, 2), np.uint8))
            mask = cv2.addWeighted(mask, 0.5, other, 0.5, 0.0)
        return mask

    # What it looks like: colours, relief, bolts, frame, dirt.

    @staticmethod
    def _paint(mask: np.ndarray, text: str, kind: PlateKind, scale: float, rng: np.random.Generator) -> np.ndarray:
        draw = rng.random(8)
        ground = _hsv(
            *(low + (high - low) * part for (low, high), part in zip((kind.hue, kind.saturation, kind.value), draw))
        )
        if kind.dark_text:  # black paint takes on the colour of its ground: it is thin, and mirrors it
            ink = np.full(3, 10.0 + 45.0 * draw[3], np.float32) * (0.4 + 0.6 * ground / ground.max())
        else:  # white paint mirrors the light that falls on the ground colour, and yellows
            ink = np.array([215.0, 245.0, 250.0], np.float32) * (0.65 + 0.37 * draw[3])
            ink[0] += 35.0 * draw[4]
            ink = np.clip(np.maximum(ink, ground.max() * 0.8), 0, 255)
        paint = PlateRenderer._paint_green if kind.name == "green" else PlateRenderer._paint_plain
        return paint(mask, text, kind, scale, ground, ink, draw)

    @staticmethod
    def _paint_plain(mask: np.ndarray, text: str, kind: PlateKind, scale: float, ground: np.ndarray, ink: np.ndarray,
                     draw: np.ndarray) -> np.ndarray:
        """One ground colour, and one of the symbols but for those that are red."""
        steps = np.linspace(0.0, 1.0, 256, dtype=np.float32)[:, None]
        table = (ground + (ink - ground) * steps).astype(np.uint8)
        plate = cv2.applyColorMap(mask, table.reshape(256, 1, 3))
        if red := _red_symbols(text, kind, draw[5]):
            edges = [10.0, *(left - 1 / scale for left, _ in kind.cells[1:]), kind.width_mm - 10.0]
            top, bottom, end = 12.0, kind.height_mm - 12.0, edges[red.stop]
            if kind.upper:  # of two rows: the whole upper one
                bottom, end = kind.rows[1][0] - 6.0, edges[-1]
            inner = (slice(round(top * scale), round(bottom * scale)),
                     slice(round(edges[red.start] * scale), round(end * scale)))
            reach = kind.dot_width / 2 * DOTS[1] + 2.0
            dot = tuple(slice(round((mm - reach) * scale), round((mm + reach) * scale))
                        for mm in (kind.dot_y_mm, kind.dot_mm))
            as_others = plate[dot].copy() if draw[6] < BLACK_DOTS else None
            table = (ground + (np.array([25.0, 25.0, 190.0], np.float32) - ground) * steps).astype(np.uint8)
            plate[inner] = cv2.applyColorMap(np.ascontiguousarray(mask[inner]), table.reshape(256, 1, 3))
            if as_others is not None:
                plate[dot] = as_others
        return plate

    @staticmethod
    def _paint_green(mask: np.ndarray, text: str, kind: PlateKind, scale: float, ground: np.ndarray, ink: np.ndarray,
                     draw: np.ndarray) -> np.ndarray:
        """White at the top, green at the bottom; of large vehicles green in a yellow rim, and yellow behind the first
        two symbols."""
        height, width = mask.shape
        white = np.full(3, 200.0 + 55.0 * draw[5], np.float32) * (0.6 + 0.4 * ground.max() / 255.0)
        white += 0.2 * draw[7] * (ground - white)
        weight = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None] ** (0.6 + 0.6 * draw[6])
        plate = np.empty((height, width, 3), np.uint8)
        plate[:] = white + (ground - white) * weight
        if text[2] in DIGITS:
            rim = max(1, round(YELLOW_RIM * scale))
            plate[:] = _hsv(20 + 5 * draw[7], 190, ground.max())
            plate[rim:-rim, round(135 * scale):-rim] = ground
        light = cv2.convertScaleAbs(mask, alpha=float(ink.max()) / 255.0 - 1.0, beta=255.0)  # paint swallows light
        cv2.multiply(plate, cv2.merge((light, light, light)), dst=plate, scale=1 / 255.0)
        centre = (round(kind.dot_mm * scale), round(kind.dot_y_mm * scale))  # the emblem: a ring around a white E
        cv2.circle(plate, centre, max(1, round(13 * scale)), (175, 145, 110), -1, cv2.LINE_AA)
        cv2.ellipse(plate, centre, (max(1, round(12 * scale)),) * 2, 0, 100, 260, (110, 130, 205), -1, cv2.LINE_AA)
        cv2.circle(plate, centre, max(1, round(7 * scale)), (235, 235, 235), -1, cv2.LINE_AA)
        return plate

    @staticmethod
    def _emboss(plate: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> None:
        """Pressed symbols throw a thin shadow on the side away from the light."""
        dx, dy = (1, 1) if rng.random() < 0.5 else (-1, 1)
        shadow = cv2.subtract(np.roll(mask, (dy, dx), (0, 1)), mask)
        shadow = cv2.convertScaleAbs(shadow, alpha=float(rng.uniform(0.15, 0.4)))
        cv2.subtract(plate, cv2.merge((shadow, shadow, shadow)), dst=plate)

    @staticmethod
    def _bolts(plate: np.ndarray, kind: PlateKind, scale: float, rng: np.random.Generator) -> None:
        """Two to four screws, caps or empty holes, rarely large enough to touch a symbol; now and then none."""
        style = rng.random(4)
        if style[0] < 0.12:
            return
        grey = 60.0 + 160.0 * style[1]
        radius = max(1.0, (5.0 + 4.0 * style[2]) * scale)
        # A motorcycle's plate has no room for holes below its symbols.
        rows = (BOLT_INSET, kind.height_mm - BOLT_INSET)[:2 if style[3] < 0.7 and kind.foot_mm > BOLT_INSET else 1]
        jitter = rng.normal(0.0, 1.5, (4, 2))
        empty = rng.random(4) < np.repeat(EMPTY_HOLES, 2)
        places = ((x, y) for y in rows for x in (kind.bolts * kind.width_mm, (1 - kind.bolts) * kind.width_mm))
        for i, (x, y) in enumerate(places):
            centre = (round((x + jitter[i, 0]) * scale), round((y + jitter[i, 1]) * scale))
            if empty[i]:  # a slot
                cv2.ellipse(plate, centre, (round(10 * scale), max(1, round(3.3 * scale))), 0, 0, 360, (25,) * 3, -1,
                            cv2.LINE_AA)
                continue
            cv2.circle(plate, (centre[0], centre[1] + max(1, round(scale))), round(radius), (25, 25, 25), -1,
                       cv2.LINE_AA)
            cv2.circle(plate, centre, round(radius), (grey * 0.95, grey, grey), -1, cv2.LINE_AA)
            if radius > 2.5:
                light = min(255.0, grey + 60)
                cv2.circle(plate, (centre[0] - 1, centre[1] - 1), round(radius * 0.4), (light,) * 3, -1, cv2.LINE_AA)

    @staticmethod
    def _frame(plate: np.ndarray, kind: PlateKind, scale: float, rng: np.random.Generator) -> None:
        """A dealer's frame that covers the rim, but hardly the symbols: black plastic, grey or chrome."""
        tone = float(rng.choice((20.0, 35.0, 110.0, 190.0))) + float(rng.uniform(0, 30))
        width = max(1, round(float(rng.uniform(3, 8)) * scale))
        bottom = width if rng.random() < 0.7 else round(min(float(rng.uniform(8, 16)), kind.foot_mm + 1) * scale)
        height = plate.shape[0]
        for part in (plate[:width], plate[height - bottom :], plate[:, :width], plate[:, -width:]):
            part[:] = (tone, tone, tone)

    @staticmethod
    def _soil(plate: np.ndarray, rng: np.random.Generator) -> None:
        """Dust in soft patches and a few specks of mud."""
        size = plate.shape[:2]
        patch = _patch(size, int(rng.integers(8)))
        if rng.random() < 0.5:
            cv2.multiply(plate, patch, dst=plate, dtype=cv2.CV_8U)
        for _ in range(int(rng.integers(0, 7))):
            x, y = int(rng.integers(size[1])), int(rng.integers(size[0]))
            tone = float(rng.uniform(30, 150))
            cv2.circle(plate, (x, y), int(rng.integers(0, max(2, size[0] // 35))), (tone * 0.7, tone * 0.85, tone), -1)


def _red_symbols(text: str, kind: PlateKind, draw: float) -> range:
    """Which symbols are red: what the forces and those of ``RED`` have so; of other white plates none, one or two."""
    white = kind.colour == "white"
    if white and text[0] in LETTERS:
        return range(max(2, kind.small + 1))
    if kind.name == "black" and text[1] in DIGITS and text[0] != "使":
        return range(0)
    for place in (0, len(text) - 1):
        if draw < RED.get(text[place], 0.0):
            return range(place, place + 1)
    return range((1 if draw < 0.25 else 2 if draw < 0.4 else 0) * white)


@functools.cache
def _border(kind: PlateKind, scale: float) -> np.ndarray:
    """The border line of a kind's plates, drawn four times too large and shrunk: uint8 (H, W)."""
    fine = 4
    width, height = round(kind.width_mm * scale), round(kind.height_mm * scale)
    mask = np.zeros((height * fine, width * fine), np.uint8)
    unit = scale * fine
    inset, line = 4.0 * unit, max(1, round(2.5 * unit))
    if kind.dark_text:  # dark lines run closer to the rim and are thinner
        inset, line = 3.0 * unit, max(1, round(2.0 * unit))
    cv2.polylines(mask, [_outline(mask.shape, inset, CORNER_RADIUS * unit)], True, 255, line, cv2.LINE_AA)
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)


def cover_plate(plate: np.ndarray, kind: PlateKind, rng: np.random.Generator) -> None:
    """Hide a sliver of a drawn plate in place, at most ``COVERED_AREA`` of it; every symbol can be read still."""
    height, width = plate.shape[:2]
    scale = height / kind.height_mm
    layer = np.zeros((height, width), np.uint8)
    for points, radius in _in_front(kind, rng):
        ends = np.round((np.multiply(points, scale) - 0.5) * 16).astype(np.int32)
        cv2.polylines(layer, [ends], False, 255, max(1, int(2 * radius * scale)), cv2.LINE_AA, 4)
    colour = np.multiply(IN_FRONT[int(rng.integers(len(IN_FRONT)))], rng.uniform(0.7, 1.3))
    hidden = layer > 127
    plate[hidden] = np.minimum(_patch((height, width), int(rng.integers(8)))[hidden] * colour, 255)


def _in_front(kind: PlateKind, rng: np.random.Generator) -> list[tuple[np.ndarray, float]]:
    """What hides a part of a plate, as strokes: points (2, 2) and the radius round them.

    The bar of a rack, or a pole, goes through the gap beside the dot. From below, or from above, come a bumper's edge,
    clods of mud or leaves, or a tow hook, a ball hitch or a leg.
    """
    style, above = rng.random(), rng.random() < 0.3
    left, right = max(((left + width, beyond) for (left, width), (beyond, _) in pairwise(kind.cells)),
                      key=lambda gap: gap[1] - gap[0])
    if style < 0.2 and not kind.upper and right - left > 30:
        radius = rng.uniform(5, (right - left) / 2 - 4)
        ends = rng.uniform(left + 4 + radius, right - 4 - radius, 2)
        return [(np.column_stack((ends, (-50.0, kind.height_mm + 50))), radius)]
    free = min(kind.row(index)[0] for index in range(kind.symbols)) if above else kind.foot_mm
    reach = (free + COVERED_INK) * rng.uniform(0.4, 1.0)
    place = rng.uniform(0, kind.width_mm)
    if style < 0.4:
        reach, radius = min(reach, 0.9 * COVERED_AREA * kind.height_mm), 60.0
        strokes = [(np.array([(-99.0, reach - radius), (kind.width_mm + 99.0, reach - radius)]), radius)]
    elif style < 0.6:
        strokes = []
        for x, radius in zip(place + rng.normal(0, 20, 6), rng.uniform(0.2, 0.5, 6) * reach):
            y = rng.uniform(-radius, reach - radius)
            strokes.append((np.array([(x, y), (x + rng.normal(0, radius), y)]), radius))
    else:
        radius = rng.uniform(6, 40)
        strokes = [(np.array([(place, reach - radius), (place + rng.normal(0, 20), -99.0)]), radius)]
    for points, _ in strokes:
        points[:, 1] = points[:, 1] if above else kind.height_mm - points[:, 1]
    return strokes


def plate_mask(plate: np.ndarray, kind: PlateKind) -> np.ndarray:
    """What of a drawn plate's picture is the plate: float32 (H, W), 1 inside, 0 beyond its rounded corners."""
    return _rounded(plate.shape[:2], CORNER_RADIUS / kind.height_mm)


@functools.cache
def _rounded(size: tuple[int, int], radius: float) -> np.ndarray:
    """The mask (H, W) of a rectangle whose corners have a ``radius`` in heights."""
    fine = 4
    height, width = size
    mask = np.zeros((height * fine, width * fine), np.float32)
    cv2.fillPoly(mask, [_outline(mask.shape, 0.0, radius * height * fine)], 1.0)
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)


def _outline(size: tuple[int, ...], inset: float, radius: float) -> np.ndarray:
    """A rectangle with rounded corners, ``inset`` from the edges of a picture (height, width): int32 points (40, 2)."""
    left, top, right, bottom = inset, inset, size[1] - 1 - inset, size[0] - 1 - inset
    corners = ((left, top, 180), (right, top, 270), (right, bottom, 0), (left, bottom, 90))
    outline = []
    for x, y, start in corners:
        cx = x + radius if x == left else x - radius
        cy = y + radius if y == top else y - radius
        turn = np.deg2rad(np.linspace(start, start + 90, 10))
        outline += [(cx + radius * np.cos(a), cy + radius * np.sin(a)) for a in turn]
    return np.round(outline).astype(np.int32)


def _glyph_from_font(symbol: str) -> np.ndarray:
    """A symbol in OpenCV's built-in font, cut tight: uint8 ink (180, 90); '1' keeps its narrow shape."""
    canvas = np.zeros((320, 320), np.uint8)
    symbol = "O" if symbol == "0" else symbol  # the font's zero is slashed, a plate's is not
    # The plate's strokes are 10 mm of 90: bold for letters and digits, regular for the denser provinces.
    cv2.putText(canvas, symbol, (60, 240), 255, cv2.FontFace("sans"), 180, 650 if symbol.isascii() else 500)
    x, y, width, height = cv2.boundingRect((canvas > 100).astype(np.uint8))
    if width == 0 or height == 0:
        raise UserError(f"the built-in font cannot draw '{symbol}'; give a glyph folder with --glyphs")
    cell = np.zeros((180, 90), np.uint8)
    if height < 60:  # a dash of another country's plates stays one
        cell[90 - height // 2:90 - height // 2 + height, 15:75] = 255
        return cell
    wanted = 90 if symbol != "1" else 45
    tight = cv2.resize(canvas[y:y + height, x:x + width], (wanted, 180), interpolation=cv2.INTER_LINEAR)
    cell[:, (90 - wanted) // 2:(90 + wanted) // 2] = tight
    return cell


@functools.cache
def _patch(size: tuple[int, int], seed: int) -> np.ndarray:
    """Soft dirt as a gain: float32 (H, W, 3), about 0.6..1.1."""
    noise = np.random.default_rng(seed).normal(0.0, 1.0, (7, 20)).astype(np.float32)
    gain = 0.9 + 0.13 * cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    return cv2.merge((np.clip(gain * 0.96, 0.5, 1.1), np.clip(gain, 0.5, 1.1), np.clip(gain, 0.5, 1.1)))
