"""Whole photos: a car's face around a plate, pavement below, a street behind, light, weather and a camera.

The plate's pose comes from ``ccpd.geometry``. The face of the car lies in the plate's plane, the pavement in the plane
that a camera at the height of a standing person sees below it, so that both agree with the plate's size and slant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ccpd import camera
from ccpd.annotation import Annotation
from ccpd.cars import CarShape, draw_face, random_shape
from ccpd.dataset import PHOTO_SIZE
from ccpd.geometry import Pose, sample_pose
from ccpd.plates import KINDS, PlateKind, PlateRenderer, random_text
from ccpd.textures import WORDS, cloud, foliage, ground, phrase, random_colour, sign, stamp, surface
from platekit.opencv import cv2

WIDTH, HEIGHT = PHOTO_SIZE
FOCAL = 1000.0  # pixels: the usual lens of a telephone at this picture size
KIND_SHARES = {"blue": 0.86, "yellow": 0.08, "white": 0.03, "black": 0.03}
PLATE_SCALES = (
    0.2,
    0.3,
    0.45,
    0.65,
    0.9,
    1.3,
)  # pixels per mm at which plates are drawn; few, so that glyphs are reused
GROUND_TILE = 512


@dataclass(frozen=True)
class Layout:
    """Where things are in the picture: the plate's plane, and the camera over the pavement."""

    plane: np.ndarray  # (2, 3): millimetres on the car's face to pixels
    distance: float  # of the plate, mm
    pitch: float  # how far the camera looks down, radians
    roll: float  # how far the picture is turned clockwise, radians
    camera_height: float  # mm

    @property
    def pixels_per_mm(self) -> float:
        """Scale at the plate."""
        return float(np.linalg.norm(self.plane[:, 0]))

    def turn(self, points: np.ndarray) -> np.ndarray:
        """Points (N, 2) of the upright picture to the picture turned by ``roll`` about its centre."""
        c, s = np.cos(self.roll), np.sin(self.roll)
        centre = np.array([WIDTH / 2, HEIGHT / 2])
        return (np.asarray(points, float) - centre) @ np.array([[c, s], [-s, c]]) + centre

    def row_at(self, ahead: float) -> float:
        """The row of the upright picture where pavement ``ahead`` mm from the camera appears."""
        return HEIGHT / 2 + FOCAL * np.tan(np.arctan2(self.camera_height, ahead) - self.pitch)


def choose_kind(subset: str, kinds: list[str] | None, rng: np.random.Generator) -> PlateKind:
    """A plate kind: one of ``kinds`` where given, else green in ccpd_green and mostly blue elsewhere."""
    if kinds:
        return KINDS[kinds[int(rng.integers(len(kinds)))]]
    if subset == "ccpd_green":
        return KINDS["green"]
    return KINDS[str(rng.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))]


def render_photo(
    subset: str,
    renderer: PlateRenderer,
    rng: np.random.Generator,
    kinds: list[str] | None = None,
    size: tuple[int, int] = PHOTO_SIZE,
) -> tuple[np.ndarray, Annotation | None]:
    """A photo of a subset and its annotation (None in ccpd_np): uint8 BGR (height, width, 3), ``size`` (width, height).

    Pixels of the annotation are those of the returned photo. The same generator state gives the same photo.
    Raises UserError for an unknown subset.
    """
    pose = sample_pose(subset, rng)
    kind = choose_kind(subset, kinds, rng)
    text = random_text(rng, kind)
    shape = random_shape(rng)
    layout = _layout(pose, kind, shape, rng)

    photo = _surroundings(layout, shape, subset, rng)
    _car(photo, layout, shape, kind, subset == "ccpd_np", rng)
    quad = _plate_outline(pose.corners, 1.25)
    if rng.random() < {"ccpd_fn": 0.4, "ccpd_tilt": 0.35, "ccpd_challenge": 0.35}.get(subset, 0.12):
        _neighbour(photo, quad, rng)
    dark, bright = pose.brightness < 50, pose.brightness > 200
    level = rng.normal(115, 14) * min(1.0, 0.45 + 0.55 * pose.brightness / 90)
    if bright:
        level = rng.uniform(125, 215)
    photo = camera.expose(photo, level / max(20.0, float(photo[::8, ::8].mean())))
    if subset != "ccpd_np":
        _mount_plate(photo, pose, renderer.render(text, kind, rng, _plate_scale(layout.pixels_per_mm)), rng)
    photo = _light_and_weather(photo, subset, dark, rng)
    photo = camera.develop(photo, rng, harsh=0.15 if dark else 0.9)
    photo = _focus(photo, pose, subset, rng)
    noise = abs(rng.normal(0, 3.0)) + (rng.uniform(2, 14) if dark else 0.0)
    photo = camera.sensor(photo, rng, noise)

    corners = pose.corners
    if size != PHOTO_SIZE:
        factor = np.array(size) / PHOTO_SIZE
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
        corners = (corners + 0.5) * factor - 0.5
    return photo, None if subset == "ccpd_np" else annotate(photo, corners, text)


