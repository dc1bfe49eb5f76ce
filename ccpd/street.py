"""What surrounds the car: pavement with its paint, the street behind, the shadow below, a nearer car's corner."""

from __future__ import annotations

import numpy as np

from ccpd import camera
from ccpd.cars import CarShape
from ccpd.layout import FOCAL, HEIGHT, WIDTH, Layout, draw_mask
from ccpd.textures import cloud, foliage, ground, phrase, random_colour, sign, stamp, surface
from platekit.opencv import cv2

GROUND_TILE = 512

CANVAS = 980, 700  # height and width of the street, at half the photo's size: enough to be turned
ABOVE = 200  # its rows above the photo's upper edge


def surroundings(layout: Layout, shape: CarShape, night: bool, rng: np.random.Generator) -> np.ndarray:
    """Pavement, the street behind it, at ``night`` with a dark sky and lit windows, and the shadow below the car."""
    millimetres = float(np.clip(2.2 / layout.pixels_per_mm, 2.2, 8.0))  # a pixel of the tile
    tile = ground(GROUND_TILE, rng)
    _paint_road(tile, millimetres, rng)
    sin, cos = np.sin(layout.pitch), np.cos(layout.pitch)
    to_camera = np.array([[1, 0, 0], [0, -sin, layout.camera_height * cos], [0, cos, layout.camera_height * sin]])
    c, s = np.cos(layout.roll), np.sin(layout.roll)
    lens = np.array([[FOCAL * c, -FOCAL * s, WIDTH / 2], [FOCAL * s, FOCAL * c, HEIGHT / 2], [0, 0, 1.0]])
    yaw = rng.normal(0, 0.3)
    ahead = layout.distance * 0.8 + rng.uniform(-0.4, 0.2) * millimetres * GROUND_TILE
    # The tile's columns run to the right, its rows towards the camera.
    spread = millimetres * np.array([[np.cos(yaw), np.sin(yaw)], [np.sin(yaw), -np.cos(yaw)]])
    middle = np.array([0.0, ahead]) - spread @ np.full(2, GROUND_TILE / 2)
    from_tile = np.vstack((np.column_stack((spread, middle)), (0, 0, 1)))
    # All of this is out of the plate's plane: half the resolution is enough, and twice as fast.
    half = (WIDTH // 2, HEIGHT // 2)
    photo = cv2.warpPerspective(tile, np.diag((0.5, 0.5, 1.0)) @ lens @ to_camera @ from_tile, half,
                                flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    row = layout.row_at(layout.distance + rng.choice((600.0, 1500.0, 4000.0, 9000.0)) * rng.uniform(0.8, 2.0))
    reach = 1400
    if row > -300:
        edge = layout.turn(np.array([[-reach, row], [WIDTH + reach, row], [WIDTH + reach, -reach], [-reach, -reach]]))
        mask = draw_mask(edge, 2)
        if mask.any():
            cv2.copyTo(_street(layout, row, night, rng), (mask * 255).astype(np.uint8), photo)
    w = shape.half_width
    below = np.array(
        [(-w, shape.bottom - 200), (w, shape.bottom - 200), (w, shape.road + 40),
         (0.5 * w, shape.road + rng.uniform(60, 350)), (-0.5 * w, shape.road + rng.uniform(60, 350)),
         (-w, shape.road + 40)]
    )
    below = below @ layout.plane[:, :2].T + layout.plane[:, 2]
    shadow = cv2.GaussianBlur(draw_mask(below), (0, 0), max(0.6, 14 * layout.pixels_per_mm))
    camera.gain_field(photo, 1.0 - rng.uniform(0.55, 0.95) * shadow)
    return cv2.resize(photo, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def _paint_road(tile: np.ndarray, millimetres: float, rng: np.random.Generator) -> None:
    """Lines, numbers of parking bays, covers and leaves, in place."""
    size = len(tile)
    for _ in range(int(rng.integers(0, 3))):
        tone = (
            np.array([1.0, 1.0, 1.0]) * rng.uniform(150, 235) if rng.random() < 0.75 else np.array([40.0, 170.0, 210.0])
        )
        at, half = int(rng.integers(size)), max(1, int(rng.uniform(50, 90) / millimetres))
        lines = slice(max(0, at - half), at + half)
        strip = tile[lines] if rng.random() < 0.5 else tile[:, lines]
        worn = np.clip(0.8 + 0.25 * cloud(strip.shape[0], strip.shape[1], 8, rng), 0, 1)[:, :, None]
        strip[:] = strip + (tone.astype(np.float32) - strip) * worn
    if rng.random() < 0.3:  # a bay's number, bare or on a board
        height = int(rng.uniform(90, 220) / millimetres)
        width = int(height * rng.uniform(2.2, 3.2))
        x, y = int(rng.integers(max(1, size - width))), int(rng.integers(max(1, size - height)))
        if rng.random() < 0.6:
            tile[y:y + height, x:x + width] = (190, 205, 205)
            stamp(tile, f"{rng.integers(100000, 299999)}", (x + 4, y + 4, x + width - 4, y + height - 4), (50, 70, 80))
        else:
            stamp(tile, phrase(rng), (x, y, x + width, y + height), (210, 210, 210))
    if rng.random() < 0.2:
        centre, radius = (int(rng.integers(size)), int(rng.integers(size))), int(300 / millimetres)
        cv2.circle(tile, centre, radius, (60, 62, 65), -1, cv2.LINE_AA)
        for step in range(-4, 5):
            cv2.line(tile, (centre[0] - radius, centre[1] + step * radius // 5),
                     (centre[0] + radius, centre[1] + step * radius // 5), (35, 35, 38), max(1, radius // 20))
    if rng.random() < 0.25:
        for x, y, part in rng.random((int(rng.integers(5, 40)), 3)):
            tone = (40 * part, 90 + 60 * part, 120 + 80 * part)
            axes = (max(1, int(35 / millimetres)), max(1, int(18 / millimetres)))
            cv2.ellipse(tile, (int(x * size), int(y * size)), axes, part * 360, 0, 360, tone, -1, cv2.LINE_AA)


def _street(layout: Layout, row: float, night: bool, rng: np.random.Generator) -> np.ndarray:
    """What stands behind the car: walls, shops with signs, hedges, trees, sky, other cars; its foot at ``row``."""
    height, width = CANVAS
    foot = int(np.clip(row / 2 + ABOVE, 20, height))
    canvas = np.zeros((height, width, 3), np.uint8)
    sky = np.array([rng.uniform(150, 255), rng.uniform(150, 240), rng.uniform(140, 235)])
    if night:
        sky *= rng.uniform(0.05, 0.3)
    canvas[:] = (sky * np.linspace(1.0, 0.85, height)[:, None]).astype(np.uint8)[:, None]
    unit = max(0.02, 500.0 / (layout.distance + 3000))  # pixels per mm at the street's distance, half size
    kind = rng.random()
    top = max(0, foot - int(rng.uniform(2500, 9000) * unit))
    if kind < 0.4:  # house fronts
        x = 0
        while x < width:
            wide = int(rng.uniform(2500, 7000) * unit) + 30
            part = canvas[top:foot, x:x + wide]
            if part.size:
                part[:] = surface(part.shape[0], part.shape[1], random_colour(rng, (0, 0.14), (0.3, 0.85)), 0.06, rng)
                _windows(part, unit, night, rng)
            x += wide
            top = max(0, foot - int(rng.uniform(2500, 9000) * unit))
    elif kind < 0.75:  # trees and hedges
        canvas[top:foot] = foliage(foot - top, width, rng)
        for _ in range(int(rng.integers(0, 4))):
            x, thick = int(rng.integers(width)), max(3, int(rng.uniform(100, 350) * unit))
            cv2.rectangle(canvas, (x, 0), (x + thick, foot), (50, 60, 70), -1)
    else:  # a wall
        canvas[top:foot] = surface(foot - top, width, random_colour(rng, (0, 0.14), (0.25, 0.8)), 0.12, rng)
    _boards(canvas, foot, unit, rng)
    _parked_cars(canvas, foot, unit, rng)
    # The canvas's (width / 2, foot) is the upright picture's (WIDTH / 2, row) at half its size.
    c, s = np.cos(layout.roll), np.sin(layout.roll)
    anchor = layout.turn(np.array([[WIDTH / 2, 2.0 * (foot - ABOVE)]]))[0] / 2
    turn = np.array([[c, -s, anchor[0] - c * width / 2 + s * foot], [s, c, anchor[1] - s * width / 2 - c * foot]])
    return cv2.warpAffine(canvas, turn, (WIDTH // 2, HEIGHT // 2), flags=cv2.INTER_LINEAR,
                          borderMode=cv2.BORDER_REFLECT)


def _boards(canvas: np.ndarray, foot: int, unit: float, rng: np.random.Generator) -> None:
    """Boards with lettering, in place; the ground is at row ``foot``, a millimetre has ``unit`` pixels."""
    height, width = canvas.shape[:2]
    for _ in range(int(rng.integers(0, 4))):
        high = int(rng.uniform(250, 700) * unit) + 8
        wide = int(high * rng.uniform(2.0, 5.0))
        x = int(rng.integers(-wide // 2, width - wide // 2))
        y = int(foot - rng.uniform(600, 3500) * unit - high)
        board = sign(high, wide, rng)
        x1, y1, x2, y2 = max(0, x), max(0, y), min(width, x + wide), min(height, y + high)
        if x2 > x1 and y2 > y1:
            canvas[y1:y2, x1:x2] = board[y1 - y:y2 - y, x1 - x:x2 - x]


def _parked_cars(canvas: np.ndarray, foot: int, unit: float, rng: np.random.Generator) -> None:
    """Parked cars without detail, in place; as ``_boards``."""
    for _ in range(int(rng.integers(0, 4))):
        high, wide = 1400 * unit, rng.uniform(1700, 4200) * unit
        x = rng.uniform(0, canvas.shape[1])
        colour = tuple(map(float, random_colour(rng, (0, 0.1) if rng.random() < 0.75 else (0.4, 0.9), (0.1, 0.9))))
        body = np.array(
            [(x, foot), (x, foot - 0.5 * high), (x + 0.15 * wide, foot - 0.6 * high), (x + 0.3 * wide, foot - high),
             (x + 0.75 * wide, foot - high), (x + 0.9 * wide, foot - 0.55 * high), (x + wide, foot - 0.5 * high),
             (x + wide, foot)]
        )
        cv2.fillPoly(canvas, [body.astype(np.int32)], colour, cv2.LINE_AA)
        glass = np.array(
            [(x + 0.2 * wide, foot - 0.62 * high), (x + 0.33 * wide, foot - 0.93 * high),
             (x + 0.72 * wide, foot - 0.93 * high), (x + 0.84 * wide, foot - 0.6 * high)]
        )
        cv2.fillPoly(canvas, [glass.astype(np.int32)], (45, 42, 40), cv2.LINE_AA)
        for part in (0.2, 0.8):
            cv2.circle(canvas, (int(x + part * wide), foot), max(1, int(300 * unit)), (20, 20, 20), -1, cv2.LINE_AA)


def _windows(wall: np.ndarray, unit: float, night: bool, rng: np.random.Generator) -> None:
    """A wall's windows, in place, at ``night`` some of them lit."""
    pitch = max(12, int(rng.uniform(1500, 3500) * unit))
    tone = tuple(map(float, random_colour(rng, (0, 0.3), (0.1, 0.5))))
    for y in range(pitch // 4, wall.shape[0], pitch):
        for x in range(pitch // 4, wall.shape[1], pitch):
            pane = (150.0, 220.0, 255.0) if night and rng.random() < 0.25 else tone
            cv2.rectangle(wall, (x, y), (x + pitch // 2, y + int(pitch * 0.6)), pane, -1)
            cv2.rectangle(wall, (x, y), (x + pitch // 2, y + int(pitch * 0.6)), (200, 200, 200), 1)


def neighbour(photo: np.ndarray, quad: np.ndarray, rng: np.random.Generator) -> None:
    """The corner of a nearer car at the lower edge, unless it would hide the plate."""
    side = rng.random() < 0.5
    reach, height = rng.uniform(200, 620), rng.uniform(150, 520)
    turn = np.linspace(0, np.pi / 2, 12)
    arc = np.stack(
        (reach * np.sin(turn) ** rng.uniform(0.5, 1.0), HEIGHT - height * np.cos(turn) ** rng.uniform(0.4, 1.0)), 1
    )
    outline = np.concatenate((arc, [(0, HEIGHT + 10)]))
    if side:
        outline[:, 0] = WIDTH - outline[:, 0]
    mask = draw_mask(outline, 1)
    plate = draw_mask(quad, 1)
    if (mask * plate).any():
        return
    colour = random_colour(rng, (0, 0.12) if rng.random() < 0.8 else (0.4, 0.9), (0.1, 0.9))
    low, high = np.floor(outline.min(axis=0)).astype(int), np.ceil(outline.max(axis=0)).astype(int)
    window = slice(max(0, low[1]), min(HEIGHT, high[1])), slice(max(0, low[0]), min(WIDTH, high[0]))
    part = np.ascontiguousarray(photo[window])
    layer = np.empty_like(part)
    layer[:] = colour
    y, x = np.mgrid[0:20, 0:20].astype(np.float32) / 20
    gain = 1.25 - y * rng.uniform(0.3, 0.9) + 0.12 * np.sin(x * 4 + y * rng.uniform(5, 20))
    camera.gain_field(layer, gain.clip(0.15, 1.4))
    weight = cv2.GaussianBlur(np.ascontiguousarray(mask[window]), (0, 0), 1.2)
    photo[window] = cv2.blendLinear(layer, part, weight, 1.0 - weight)
