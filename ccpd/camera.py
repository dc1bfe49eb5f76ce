"""What light, weather and the camera do to a scene. Pictures are uint8 BGR (H, W, 3)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ccpd.textures import cloud, grain, pick_by_share
from platekit.opencv import cv2

# Every photo of CCPD but the green plates' was JPEG of this quality once: the coefficients of their blocks lie on five
# times the steps of the standard's tables, however finely the files are coded now.
CCPD_QUALITY = 10
MOVED_BLURS = 0.65  # share of the blurs of training photos like CCPD's that are the camera's motion
LINEAR_BLURS = 0.5  # share of the blurs in training that mix light and not numbers
# How bright the scene is at night, as a share of the plate, which throws back the light of headlamps and flashes.
SCENE_TO_PLATE = (0.12, 0.4)
# Of lamps at night, BGR, with how often: street lamps of sodium and of other kinds, headlamps, tail-lamps.
LAMPS = {(90, 180, 255): 0.35, (190, 230, 255): 0.2, (255, 250, 240): 0.3, (50, 50, 255): 0.15}
LINEAR = ((np.arange(256) / 255) ** 2).astype(np.float32)  # light of each number; sRGB's curve is hardly steeper


class BlurKind(NamedTuple):
    """Of what kind a blur is.

    ``linear`` mixes the light of neighbours, as a lens does: what is bright then spreads over what is dark. Otherwise
    their numbers are mixed, as programs do that make pictures smoother.
    """

    moved: bool = False  # the camera's motion rather than its focus
    angle: float = 0.0  # of the motion, in radians
    linear: bool = False


def gain_field(picture: np.ndarray, gain: np.ndarray) -> None:
    """Multiply a picture by a gain (H, W) of any size, in place."""
    gain = cv2.resize(gain.astype(np.float32), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    cv2.multiply(picture, cv2.merge((gain, gain, gain)), dst=picture, dtype=cv2.CV_8U)


def cast_shadow(picture: np.ndarray, rng: np.random.Generator) -> None:
    """The shadow of a wall, a person or a tree, in place."""
    height, width = picture.shape[0] // 4, picture.shape[1] // 4
    if rng.random() < 0.5:
        mask = (cloud(height, width, int(rng.choice((16, 32, 64))), rng) > rng.uniform(-0.3, 0.8)).astype(np.float32)
    else:
        mask = np.zeros((height, width), np.float32)
        middle, angle = rng.uniform(0.2, 0.8, 2) * (width, height), rng.uniform(0, np.pi)
        along, across = (np.array([np.cos(angle), np.sin(angle)]) * 600,
                         np.array([-np.sin(angle), np.cos(angle)]) * rng.uniform(60, 500))
        cv2.fillPoly(
            mask,
            [np.array([middle - along, middle + along, middle + along + across, middle - along + across], np.int32)],
            1.0,
        )
    mask = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.7, 5))
    gain_field(picture, 1.0 - rng.uniform(0.25, 0.65) * mask)


def uneven_light(picture: np.ndarray, rng: np.random.Generator, strength: float) -> None:
    """Light that falls off across the picture or from one lamp, in place; ``strength`` 0..1."""
    y, x = np.mgrid[0:29, 0:18].astype(np.float32) / 29.0
    angle = rng.uniform(0, 2 * np.pi)
    if rng.random() < 0.5:
        field = np.cos(angle) * x + np.sin(angle) * y
        field = (field - field.min()) / (np.ptp(field) + 1e-6)
    else:
        centre = rng.uniform(0.1, 0.6), rng.uniform(0.1, 0.9)
        field = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / rng.uniform(0.03, 0.3))
    gain_field(picture, 1.0 + strength * (1.6 * field - 0.8))


def glare(picture: np.ndarray, rng: np.random.Generator, count: int) -> None:
    """Lamps or the sun into the lens: white spots with a wide halo, in place."""
    height, width = picture.shape[:2]
    light = np.zeros((height // 8, width // 8), np.float32)
    for _ in range(count):
        spot = int(rng.integers(light.shape[1])), int(rng.integers(light.shape[0] * 3 // 4))
        cv2.circle(light, spot, int(rng.integers(1, 7)), float(rng.uniform(150, 400)), -1)
    light = cv2.GaussianBlur(light, (0, 0), 0.8) + 4.0 * cv2.GaussianBlur(light, (0, 0), rng.uniform(4, 14))
    light = cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)
    tint = rng.uniform(0.8, 1.0, 3)
    cv2.add(picture, cv2.convertScaleAbs(cv2.merge([light * float(t) for t in tint])), dst=picture)


def lamps(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> None:
    """Lamps of a street at night with their halos, in place; none by the plate at ``corners`` (4, 2), to hide it."""
    height, width = picture.shape[:2]
    shrink = max(1.0, width / 180)
    light = np.zeros((max(4, round(height / shrink)), max(4, round(width / shrink)), 3), np.float32)
    low, high = corners.min(axis=0) / shrink, corners.max(axis=0) / shrink
    margin = 12 + 0.3 * (high[0] - low[0])
    for _ in range(int(rng.integers(2, 9))):
        spot = rng.uniform((0, 0), (light.shape[1], 0.5 * light.shape[0]))
        colour = np.multiply(pick_by_share(rng, LAMPS), rng.uniform(0.6, 1.5))
        radius = rng.uniform(0.8, 4.4)
        if ((low - margin < spot) & (spot < high + margin)).all():
            continue
        cv2.circle(light, (round(spot[0] * 16), round(spot[1] * 16)), round(radius * 16), colour.tolist(), -1,
                   cv2.LINE_8, 4)
    light = cv2.GaussianBlur(light, (0, 0), 0.8) + 3.0 * cv2.GaussianBlur(light, (0, 0), rng.uniform(6, 16))
    light = cv2.resize(cv2.convertScaleAbs(light), (width, height), interpolation=cv2.INTER_LINEAR)
    cv2.add(picture, light, dst=picture)


def nightfall(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator, bare: bool = False) -> None:
    """Night, in place: the plate at ``corners`` (4, 2) stays as bright as it is, lit by headlamps or a flash; what is
    about it gets some of their light, all else that of street lamps (see ``SCENE_TO_PLATE``). ``bare``: no plate is
    there to throw light back.
    """
    height, width = picture.shape[:2]
    y, x = np.mgrid[0:height:29j, 0:width:18j].astype(np.float32)
    centre, reach = corners.mean(axis=0), np.ptp(corners[:, 0]) * rng.uniform(0.8, 2.5)
    pool = rng.uniform(0.0, 0.35) * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * reach**2))
    warm = rng.uniform((0.45, 0.75, 1.0), (0.95, 0.97, 1.05)).astype(np.float32)  # BGR: of the street lamps
    field = (rng.uniform(*SCENE_TO_PLATE) * warm + pool[:, :, None]).astype(np.float32)
    field = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
    if not bare:
        plate = np.zeros((height, width), np.float32)
        cv2.fillConvexPoly(plate, np.round(corners * 16).astype(np.int32), 1.0, cv2.LINE_8, 4)
        plate = cv2.GaussianBlur(plate, (0, 0), 0.7)
        field = cv2.blendLinear(np.ones_like(field), field, plate, 1.0 - plate)
    cv2.multiply(picture, field, dst=picture, dtype=cv2.CV_8U)
    lamps(picture, corners, rng)


def rain(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Streaks, drops on the lens and a grey veil."""
    height, width = picture.shape[:2]
    picture = cv2.addWeighted(picture, rng.uniform(0.7, 0.95), np.full_like(picture, 130), rng.uniform(0.03, 0.2), 0)
    streaks = np.zeros((height // 2, width // 2), np.uint8)
    slant, length = rng.normal(0, 0.15), rng.uniform(8, 45)
    for x, y, part, tone in rng.random((int(rng.integers(30, 220)), 4)):
        start = int(x * width / 2), int(y * height / 2)
        step = length * (0.4 + part)
        cv2.line(streaks, start, (int(start[0] + slant * step), int(start[1] + step)), 15 + int(tone * 70), 1,
                 cv2.LINE_AA)
    streaks = cv2.resize(streaks, (width, height), interpolation=cv2.INTER_LINEAR)
    picture = cv2.add(picture, cv2.merge((streaks, streaks, streaks)))
    for _ in range(int(rng.integers(0, 9))):  # drops on the lens smear what is behind them
        radius = int(rng.integers(8, 45))
        x, y = int(rng.integers(radius, width - radius)), int(rng.integers(radius, height - radius))
        part = picture[y - radius:y + radius, x - radius:x + radius]
        disc = np.zeros(part.shape[:2], np.uint8)
        cv2.circle(disc, (radius, radius), radius - 1, 255, -1)
        cv2.copyTo(cv2.blur(np.ascontiguousarray(part), (radius // 2 + 1,) * 2), disc, part)
    return picture


def snow(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Flakes near and far, and white in the air."""
    picture = cv2.addWeighted(picture, rng.uniform(0.65, 0.92), np.full_like(picture, 225), rng.uniform(0.05, 0.25), 0)
    height, width = picture.shape[:2]
    flakes = np.zeros((height, width), np.uint8)
    for x, y, size, tone in rng.random((int(rng.integers(60, 500)), 4)):
        radius = 1 + int(5 * size**3)
        cv2.ellipse(flakes, (int(x * width), int(y * height)), (radius, radius + int(6 * size)), 10, 0, 360,
                    120 + int(130 * tone), -1)
    flakes = cv2.GaussianBlur(flakes, (0, 0), rng.uniform(0.8, 1.8))
    return cv2.add(picture, cv2.merge((flakes, flakes, flakes)))


def fog(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pale veil, thicker towards the top where the scene is far."""
    density = rng.uniform(0.2, 0.65)
    veil = np.repeat(np.linspace(1.2 * density, 0.7 * density, picture.shape[0], dtype=np.float32)[:, None],
                     picture.shape[1], axis=1)
    return cv2.blendLinear(picture, np.full_like(picture, int(rng.integers(150, 225))), 1.0 - veil, veil)


def develop(picture: np.ndarray, rng: np.random.Generator, harsh: float = 0.9, green: float = 0.3) -> np.ndarray:
    """A telephone's colours: tone curve, cast, saturation, crushed shadows that turn green as often seen in CCPD.

    ``harsh`` is the strongest contrast to draw, ``green`` the share of photos with green shadows.
    """
    steps = np.linspace(0, 1, 256)
    contrast = rng.uniform(-0.1, harsh)
    curve = steps + contrast * (steps - 0.5) * steps * (1 - steps) * 3.0  # an S that keeps black and white
    curve = curve.clip(0, 1) ** rng.uniform(0.85, 1.25)
    warm = rng.normal(0.0, 0.045)  # white balance errs along blue and red
    cast = np.array([1.0 - warm, 1.0, 1.0 + warm]) * rng.normal(1.0, 0.012, 3)
    table = np.stack([curve * c for c in cast], 1)
    if rng.random() < green:
        shadow = (1 - steps) ** 4 * steps * rng.uniform(0.0, 1.2)
        table[:, 1] += 0.5 * shadow
        table[:, (0, 2)] -= shadow[:, None]
    table = np.clip(table * 255, 0, 255).astype(np.uint8)
    picture = cv2.LUT(picture, table.reshape(1, 256, 3))
    saturation = rng.uniform(0.75, 1.6)
    weights = np.array([0.114, 0.587, 0.299], np.float32)
    matrix = saturation * np.eye(3, dtype=np.float32) + (1 - saturation) * weights[None, :]
    return cv2.transform(picture, matrix)


def expose(picture: np.ndarray, gain: float) -> np.ndarray:
    """Brighten or darken; bright parts saturate at white."""
    return cv2.convertScaleAbs(picture, alpha=float(gain), beta=0.0)


def coded(picture: np.ndarray, quality: int) -> np.ndarray:
    """The picture as JPEG of this quality leaves it."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None  # what was just encoded
    return decoded


def motion_kernel(length: float, angle: float) -> np.ndarray:
    """The path of a moved camera as a normalised kernel (k, k); length in pixels, angle in radians."""
    reach = max(1, math.ceil(length / 2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    along = np.linspace(-length / 2, length / 2, max(2, int(8 * length)))  # each point is shared by four pixels
    x, y = reach + along * np.cos(angle), reach + along * np.sin(angle)
    left, top = (np.floor(place).astype(int).clip(0, 2 * reach - 1) for place in (x, y))
    for dx, across in ((0, left + 1 - x), (1, x - left)):
        for dy, down in ((0, top + 1 - y), (1, y - top)):
            np.add.at(kernel, (top + dy, left + dx), across * down)
    return kernel / kernel.sum()


def sharpness(part: np.ndarray) -> float:
    """CCPD's blurriness as it can be told from its photos: Laplacian variance of the plate at 160 x 48, scaled."""
    grey = cv2.cvtColor(cv2.resize(part, (160, 48), interpolation=cv2.INTER_LINEAR), cv2.COLOR_BGR2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var()) / 28.0


def to_linear(picture: np.ndarray) -> np.ndarray:
    """How much light (float32, 1 for white) the numbers of a picture stand for, whose steps are even to the eye."""
    return cv2.LUT(picture, LINEAR)


def from_linear(light: np.ndarray) -> np.ndarray:
    """The picture that ``to_linear`` makes this light of; what is brighter than white is white."""
    return cv2.convertScaleAbs(cv2.sqrt(light), alpha=255.0)


def random_blur(rng: np.random.Generator) -> BlurKind:
    """How a training photo that is to look like CCPD's is blurred."""
    return BlurKind(bool(rng.random() < MOVED_BLURS), rng.uniform(0, np.pi), bool(rng.random() < LINEAR_BLURS))


def blur(picture: np.ndarray, amount: float, kind: BlurKind) -> np.ndarray:
    """Defocus (Gaussian, ``amount`` its deviation in pixels) or camera shake of a comparable strength."""
    if amount < 0.3:
        return picture
    if kind.linear:
        return from_linear(blur(to_linear(picture), amount, kind._replace(linear=False)))
    if amount > 2 and min(picture.shape[:2]) > 1:  # half the picture, blurred half as far, looks the same for less
        half = cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        half = blur(half, amount / 2, kind)
        return cv2.resize(half, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    if kind.moved:
        return cv2.filter2D(picture, -1, motion_kernel(3.5 * amount, kind.angle))
    return cv2.GaussianBlur(picture, (0, 0), amount)


def blur_to(picture: np.ndarray, box: tuple[float, float, float, float], blurriness: float, largest: float,
            kind: BlurKind) -> np.ndarray:
    """Blur the picture until its part in ``box`` is no sharper than ``blurriness``, by ``largest`` (see ``blur``) at
    most; a picture that is blurred enough stays as it is."""
    x1, y1, x2, y2 = (round(value) for value in box)
    margin = 16
    left, top = max(0, x1 - margin), max(0, y1 - margin)
    part = np.ascontiguousarray(picture[top:y2 + margin, left:x2 + margin])
    inner = slice(max(0, y1) - top, y2 - top), slice(max(0, x1) - left, x2 - left)
    if sharpness(part[inner]) <= blurriness:
        return picture
    low, high = 0.0, largest
    for _ in range(5):
        amount = (low + high) / 2
        if sharpness(blur(part, amount, kind)[inner]) > blurriness:
            low = amount
        else:
            high = amount
    return blur(picture, high, kind)


def sensor(picture: np.ndarray, rng: np.random.Generator, noise: float, sharpen: bool = True) -> np.ndarray:
    """What a cheap telephone makes of the light: noise of ``noise`` grey levels, and often few pixels, strongly
    compressed, enlarged and sharpened, which leaves the painted look of many CCPD photos.
    """
    height, width = picture.shape[:2]
    few = rng.random() < 0.55
    if few:
        factor = rng.uniform(0.5, 0.95)
        picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    if noise > 0.5:
        grey = np.ascontiguousarray(grain(picture.shape[0], picture.shape[1], rng) * np.float32(noise))
        tint = rng.uniform(0.6, 1.1, 2)
        picture = cv2.add(picture, cv2.merge((grey * np.float32(tint[0]), grey, grey * np.float32(tint[1]))),
                          dtype=cv2.CV_8U)
    if few:
        picture = coded(picture, int(rng.integers(22, 80)))
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_CUBIC)
    if sharpen and rng.random() < 0.5:
        soft = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.8, 1.8))
        amount = rng.uniform(0.3, 1.5)
        picture = cv2.addWeighted(picture, 1 + amount, soft, -amount, 0)
    return picture