def annotate(photo: np.ndarray, corners: np.ndarray, text: str) -> Annotation:
    """The annotation of a plate with ``corners`` (4, 2) in a photo: rounded, inside, the box their bounding box."""
    height, width = photo.shape[:2]
    points = np.round(corners).astype(int).clip(0, (width - 1, height - 1))
    (x1, y1), (x2, y2) = points.min(axis=0), points.max(axis=0)
    x2, y2 = max(x2, x1 + 1), max(y2, y1 + 1)
    right_bottom, left_bottom, left_top, right_top = corners
    across, down = right_top - left_top + right_bottom - left_bottom, left_bottom - left_top + right_bottom - right_top
    tilt = np.degrees(np.abs(np.arctan2((across[1], down[0]), (across[0], down[1]))))
    part = photo[y1 : y2 + 1, x1 : x2 + 1]
    return Annotation(
        area=f"{min((x2 - x1) * (y2 - y1) / (width * height), 0.9999):.4f}"[2:],
        tilt=(round(tilt[0]), round(tilt[1])),
        box=(int(x1), int(y1), int(x2), int(y2)),
        vertices=tuple((int(x), int(y)) for x, y in points),
        plate=text,
        brightness=round(float(part.mean())),
        blurriness=round(camera.sharpness(part)),
    )


# Where things are.


def _layout(pose: Pose, kind: PlateKind, shape: CarShape, rng: np.random.Generator) -> Layout:
    right_bottom, left_bottom, left_top, right_top = pose.corners
    across = (right_top - left_top + right_bottom - left_bottom) / 2 / kind.width_mm
    down = (left_bottom - left_top + right_bottom - right_top) / 2 / kind.height_mm
    centre = pose.corners.mean(axis=0)
    distance = FOCAL / float(np.linalg.norm(across))
    camera_height = rng.uniform(1250, 1650)
    drop = camera_height - shape.road
    look = np.arctan2(drop, np.sqrt(max(distance**2 - drop**2, (0.7 * distance) ** 2)))
    roll = 0.7 * np.arctan2(-down[0], down[1]) + 0.3 * np.arctan2(across[1], across[0])
    upright = (centre - (WIDTH / 2, HEIGHT / 2)) @ np.array([-np.sin(roll), np.cos(roll)])
    pitch = float(look - np.arctan2(upright, FOCAL))
    return Layout(np.column_stack((across, down, centre)), distance, pitch, float(roll), camera_height)


def _plate_scale(pixels_per_mm: float) -> float:
    return next((scale for scale in PLATE_SCALES if scale >= 0.9 * pixels_per_mm), PLATE_SCALES[-1])


def _plate_outline(corners: np.ndarray, factor: float) -> np.ndarray:
    centre = corners.mean(axis=0)
    return centre + (corners - centre) * factor


