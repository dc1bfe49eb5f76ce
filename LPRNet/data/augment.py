"""What a camera and a detector do to a plate: the geometry and the light of training crops.

Corner arrays are float (4, 2) in CCPD's order: right-bottom, left-bottom, left-top, right-top. Crops are BGR uint8
(24, 94, 3). Every function draws from the generator it is given and from nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from ccpd import camera
from ccpd.geometry import relative_corners, sample_pose
from ccpd.plate_kinds import KINDS
from ccpd.textures import pick, pick_by_share
from ccpd.tones import BLUE_TONE, in_light_of, is_blue, light_on_dark
from LPRNet.model.STN import STRAIGHT_CORNERS
from LPRNet.rows import ROWS, Row
from platekit.corners import bounding_box, box_corners
from platekit.crops import CROP_SIZE
from platekit.opencv import cv2

HEIGHT, WIDTH = CROP_SIZE
POSES = {"ccpd_base": 0.10, "ccpd_blur": 0.12, "ccpd_db": 0.13, "ccpd_fn": 0.15, "ccpd_rotate": 0.25, "ccpd_tilt": 0.25}
NEARLY_STRAIGHT = 0.5  # share of samples that show a plate as the first look's straightening leaves it
LIKE_CCPD = 0.5  # share of samples as bright and as blurred as the published figures of a plate of CCPD say
IN_CROP = 0.19  # blurriness of a plate's crop over its photo's: median of 68 real plates with a photo's below 50
# Subsets by which brightness and blurriness are drawn.
LIGHTS = {"ccpd_base": 0.10, "ccpd_blur": 0.35, "ccpd_db": 0.15, "ccpd_fn": 0.20, "ccpd_rotate": 0.10,
          "ccpd_tilt": 0.10}
GREY = 0.12  # share of all samples that are grey, as infrared cameras see plates, and as doubtful ones are read too
CASTS = 0.1  # share of the other samples under light of another colour
MUD = 0.3  # share of the weather on a plate that is mud
LEFT_CUT, RIGHT_CUT = 0.12, 0.12  # shares of boxes that cut into the first and into the last symbol
STRAIGHT_SIZE = (70, 220)  # height and width of a straightened plate: two millimetres a pixel
# Where a plate of seven symbols can be cut between two of them, in those pixels, and how often each cut is taken: most
# behind the second, since the gap is wide there and nothing else says what stands on its left.
CUTS = tuple((a + width + b) / 4 for (a, width), (b, _) in pairwise(KINDS["blue"].cells))
CUT_SHARES = (0.08, 0.60, 0.08, 0.08, 0.08, 0.08)
SUPERSAMPLING = 2  # warps are drawn this much larger and averaged down, so that fine strokes do not alias


def picture_corners(height: int, width: int) -> np.ndarray:
    """The corners (4, 2) of a whole picture."""
    return box_corners((0, 0, width, height)).astype(np.float32)


def jitter_box(box: Sequence[float] | np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The box as a detector finds it: every edge off by some percent of the side; mostly a little, at times much."""
    x1, y1, x2, y2 = box
    spread = 0.025 if rng.random() < 0.7 else 0.06
    dx = np.clip(rng.normal(0, spread, 2), -0.10, 0.10) * (x2 - x1)
    dy = np.clip(rng.normal(0, spread * 1.3, 2), -0.13, 0.13) * (y2 - y1)
    if rng.random() < LEFT_CUT:
        dx[0] = rng.uniform(0.02, 0.10) * (x2 - x1)
    if rng.random() < RIGHT_CUT:
        dx[1] = rng.uniform(-0.12, -0.02) * (x2 - x1)
    return np.array([x1 + dx[0], y1 + dy[0], x2 + dx[1], y2 + dy[1]])


