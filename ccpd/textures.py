"""Surfaces and lettering that scenes are made of. Noise is drawn once and cut differently for every picture."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from platekit.opencv import cv2

Colour = Sequence[float] | np.ndarray  # BGR
Option = TypeVar("Option")
TILE = 1024
# What stands on signs, stickers and cars, one word after another.
_WORDS = """上海大众 一汽-大众 北京现代 东风日产 长安汽车 江淮汽车 奇瑞汽车 安全停车 禁止停车 消防通道 新手上路
实习 出租 停车场 中国移动 烟酒超市 汽车维修 洗车 酒店 银行 药房 公司 服务中心 房产 广告 招租 幼儿园 美食城 快递"""
_BRANDS = """TOYOTA HONDA Ford KIA SKODA CHERY BUICK JEEP VOLVO SUZUKI MAZDA BYD JAC MG ELANTRA SANTANA PASSAT MAGOTAN
CAMRY CIVIC FOCUS K5 H6 CR-V LAVIDA POLO"""
_TRIMS = "1.6 2.0T 1.8TSI 330TSI VVT-i DOHC 4MATIC quattro AWD TURBO HYBRID GT GLX EV300"
WORDS, BRANDS, TRIMS = _WORDS.split(), _BRANDS.split(), _TRIMS.split()
MAKERS = WORDS[:7]


@functools.cache
def _noise(index: int) -> np.ndarray:
    """White noise (TILE, TILE), float32, mean 0 and deviation 1."""
    return np.random.default_rng(1000 + index).standard_normal((TILE, TILE), np.float32)


@functools.cache
def _cloud(cell: int, index: int) -> np.ndarray:
    """Smooth noise whose features are about ``cell`` pixels wide, float32 (TILE, TILE), deviation 1."""
    small = max(4, TILE // cell)
    field = np.random.default_rng(2000 + 10 * cell + index).standard_normal((small, small), np.float32)
    field = cv2.resize(field, (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    return field / field.std()


def _cut(tile: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A random window (height, width) of a tile, mirrored at random, repeated where the tile is too small."""
    if height > TILE or width > TILE:
        tile = np.tile(tile, (-(-height // TILE), -(-width // TILE)))
    y, x = int(rng.integers(tile.shape[0] - height + 1)), int(rng.integers(tile.shape[1] - width + 1))
    part = tile[y:y + height, x:x + width]
    flip = int(rng.integers(4))
    return part[:: -1 if flip & 1 else 1, :: -1 if flip & 2 else 1]


def grain(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """White noise (height, width), deviation 1."""
    return _cut(_noise(int(rng.integers(3))), height, width, rng)


def cloud(height: int, width: int, cell: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise (height, width), features of about ``cell`` pixels (a power of two), deviation 1."""
    return _cut(_cloud(cell, int(rng.integers(3))), height, width, rng)


def random_colour(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]) -> np.ndarray:
    """A colour of any hue, float32 BGR (3,); ranges in 0..1."""
    hsv = np.array([[[rng.uniform(0, 360), rng.uniform(*saturation), rng.uniform(*value)]]], np.float32)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0] * 255.0


def surface(height: int, width: int, colour: np.ndarray, rough: float, rng: np.random.Generator) -> np.ndarray:
    """A matt surface: uint8 (height, width, 3), ``rough`` the contrast of its grain as a share."""
    shade = (
        1.0
        + rough * (0.8 * grain(height, width, rng) + 0.2 * cloud(height, width, 8, rng))
        + 0.08 * cloud(height, width, 128, rng)
    )
    return cv2.convertScaleAbs(cv2.merge([shade * float(c) for c in colour]).clip(0, 255))


def foliage(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Leaves against the light: uint8 (height, width, 3)."""
    field = cloud(height, width, 8, rng) + 0.8 * cloud(height, width, 32, rng) + 0.3 * grain(height, width, rng)
    value = np.clip(70 + 38 * field, 5, 235)
    green = rng.uniform(0.75, 1.0)
    picture = cv2.merge([value * rng.uniform(0.35, 0.7), value * 1.05, value * green * rng.uniform(0.7, 0.95)])
    picture[field > rng.uniform(1.3, 2.4)] = rng.uniform(170, 250)  # sky through the leaves
    return cv2.convertScaleAbs(picture.clip(0, 255))


def ground(size: int, rng: np.random.Generator) -> np.ndarray:
    """Pavement seen from above, uint8 (size, size, 3), a few millimetres a pixel."""
    style = rng.random()
    if style < 0.6:
        tone = rng.uniform(55, 150)
        colour = tone * np.array([1.0, 1.0, 1.0], np.float32) * rng.uniform(0.97, 1.02, 3)
        picture = surface(size, size, colour, rng.uniform(0.08, 0.3), rng)
        if rng.random() < 0.3:  # cracks and sealed seams
            for _ in range(int(rng.integers(1, 4))):
                points = np.cumsum(rng.normal(0, 60, (12, 2)), axis=0) + rng.uniform(0, size, 2)
                cv2.polylines(picture, [points.astype(np.int32)], False, (30, 30, 30), int(rng.integers(1, 4)),
                              cv2.LINE_AA)
    else:
        warm = rng.uniform(0.0, 0.3) ** 1.5  # stone and clay are grey to reddish
        colour = rng.uniform(90, 190) * np.array([1.0 - 1.2 * warm, 1.0 - 0.6 * warm, 1.0], np.float32)
        colour = colour if style < 0.94 else np.array([100, 140, 130], np.float32)
        picture = surface(size, size, colour, 0.1, rng)
        high, wide = int(rng.choice((25, 50, 75))), int(rng.choice((50, 75, 100)))
        rows, columns = -(-size // high), -(-size // wide) + 1
        tones = rng.uniform(0.8, 1.15, (rows, columns)).astype(np.float32)
        tones = np.repeat(np.repeat(tones, high, 0), wide, 1)
        tones[::high] = tones[1::high] = 0.55
        tones[:, ::wide] = tones[:, 1::wide] = 0.6
        if rng.random() < 0.6:  # running bond
            for row in range(1, rows, 2):
                tones[row * high:(row + 1) * high] = np.roll(tones[row * high:(row + 1) * high], wide // 2, 1)
        tones = np.ascontiguousarray(tones[:size, :size])
        picture = cv2.multiply(picture, cv2.merge((tones, tones, tones)), dtype=cv2.CV_8U)
        if style > 0.94:
            for y in range(high // 2, size, high):
                for x in range(wide // 2, size, wide):
                    cv2.circle(picture, (x, y), 11, (40, 60, 50), -1, cv2.LINE_AA)
    if rng.random() < 0.4:  # wet or oily patches
        dark = (cloud(size, size, 64, rng) > rng.uniform(0.8, 2.0)).astype(np.float32)
        gain = 1.0 - rng.uniform(0.2, 0.5) * cv2.GaussianBlur(dark, (0, 0), 3)
        picture = cv2.multiply(picture, cv2.merge((gain, gain, gain)), dtype=cv2.CV_8U)
    return picture


@functools.lru_cache(maxsize=512)
def lettering(text: str) -> np.ndarray:
    """Text as ink, cut tight: uint8 (height, width), about 48 pixels high."""
    canvas = np.zeros((120, 80 + 64 * len(text)), np.uint8)
    cv2.putText(canvas, text, (20, 84), 255, cv2.FontFace("sans"), 56, 600)
    x, y, width, height = cv2.boundingRect(canvas)
    return canvas[y:y + max(1, height), x:x + max(1, width)]


def pick(rng: np.random.Generator, options: Sequence[Option]) -> Option:
    """One of the options, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def pick_by_share(rng: np.random.Generator, shares: Mapping[Option, float]) -> Option:
    """One of the keys, each as likely as its share of the sum."""
    weights = np.array(list(shares.values()), float)
    return list(shares)[rng.choice(len(shares), p=weights / weights.sum())]


def phrase(rng: np.random.Generator) -> str:
    """Lettering as it stands on signs and stickers, never a plate number: words, telephone numbers, house numbers."""
    style = rng.random()
    if style < 0.4:
        return pick(rng, WORDS)
    if style < 0.6:
        return f"0{rng.integers(10, 999)}-{rng.integers(2000, 8999)}{rng.integers(1000, 9999)}"
    if style < 0.7:
        return f"1{rng.integers(30, 89)}{rng.integers(10**7, 10**8)}"
    if style < 0.8:
        return f"{rng.integers(100000, 299999)}"
    return pick(rng, BRANDS if style < 0.9 else TRIMS)


def stamp(picture: np.ndarray, text: str, box: tuple[float, float, float, float], colour: Colour) -> None:
    """Write text into a box (x1, y1, x2, y2) of a picture, in place; what lies outside the picture is cut off."""
    ink = lettering(text)
    x1, y1, x2, y2 = box
    height, width = y2 - y1, x2 - x1
    factor = min(height / ink.shape[0], width / ink.shape[1])
    x1, y1 = x1 + (width - ink.shape[1] * factor) / 2, y1 + (height - ink.shape[0] * factor) / 2
    height, width = ink.shape[0] * factor, ink.shape[1] * factor
    if height < 2 or width < 2 or max(height, width) > 4000:
        return
    mask = cv2.resize(ink, (max(1, round(width)), max(1, round(height))), interpolation=cv2.INTER_AREA)
    left, top = round(x1), round(y1)
    right, bottom = min(left + mask.shape[1], picture.shape[1]), min(top + mask.shape[0], picture.shape[0])
    if right <= max(left, 0) or bottom <= max(top, 0):
        return
    mask = mask[max(-top, 0):bottom - top, max(-left, 0):right - left, None].astype(np.float32) / 255.0
    part = picture[max(top, 0):bottom, max(left, 0):right]
    part[:] = part + (np.asarray(colour, np.float32) - part) * mask


def sign(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """A board with one or two lines of text, uint8 (height, width, 3); many are blue and white, like plates."""
    style = rng.random()
    if style < 0.35:
        back, front = np.array([rng.uniform(110, 230), rng.uniform(40, 110), rng.uniform(0, 50)]), (240, 240, 240)
    elif style < 0.55:
        back, front = random_colour(rng, (0, 0.1), (0.75, 1)), random_colour(rng, (0.5, 1), (0.1, 0.6))
    else:
        back = random_colour(rng, (0.5, 1.0), (0.3, 0.9))
        front = (235, 240, 245) if back.mean() < 140 else (20, 20, 20)
    board = np.empty((height, width, 3), np.uint8)
    board[:] = back
    if rng.random() < 0.5:
        cv2.rectangle(board, (0, 0), (width - 1, height - 1), tuple(map(float, front)), max(1, height // 20))
    lines = 1 if rng.random() < 0.7 else 2
    for line in range(lines):
        stamp(board, phrase(rng),
              (0.05 * width, height * (line + 0.15) / lines, 0.95 * width, height * (line + 0.85) / lines), front)
    return board