def _draw_mask(points: np.ndarray, shrink: int = 4) -> np.ndarray:
    """A polygon in picture coordinates as a smaller float mask 0..1."""
    mask = np.zeros((HEIGHT // shrink, WIDTH // shrink), np.float32)
    cv2.fillPoly(mask, [np.round(np.asarray(points) * (16.0 / shrink)).astype(np.int32)], 1.0, cv2.LINE_8, 4)
    return mask


# What is drawn.


def _surroundings(layout: Layout, shape: CarShape, subset: str, rng: np.random.Generator) -> np.ndarray:
    """Pavement, the street behind it, and the shadow below the car."""
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
    photo = cv2.warpPerspective(
        tile,
        np.diag((0.5, 0.5, 1.0)) @ lens @ to_camera @ from_tile,
        half,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_WRAP,
    )
    row = layout.row_at(layout.distance + rng.choice((600.0, 1500.0, 4000.0, 9000.0)) * rng.uniform(0.8, 2.0))
    reach = 1400
    if row > -300:
        edge = layout.turn(np.array([[-reach, row], [WIDTH + reach, row], [WIDTH + reach, -reach], [-reach, -reach]]))
        mask = _draw_mask(edge, 2)
        if mask.any():
            cv2.copyTo(_street(layout, row, rng), (mask * 255).astype(np.uint8), photo)
    w = shape.half_width
    below = np.array(
        [
            (-w, shape.bottom - 200),
            (w, shape.bottom - 200),
            (w, shape.road + 40),
            (0.5 * w, shape.road + rng.uniform(60, 350)),
            (-0.5 * w, shape.road + rng.uniform(60, 350)),
            (-w, shape.road + 40),
        ]
    )
    below = below @ layout.plane[:, :2].T + layout.plane[:, 2]
    shadow = cv2.GaussianBlur(_draw_mask(below), (0, 0), max(0.6, 14 * layout.pixels_per_mm))
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
        worn = np.clip(0.8 + 0.25 * cloud(*strip.shape[:2], 8, rng), 0, 1)[:, :, None]
        strip[:] = strip + (tone.astype(np.float32) - strip) * worn
    if rng.random() < 0.3:  # a bay's number, bare or on a board
        height = int(rng.uniform(90, 220) / millimetres)
        width = int(height * rng.uniform(2.2, 3.2))
        x, y = int(rng.integers(max(1, size - width))), int(rng.integers(max(1, size - height)))
        if rng.random() < 0.6:
            tile[y : y + height, x : x + width] = (190, 205, 205)
            stamp(tile, f"{rng.integers(100000, 299999)}", (x + 4, y + 4, x + width - 4, y + height - 4), (50, 70, 80))
        else:
            stamp(tile, phrase(rng), (x, y, x + width, y + height), (210, 210, 210))
    if rng.random() < 0.2:
        centre, radius = (int(rng.integers(size)), int(rng.integers(size))), int(300 / millimetres)
        cv2.circle(tile, centre, radius, (60, 62, 65), -1, cv2.LINE_AA)
        for step in range(-4, 5):
            cv2.line(
                tile,
                (centre[0] - radius, centre[1] + step * radius // 5),
                (centre[0] + radius, centre[1] + step * radius // 5),
                (35, 35, 38),
                max(1, radius // 20),
            )
    if rng.random() < 0.25:
        for x, y, part in rng.random((int(rng.integers(5, 40)), 3)):
            tone = (40 * part, 90 + 60 * part, 120 + 80 * part)
            axes = (max(1, int(35 / millimetres)), max(1, int(18 / millimetres)))
            cv2.ellipse(tile, (int(x * size), int(y * size)), axes, part * 360, 0, 360, tone, -1, cv2.LINE_AA)


def _street(layout: Layout, row: float, rng: np.random.Generator) -> np.ndarray:
    """What stands behind the car: walls, shops with signs, hedges, trees, sky, other cars; its foot at ``row``."""
    canvas_width = 700  # half size, wide enough to be turned
    foot = int(np.clip(row / 2 + 200, 20, 980))
    canvas = np.zeros((980, canvas_width, 3), np.uint8)
    sky = np.array([rng.uniform(150, 255), rng.uniform(150, 240), rng.uniform(140, 235)])
    canvas[:] = (sky * np.linspace(1.0, 0.85, 980)[:, None]).astype(np.uint8)[:, None]
    unit = max(0.02, 500.0 / max(800.0, layout.distance + 3000))  # pixels per mm at the street's distance, half size
    kind = rng.random()
    top = max(0, foot - int(rng.uniform(2500, 9000) * unit))
    if kind < 0.4:  # house fronts
        x = 0
        while x < canvas_width:
            wide = int(rng.uniform(2500, 7000) * unit) + 30
            part = canvas[top:foot, x : x + wide]
            if part.size:
                part[:] = surface(part.shape[0], part.shape[1], random_colour(rng, (0, 0.2), (0.3, 0.85)), 0.06, rng)
                _windows(part, unit, rng)
            x += wide
            top = max(0, foot - int(rng.uniform(2500, 9000) * unit))
    elif kind < 0.75:  # trees and hedges
        canvas[top:foot] = foliage(foot - top, canvas_width, rng)
        for _ in range(int(rng.integers(0, 4))):
            x, thick = int(rng.integers(canvas_width)), max(3, int(rng.uniform(100, 350) * unit))
            cv2.rectangle(canvas, (x, 0), (x + thick, foot), (50, 60, 70), -1)
    else:  # a wall
        canvas[top:foot] = surface(foot - top, canvas_width, random_colour(rng, (0, 0.25), (0.25, 0.8)), 0.12, rng)
    for _ in range(int(rng.integers(0, 4))):  # boards
        high = int(rng.uniform(250, 700) * unit) + 8
        wide = int(high * rng.uniform(2.0, 5.0))
        x, y = int(rng.integers(-wide // 2, canvas_width - wide // 2)), int(foot - rng.uniform(600, 3500) * unit - high)
        board = sign(high, wide, rng)
        x1, y1, x2, y2 = max(0, x), max(0, y), min(canvas_width, x + wide), min(980, y + high)
        if x2 > x1 and y2 > y1:
            canvas[y1:y2, x1:x2] = board[y1 - y : y2 - y, x1 - x : x2 - x]
    for _ in range(int(rng.integers(0, 4))):  # parked cars, without detail
        high, wide = 1400 * unit, rng.uniform(1700, 4200) * unit
        x = rng.uniform(0, canvas_width)
        colour = tuple(map(float, random_colour(rng, (0, 0.4), (0.1, 0.95))))
        body = np.array(
            [
                (x, foot),
                (x, foot - 0.5 * high),
                (x + 0.15 * wide, foot - 0.6 * high),
                (x + 0.3 * wide, foot - high),
                (x + 0.75 * wide, foot - high),
                (x + 0.9 * wide, foot - 0.55 * high),
                (x + wide, foot - 0.5 * high),
                (x + wide, foot),
            ]
        )
        cv2.fillPoly(canvas, [body.astype(np.int32)], colour, cv2.LINE_AA)
        glass = np.array(
            [
                (x + 0.2 * wide, foot - 0.62 * high),
                (x + 0.33 * wide, foot - 0.93 * high),
                (x + 0.72 * wide, foot - 0.93 * high),
                (x + 0.84 * wide, foot - 0.6 * high),
            ]
        )
        cv2.fillPoly(canvas, [glass.astype(np.int32)], (45, 42, 40), cv2.LINE_AA)
        for part in (0.2, 0.8):
            cv2.circle(canvas, (int(x + part * wide), foot), max(1, int(300 * unit)), (20, 20, 20), -1, cv2.LINE_AA)
    # Canvas (350, foot) is the upright picture's (WIDTH / 2, row) at half its size.
    c, s = np.cos(layout.roll), np.sin(layout.roll)
    anchor = layout.turn(np.array([[WIDTH / 2, 2.0 * (foot - 200)]]))[0] / 2
    turn = np.array([[c, -s, anchor[0] - c * 350 + s * foot], [s, c, anchor[1] - s * 350 - c * foot]])
    return cv2.warpAffine(
        canvas, turn, (WIDTH // 2, HEIGHT // 2), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )


def _windows(wall: np.ndarray, unit: float, rng: np.random.Generator) -> None:
    pitch = max(12, int(rng.uniform(1500, 3500) * unit))
    tone = tuple(map(float, random_colour(rng, (0, 0.3), (0.1, 0.5))))
    for y in range(pitch // 4, wall.shape[0], pitch):
        for x in range(pitch // 4, wall.shape[1], pitch):
            cv2.rectangle(wall, (x, y), (x + pitch // 2, y + int(pitch * 0.6)), tone, -1)
            cv2.rectangle(wall, (x, y), (x + pitch // 2, y + int(pitch * 0.6)), (200, 200, 200), 1)


def _car(
    photo: np.ndarray, layout: Layout, shape: CarShape, kind: PlateKind, bare: bool, rng: np.random.Generator
) -> None:
    """Draw the car's face, its plate frame included, into the photo; ``bare`` cars carry a dealer's card or nothing."""
    inverse = cv2.invertAffineTransform(layout.plane)
    seen = np.array([(0, 0), (WIDTH, 0), (0, HEIGHT), (WIDTH, HEIGHT)], float) @ inverse[:, :2].T + inverse[:, 2]
    limits = np.array([[-1.05 * shape.half_width, -1600], [1.05 * shape.half_width, shape.road + 5]])
    low, high = seen.min(axis=0).clip(*limits), seen.max(axis=0).clip(*limits)
    scale = min(layout.pixels_per_mm, 1.0, float(np.sqrt(2.0e6 / max(1.0, np.prod(high - low)))))
    face = draw_face(shape, (*low, *high), scale, rng)
    _plate_place(face, kind, bare, rng)
    to_face = np.array([[1 / scale, 0, face.left], [0, 1 / scale, face.top], [0, 0, 1.0]])
    layer = cv2.warpAffine(
        cv2.merge((*cv2.split(face.colour), face.opacity)),
        (layout.plane @ to_face)[:2],
        (WIDTH, HEIGHT),
        flags=cv2.INTER_LINEAR,
    )
    weight = layer[:, :, 3].astype(np.float32) / 255.0
    photo[:] = cv2.blendLinear(cv2.cvtColor(layer, cv2.COLOR_BGRA2BGR), photo, weight, 1.0 - weight)


def _plate_place(face, kind: PlateKind, bare: bool, rng: np.random.Generator) -> None:
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
            words = f"{WORDS[int(rng.integers(len(WORDS)))]}  {phrase(rng)}  {phrase(rng)}"
            centre = (-face.left * face.scale, (high + chin / 2 + 2 - face.top) * face.scale)
            reach = (0.9 * half * face.scale, 0.4 * chin * face.scale)
            stamp(
                face.colour,
                words,
                (centre[0] - reach[0], centre[1] - reach[1], centre[0] + reach[0], centre[1] + reach[1]),
                ink,
            )
    if bare:
        if style < 0.6:
            tone = rng.uniform(10, 200)
            box(-half, -high, half, high, (tone, tone, tone))
            for x in (-0.5, 0.5):
                for y in (-0.8, 0.8):
                    face.ellipse(x * half, y * high, 9, 6, (10, 10, 10))
        else:
            face.paste(sign(140, 440, rng), -half, -high, 2 * half, 2 * high)


def _mount_plate(photo: np.ndarray, pose: Pose, plate: np.ndarray, rng: np.random.Generator) -> None:
    """Warp a plate onto its corners, lit so that its mean comes to the pose's brightness."""
    height, width = plate.shape[:2]
    if rng.random() < 0.6:
        camera.uneven_light(plate, rng, rng.uniform(0.05, 0.3))
    if rng.random() < 0.08:  # a mirrored window or lamp
        mask = np.zeros((height, width), np.float32)
        x = rng.uniform(0, width)
        cv2.line(
            mask,
            (int(x), 0),
            (int(x + rng.normal(0, 0.4 * height)), height),
            1.0,
            max(1, int(rng.uniform(0.1, 0.7) * height)),
        )
        mask = cv2.GaussianBlur(mask, (0, 0), max(0.6, height / 12)) * rng.uniform(40, 150)
        cv2.add(plate, cv2.merge((mask, mask, mask)), dst=plate, dtype=cv2.CV_8U)
    plate = camera.expose(plate, np.clip(pose.brightness / max(8.0, float(plate.mean())), 0.06, 3.0))
    if pose.brightness > 170:  # overexposure also lifts what is dark
        veil = int(min(140, (pose.brightness - 170) * 1.4))
        plate = cv2.addWeighted(plate, 1 - veil / 300, np.full_like(plate, 255), veil / 300, 0)
    (x1, y1), (x2, y2) = np.floor(pose.corners.min(axis=0)) - 2, np.ceil(pose.corners.max(axis=0)) + 3
    x1, y1, x2, y2 = int(max(x1, 0)), int(max(y1, 0)), int(min(x2, WIDTH)), int(min(y2, HEIGHT))
    source = np.array([(width, height), (0, height), (0, 0), (width, 0)], np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(source, (pose.corners - (x1, y1)).astype(np.float32))
    size = (x2 - x1, y2 - y1)
    weight = cv2.warpPerspective(np.ones((height, width), np.float32), matrix, size, flags=cv2.INTER_LINEAR)
    warped = cv2.warpPerspective(plate, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    part = np.ascontiguousarray(photo[y1:y2, x1:x2])
    photo[y1:y2, x1:x2] = cv2.blendLinear(warped, part, weight, 1.0 - weight)


def _neighbour(photo: np.ndarray, quad: np.ndarray, rng: np.random.Generator) -> None:
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
    mask = _draw_mask(outline, 1)
    plate = _draw_mask(quad, 1)
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


# What happens to it.


def _light_and_weather(photo: np.ndarray, subset: str, dark: bool, rng: np.random.Generator) -> np.ndarray:
    hard = subset in ("ccpd_challenge", "ccpd_db")
    if rng.random() < (0.3 if hard else 0.15):
        camera.cast_shadow(photo, rng)
    if rng.random() < (0.7 if hard else 0.35):
        camera.uneven_light(photo, rng, rng.uniform(0.1, 0.9 if hard else 0.45))
    if rng.random() < (0.35 if dark or hard else 0.04):
        camera.glare(photo, rng, int(rng.integers(1, 4)))
    if subset == "ccpd_weather" or (subset == "ccpd_challenge" and rng.random() < 0.3):
        photo = (camera.rain, camera.snow, camera.fog)[int(rng.choice(3, p=(0.55, 0.2, 0.25)))](photo, rng)
    return photo


def _focus(photo: np.ndarray, pose: Pose, subset: str, rng: np.random.Generator) -> np.ndarray:
    """Blur the photo as far as the plate's published blurriness asks."""
    moved, angle = bool(rng.random() < (0.5 if subset == "ccpd_blur" else 0.25)), rng.uniform(0, np.pi)
    x1, y1, x2, y2 = (round(value) for value in pose.box)
    margin = 16
    left, top = max(0, x1 - margin), max(0, y1 - margin)
    part = np.ascontiguousarray(photo[top : y2 + margin, left : x2 + margin])
    inner = slice(y1 - top, y2 - top), slice(x1 - left, x2 - left)
    low, high = 0.0, 0.08 * (x2 - x1) if subset == "ccpd_blur" else 0.035 * (x2 - x1)
    if camera.sharpness(part[inner]) <= pose.blurriness:
        return photo
    for _ in range(5):
        amount = (low + high) / 2
        if camera.sharpness(camera.blur(part, amount, moved, angle)[inner]) > pose.blurriness:
            low = amount
        else:
            high = amount
    return camera.blur(photo, (low + high) / 2, moved, angle)