def warp(picture: np.ndarray, source: np.ndarray, target: np.ndarray, background: np.ndarray | None = None,
         mask: np.ndarray | None = None) -> np.ndarray:
    """Move corners ``source`` of the picture to ``target`` in a crop (24, 94).

    Round the picture its border is repeated, or a ``background`` crop shows where one is given, there and where the
    picture's ``mask``, float32 (H, W), is below a half. A large picture is first made smaller by a power of two, as
    ``sample_boxes`` does.
    """
    size = (WIDTH * SUPERSAMPLING, HEIGHT * SUPERSAMPLING)
    step = np.sqrt(cv2.contourArea(source.astype(np.float32)) / max(1.0, cv2.contourArea(target.astype(np.float32))))
    if step >= 2 * SUPERSAMPLING:
        factor = 2 ** int(np.log2(step / SUPERSAMPLING))
        height, width = picture.shape[:2]
        picture = cv2.resize(picture, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA)
        source = source * (picture.shape[1] / width, picture.shape[0] / height)
    # Corners are edges of pixels; OpenCV counts from their centres.
    matrix = cv2.getPerspectiveTransform((source - 0.5).astype(np.float32),
                                         (target * SUPERSAMPLING - 0.5).astype(np.float32))
    large = cv2.warpPerspective(picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if background is not None:
        height, width = picture.shape[:2]
        mask = np.ones((height, width), np.float32) if mask is None else cv2.resize(mask, (width, height))
        inside = cv2.warpPerspective(mask, matrix, size, flags=cv2.INTER_NEAREST) > 0.5
        large = cv2.copyTo(large, inside.astype(np.uint8), cv2.resize(background, size, interpolation=cv2.INTER_LINEAR))
    return cv2.resize(large, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def nearly_straight_pose(rng: np.random.Generator, error: float = 1.0) -> np.ndarray:
    """Corners (4, 2), in crop pixels, of a plate that the spatial transformer has straightened, but for its errors."""
    spread = error * rng.choice([0.5, 1.0, 2.0], p=[0.4, 0.4, 0.2])
    transform = np.eye(2) + rng.normal(0, spread, (2, 2)) * ((0.05, 0.06), (0.15, 0.12))
    shift = rng.normal(0, spread, 2) * (0.04, 0.10)
    return to_pixels(np.array(STRAIGHT_CORNERS) @ transform.T + shift + rng.normal(0, 0.02, (4, 2)))


def straight_pose() -> np.ndarray:
    """Corners (4, 2), in crop pixels, of a plate that is straight."""
    return to_pixels(np.array(STRAIGHT_CORNERS))


def to_pixels(points: np.ndarray) -> np.ndarray:
    """Points (N, 2) in -1..1 over the crop in its pixels."""
    return ((points + 1) / 2 * (WIDTH, HEIGHT)).astype(np.float32)


def in_crop(corners: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Corners (4, 2) in the pixels of the crop (24, 94) that is cut out of ``box`` (4,)."""
    return (corners - box[:2]) / (box[2:] - box[:2]) * (WIDTH, HEIGHT)


def rows_side_by_side(pose: np.ndarray, show: Callable[[np.ndarray], np.ndarray], rows: Sequence[Row] = ROWS
                      ) -> np.ndarray:
    """A plate of two rows as LPRNet reads it: both rows side by side.

    ``pose``: the plate's corners (4, 2), in crop pixels, after straightening. ``show(corners)`` gives the crop (24, 94)
    with the plate at any corners.
    """
    straight = pose / (WIDTH, HEIGHT) * 2 - 1
    crops = [show(to_pixels(row.place(straight))) for row in rows]
    return np.hstack([cv2.resize(crop, (row.columns, HEIGHT), interpolation=cv2.INTER_AREA)
                      for crop, row in zip(crops, rows)])


def random_pose(rng: np.random.Generator) -> np.ndarray:
    """Corners (4, 2) of a plate, in crop pixels, as in a detector's crop or as a later look leaves them."""
    if rng.random() < NEARLY_STRAIGHT:
        return nearly_straight_pose(rng)
    corners = relative_corners(pick_by_share(rng, POSES), rng)
    return in_crop(corners, jitter_box((0.0, 0.0, 1.0, 1.0), rng))


def view_with_corners(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator
                      ) -> tuple[np.ndarray, np.ndarray]:
    """A crop of a photo with known plate corners, as photographed or turned to another pose; and its corners."""
    target = in_crop(corners, jitter_box(bounding_box(corners), rng)) if rng.random() < 0.3 else random_pose(rng)
    return warp(picture, corners, target), target


def view_without_corners(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A crop of a crop whose corners are unknown: corners moved a little, half of them sheared too."""
    height, width = picture.shape[:2]
    whole = picture_corners(height, width)
    target = whole / (width, height) * (WIDTH, HEIGHT)
    target += rng.uniform(-1, 1, (4, 2)) * (0.05 * WIDTH, 0.08 * HEIGHT)
    if rng.random() < 0.5:
        target = turn(target, rng.uniform(-0.3, 0.3), rng.uniform(-0.25, 0.25), rng)
    return warp(picture, whole, target)


def turn(corners: np.ndarray, rise: float, lean: float, rng: np.random.Generator) -> np.ndarray:
    """Shear corners in the crop so that the plate rises to the right by ``rise`` of the crop's height and leans by
    twice ``lean`` of it, then fit the jittered box round it to the crop again."""
    centre = corners.mean(axis=0)
    x, y = (corners - centre).T
    moved = np.stack([x + 2 * lean * y, y + rise * x * (HEIGHT / WIDTH)], axis=1)
    box = bounding_box(moved)
    return in_crop(moved, jitter_box(box, rng) if rng.random() < 0.8 else box)


def plate_alone(picture: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The plate at ``corners`` (4, 2) of a picture, filling the crop."""
    return warp(picture, corners, picture_corners(HEIGHT, WIDTH))


def shows_blue(picture: np.ndarray, corners: np.ndarray) -> bool:
    """Whether the plate at ``corners`` of a picture is a blue one."""
    return is_blue(plate_alone(picture, corners))


def match_light(plate: np.ndarray, picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The drawn plate in the light, give or take a fifth, of the blue plate at ``corners`` of a real picture."""
    gain = np.clip(plate_alone(picture, corners).mean() / BLUE_TONE, 0.3, 1.6) * rng.uniform(0.8, 1.2)
    return np.clip(plate * gain, 0, 255).astype(np.uint8)


def exchange(picture: np.ndarray, corners: np.ndarray, other: np.ndarray, other_corners: np.ndarray, cut: int
             ) -> np.ndarray | None:
    """The picture, in which all symbols of its plate but the first ``cut`` are another picture's.

    They come in this plate's colours: with the mean and the spread of each channel. Corners are those of the plates.
    None where the symbols of one are light on dark, those of the other dark on light; and where the plate lies outside
    the picture.
    """
    whole = picture_corners(*STRAIGHT_SIZE) - 0.5
    plates = []
    for source, place in ((picture, corners), (other, other_corners)):
        matrix = cv2.getPerspectiveTransform((place - 0.5).astype(np.float32), whole)
        plates.append(cv2.warpPerspective(source, matrix, STRAIGHT_SIZE[::-1], borderMode=cv2.BORDER_REPLICATE))
    (mean, spread), (other_mean, other_spread) = (cv2.meanStdDev(plate) for plate in plates)
    if light_on_dark(plates[0]) != light_on_dark(plates[1]):
        return None
    gain = np.clip(spread / np.maximum(other_spread, 1), 0.3, 2)[:, 0]
    table = np.clip((np.arange(256)[:, None] - other_mean[:, 0]) * gain + mean[:, 0], 0, 255).astype(np.uint8)
    plate = cv2.LUT(plates[1], table[:, None])
    share = np.clip((np.arange(STRAIGHT_SIZE[1]) + 0.5 - CUTS[cut - 1]) / 4 + 0.5, 0, 1)  # the seam is four pixels wide
    left, top = np.maximum(corners.min(axis=0), 0).astype(int)
    right, bottom = np.maximum(np.ceil(corners.max(axis=0)), 0).astype(int)
    result = picture.copy()
    region = result[top:bottom, left:right]
    if not region.size:
        return None
    matrix = cv2.getPerspectiveTransform(whole, (corners - (left, top) - 0.5).astype(np.float32))
    moved, weight = (cv2.warpPerspective(part, matrix, region.shape[1::-1])
                     for part in (plate, np.tile(share.astype(np.float32), (STRAIGHT_SIZE[0], 1))))
    region[:] = cv2.blendLinear(moved, region, weight, 1 - weight)
    return result


def random_background(pictures: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A crop (24, 94, 3) without a readable plate: a flat colour with a gradient, or a blurred piece of a picture."""
    if len(pictures) and rng.random() < 0.6:
        picture = pick(rng, pictures)
        height, width = picture.shape[:2]
        x, y = rng.integers(max(1, width // 2)), rng.integers(max(1, height // 2))
        piece = cv2.resize(picture[y:y + max(4, height // 3), x:x + max(4, width // 3)], (WIDTH, HEIGHT))
        return cv2.GaussianBlur(piece, (0, 0), rng.uniform(0.8, 4.0))
    colour = rng.normal(rng.uniform(10, 230), 14, 3)
    ramp = np.linspace(-1, 1, WIDTH)[None, :, None] * rng.normal(0, 20) \
        + np.linspace(-1, 1, HEIGHT)[:, None, None] * rng.normal(0, 25)
    background = np.clip(colour + ramp, 0, 255).astype(np.uint8)
    for _ in range(rng.integers(0, 4)):
        y = int(rng.integers(HEIGHT))
        shade = rng.integers(0, 255, 3).tolist()
        cv2.line(background, (0, y), (WIDTH, y + int(rng.integers(-8, 9))), shade, int(rng.integers(1, 5)))
    return background


def degrade(crop: np.ndarray, rng: np.random.Generator, tone: float = 1.0, grey: float = GREY) -> np.ndarray:
    """Light, lens, weather, sensor and JPEG: any, or those of CCPD's photos; a share ``grey`` without colours. ``tone``
    as by ccpd.tones.tone_of."""
    crop = look_like_ccpd(crop, rng, tone) if rng.random() < LIKE_CCPD else look_anyhow(crop, rng)
    return cv2.cvtColor(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR) if rng.random() < grey else crop


def look_like_ccpd(crop: np.ndarray, rng: np.random.Generator, tone: float = 1.0) -> np.ndarray:
    """The crop as bright and at least as blurred as some plate of CCPD was measured to be, which are blue."""
    pose = sample_pose(pick_by_share(rng, LIGHTS), rng)
    image = crop.astype(np.float32)
    if rng.random() < 0.25:
        image = light_gradient(image, rng)
    if rng.random() < 0.12:
        image = precipitation(image, rng)
    brightness = in_light_of(pose.brightness, tone)
    image *= np.clip(brightness / max(4.0, image.mean()), 0.08, 3.0) * rng.uniform(0.88, 1.12, 3)
    # noise and JPEG raise the figure in CCPD's own photos: what lies below them is softer than it says
    image = camera.blur_to(np.clip(image, 0, 255).astype(np.uint8), (0, 0, WIDTH, HEIGHT),
                           IN_CROP * pose.blurriness * rng.uniform(0.5, 1), 0.08 * WIDTH, camera.random_blur(rng))
    image = record(image.astype(np.float32), rng, 10 if pose.blurriness > 10 else 3)
    width = round(pose.box[2] - pose.box[0])
    # the blocks of larger plates hardly show in a crop, and in the dark nothing would be left
    return coded_in_photo(image, width, rng) if width < 240 and image.std() > 12 and rng.random() < 0.75 else image


def coded_in_photo(crop: np.ndarray, width: int, rng: np.random.Generator) -> np.ndarray:
    """The crop as the JPEG of CCPD's photos leaves a plate that is ``width`` pixels wide there."""
    photo = cv2.resize(crop, (width, round(width / rng.uniform(2, 4))), interpolation=cv2.INTER_CUBIC)
    left, top = rng.integers(16, size=2)  # where the blocks begin
    coded = camera.coded(cv2.copyMakeBorder(photo, top, 16, left, 16, cv2.BORDER_REPLICATE), camera.CCPD_QUALITY)
    height, width = photo.shape[:2]
    return cv2.resize(coded[top:top + height, left:left + width], (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)


def record(image: np.ndarray, rng: np.random.Generator, noise: float) -> np.ndarray:
    """What the sensor, with up to ``noise`` grey levels of it, and JPEG leave of a float crop: uint8."""
    if rng.random() < 0.5:
        image = image + rng.standard_normal(image.shape, dtype=np.float32) * (rng.uniform(0.1, 1) * noise)
    image = np.clip(image, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        image = camera.coded(image, int(rng.integers(25, 80)))
    return image


def look_anyhow(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The crop in any light, weather and blur.

    A severity is drawn first, so that crops with one flaw are common and those with all of them are rare.
    """
    severity = rng.random()
    image = crop.astype(np.float32)
    if rng.random() < 0.6 * severity:
        image = light_gradient(image, rng)
    if rng.random() < 0.22 * severity:
        image = precipitation(image, rng)
    if rng.random() < 0.2 * severity:
        veil = rng.uniform(0.15, 0.65)
        image = image * (1 - veil) + veil * rng.uniform(120, 240)
    if rng.random() < 0.2 + 0.6 * severity:
        image = lower_resolution(image, rng)
    if rng.random() < 0.8 * severity:
        image = blur(image, rng)
    gamma = np.exp(rng.uniform(-0.5, 0.5))
    gain = np.exp(rng.uniform(-1.3 * severity, 0.25)) * rng.uniform(0.85, 1.15, 3)
    if rng.random() < CASTS:
        gain *= np.exp(rng.normal(0, 0.25, 3))
    image = 255 * (np.clip(image, 0, 255) / 255) ** gamma * gain + rng.uniform(-10, 30)
    return record(image, rng, 14 * min(1.0, gain.mean() + 0.2))


def light_gradient(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A soft ramp of light, the edge or the streak of a shadow, or a round reflection."""
    kind = rng.integers(3)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    if kind == 0:
        along = (x / WIDTH - rng.random()) * np.cos(angle) + (y / HEIGHT - rng.random()) * np.sin(angle)
        return image * (1 + along * rng.uniform(-0.8, 0.8))[..., None].astype(np.float32)
    if kind == 1:
        width = np.exp(rng.uniform(-0.5, 2))  # of the edge, in crop pixels
        across = (x - rng.uniform(0, WIDTH)) * np.cos(angle) + (y - rng.uniform(0, HEIGHT)) * np.sin(angle)
        shadow = np.clip(across / width, 0, 1)
        if rng.random() < 0.4:
            shadow -= np.clip((across - rng.uniform(0.1, 2) * HEIGHT) / width, 0, 1)
        return image * (1 - shadow * rng.uniform(0.2, 0.85))[..., None].astype(np.float32)
    distance = ((x - rng.uniform(0, WIDTH)) / rng.uniform(8, 40)) ** 2 + ((y - rng.uniform(0, HEIGHT)) / 12) ** 2
    return image + (rng.uniform(30, 150) * np.exp(-distance))[..., None].astype(np.float32)


def precipitation(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Snow flakes, rain streaks or spots of mud over the plate."""
    layer = np.zeros((HEIGHT, WIDTH), np.uint8)
    mud = rng.random() < MUD
    streak = 0 if mud or rng.random() < 0.5 else rng.integers(0, 7)
    for _ in range(rng.integers(3, 16)):
        x, y = int(rng.integers(WIDTH)), int(rng.integers(HEIGHT))
        end = (x + int(rng.integers(-2, 3)) if streak else x, y + int(streak))
        cv2.line(layer, (x, y), end, 255, 1 if streak else int(rng.integers(1, 7 if mud else 4)))
    cover = cv2.GaussianBlur(layer, (0, 0), 0.6).astype(np.float32)[..., None] / 255 * rng.uniform(0.4, 1.0)
    return image * (1 - cover) + cover * (rng.uniform(20, 130) if mud else rng.uniform(170, 255))


def lower_resolution(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As if the plate had fewer pixels in the photo."""
    scale = rng.uniform(0.3, 1.0)
    small = (max(8, round(WIDTH * scale)), max(6, round(HEIGHT * np.clip(scale * rng.uniform(0.8, 1.6), 0.3, 1))))
    return cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), (WIDTH, HEIGHT),
                      interpolation=cv2.INTER_LINEAR)


def blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Out of focus, or moved while exposed; in crop pixels."""
    if rng.random() < camera.LINEAR_BLURS:
        return camera.from_linear(_blur_numbers(camera.to_linear(np.clip(image, 0, 255).astype(np.uint8)), rng))
    return _blur_numbers(image, rng)


def _blur_numbers(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2.2), sigmaY=rng.uniform(0.3, 1.5))
    length, angle = rng.uniform(1, 10), rng.uniform(0, np.pi)
    across, down = length * np.cos(angle), length / 2 * np.sin(angle)
    kernel = camera.motion_kernel(np.hypot(across, down), np.arctan2(down, across))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)
