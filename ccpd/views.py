"""Views: whole photos seen anew, so that a few hundred frontal daylight photos teach tilt, blur, night and snow.

A view warps the entire photo so that the plate's corners go where the corners of some plate of CCPD lie
(ccpd.geometry), then changes its light, sharpness and noise, mostly until the plate is as bright and as blurred as that
plate of CCPD is. Plate, car and surroundings stay one picture. Where only the box of a plate is known its corners
cannot be carried along, and the warp stays mild.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ccpd import camera
from ccpd.dataset import PHOTO_SIZE
from ccpd.geometry import Pose, sample_pose
from ccpd.textures import pick_by_share
from ccpd.tones import in_light_of, tone_of_box
from platekit.corners import bounding_box, box_corners
from platekit.opencv import cv2

# Subsets whose poses the views take, and their shares.
POSES: dict[str, float] = {"ccpd_base": 0.12, "ccpd_blur": 0.22, "ccpd_db": 0.13, "ccpd_fn": 0.15,
                           "ccpd_rotate": 0.2, "ccpd_tilt": 0.18}
LIKE_CCPD = 0.65  # share of the views that look as the plate whose pose they take; the others look any way
LEAST_POSED = 4  # pixels of the shorter side of the plate's box, below which a pose is not taken
SMALLER = 0.8  # scale down to which samples alone will do; below it areas are averaged first
SHAKEN = 4.0  # half the plates of CCPD's blur subset are less sharp; half of their views are blurred further


@dataclass(frozen=True, eq=False)
class View:
    """A changed photo: BGR uint8 (H, W, 3), its plate's box (4,) or None, and the zones (K, 4) to leave alone."""

    image: np.ndarray
    box: np.ndarray | None
    ignore: np.ndarray
    matrix: np.ndarray = field(default_factory=lambda: np.eye(3))  # the homography (3, 3) from the photo to the view


def make_view(image: np.ndarray, box: np.ndarray | None, corners: np.ndarray | None, ignore: np.ndarray,
              rng: np.random.Generator, poses: Sequence[str] = tuple(POSES), tone: float = 1.0,
              ordinary: np.ndarray | None = None) -> View:
    """A random view of a photo, which keeps its size. ``ignore``: zones (K, 4) that hold no samples; ``tone`` as by
    ccpd.tones.tone_of; ``ordinary``: the corners (4, 2) that a plate of the usual size would have, of another one."""
    height, width = image.shape[:2]
    posed = None if corners is None else into_pose(corners if ordinary is None else ordinary, height, width, rng, poses)
    pose, matrix = posed or (None, mild_warp(box, height, width, rng))
    if corners is None and box is not None:
        corners = box_corners(box)
    new_box = None if corners is None else bounding_box(transform(corners, matrix))
    about = np.array([width, height]) / 2 if corners is None else corners.mean(axis=0)
    warped = _warp(image, matrix, about, rng)
    zones = np.array([bounding_box(transform(box_corners(zone), matrix)) for zone in ignore]).reshape(-1, 4)
    if new_box is not None and not _visible(new_box, height, width):
        warped, new_box, zones, matrix = image, box, ignore, np.eye(3)
    if new_box is not None and pose is not None and rng.random() < LIKE_CCPD:
        changed = look_like(warped, new_box, pose, rng, tone)
    else:
        changed = change_look(warped, rng)
    if new_box is not None and _contrast(changed, new_box) < 4 < _contrast(warped, new_box):
        changed = warped  # so dark or so bright that nothing is left to see
    return View(changed, new_box, zones, matrix)


def into_pose(corners: np.ndarray, height: int, width: int, rng: np.random.Generator, poses: Sequence[str]
              ) -> tuple[Pose, np.ndarray] | None:
    """A pose of one of the subsets ``poses``, and the homography (3, 3) that takes ``corners`` (4, 2) there.

    None where none was found that the picture allows, as in a small one.
    """
    shares = {subset: POSES[subset] for subset in poses}
    for _ in range(8):
        pose = sample_pose(pick_by_share(rng, shares), rng)
        target = placed(pose.corners, height, width)
        if np.ptp(target, axis=0).min() >= LEAST_POSED:
            matrix = warp_between(corners, target, height, width)
            if matrix is not None:
                return pose, matrix
    return None


def placed(corners: np.ndarray, height: int, width: int) -> np.ndarray:
    """A pose's corners (4, 2) in a picture of this size: at the same share of it, the plate's own shape unchanged."""
    sides = np.divide((width, height), PHOTO_SIZE)
    middle = corners.mean(axis=0)
    return middle * sides + (corners - middle) * sides.min()


def _warp(image: np.ndarray, matrix: np.ndarray, about: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture under a homography; what lies beyond its border repeats the border or is a blur of the picture.

    Never a mirror image: that of the plate would be a plate without a label. Where ``about`` (2,) gets much smaller,
    the picture is first reduced by means of areas, as a sensor would do: samples alone are too sharp.
    """
    height, width = image.shape[:2]
    near = transform(about + np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]), matrix)
    scale = np.sqrt(abs(np.linalg.det(near[1:] - near[0])))
    if scale < SMALLER:
        size = np.maximum(1, np.round(np.array([width, height]) * scale / SMALLER)).astype(int)
        image = cv2.resize(image, size.tolist(), interpolation=cv2.INTER_AREA)
        larger = np.divide((width, height), size)
        shift = larger / 2 - 0.5
        matrix = matrix @ np.array([(larger[0], 0, shift[0]), (0, larger[1], shift[1]), (0, 0, 1)])
    if rng.random() < 0.5:
        return cv2.warpPerspective(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    backdrop = cv2.resize(cv2.resize(image, (9, 14), interpolation=cv2.INTER_AREA), (width, height))
    return cv2.warpPerspective(image, matrix, (width, height), dst=backdrop, borderMode=cv2.BORDER_TRANSPARENT)


def _contrast(image: np.ndarray, box: np.ndarray) -> float:
    """Standard deviation of the grey levels in a box."""
    x1, y1, x2, y2 = np.clip(box.round().astype(int), 0, None)
    return float(image[y1:y2, x1:x2].std()) if x2 > x1 and y2 > y1 else 0.0


def _visible(box: np.ndarray, height: int, width: int) -> bool:
    """Whether most of the box lies inside the picture."""
    inside = np.minimum(box[2:], (width, height)) - np.maximum(box[:2], 0)
    return bool((inside > 0).all() and inside.prod() >= 0.85 * (box[2:] - box[:2]).prod())


def transform(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Points (N, 2) under a homography (3, 3)."""
    return cv2.perspectiveTransform(points[None].astype(np.float64), matrix)[0]


def warp_between(source: np.ndarray, target: np.ndarray, height: int, width: int) -> np.ndarray | None:
    """The homography (3, 3) that takes corners ``source`` (4, 2) to ``target``, or None when it is of no use.

    A plate's perspective, extended over the whole photo, can fold it over; then the closest affine map does, if it
    brings the corners within a tenth of the plate's size.
    """
    matrix = cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))
    frame = box_corners(np.array([0, 0, width, height]))
    if np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 1e-9:
        back = np.linalg.inv(matrix)
        depth = np.concatenate([frame, np.ones((4, 1))], axis=1) @ back[2]
        centre = np.append(target.mean(axis=0), 1) @ back[2]
        if (depth * np.sign(centre) > 0).all() and np.abs(depth).max() < 2.5 * np.abs(depth).min():
            return matrix
    affine, *_ = np.linalg.lstsq(np.concatenate([source, np.ones((4, 1))], axis=1), target, rcond=None)
    matrix = np.concatenate([affine.T, [[0, 0, 1]]])
    error = np.abs(transform(source, matrix) - target).max()
    size = np.ptp(target, axis=0).min()
    return matrix if error < 0.1 * size and np.linalg.det(matrix) > 1e-4 else None


def mild_warp(box: np.ndarray | None, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Scale and shift (3, 3) about the plate's centre, the plate staying in view; without a plate also up to three
    degrees of rotation.

    A plate is not rotated: where only its box is known, and it is tilted already, the rotated box would say too little.
    """
    centre = np.array([width, height]) / 2 if box is None else (box[:2] + box[2:]) / 2
    largest = 1.6 if box is None else min(1.8, 0.9 * min(width / (box[2] - box[0]), height / (box[3] - box[1])))
    scale = np.exp(rng.uniform(np.log(0.5), np.log(max(0.6, largest))))
    half = np.array([100.0, 50.0]) if box is None else (box[2:] - box[:2]) / 2 * scale * 1.1
    low = np.minimum(half, [width / 2, height / 2])
    target = rng.uniform(low, np.array([width, height]) - low)
    turn = cv2.getRotationMatrix2D((0, 0), 0.0 if box is not None else rng.uniform(-3, 3), scale)[:, :2]
    return np.concatenate([np.column_stack([turn, target - turn @ centre]), [[0, 0, 1]]])


# How the picture looks. Strengths follow what the subsets of CCPD show: db light, blur motion, weather snow and rain.

def change_look(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture with other light, colours, weather, sharpness and noise."""
    if rng.random() < 0.08:
        return image
    image = _light(image, rng)
    if rng.random() < 0.15:
        image = _weather(image, rng)
    if rng.random() < 0.2:
        image = _coarser(image, rng)
    if rng.random() < 0.45:
        image = _blur(image, rng)
    if rng.random() < 0.6:
        image = _noise(image, rng)
    if rng.random() < 0.4:
        image = camera.coded(image, int(rng.integers(15, 85)))
    return image


def look_like(image: np.ndarray, box: np.ndarray, pose: Pose, rng: np.random.Generator, tone: float = 1.0
              ) -> np.ndarray:
    """The picture, its plate in ``box`` (4,) as bright and at least as blurred as the pose's, the rest at random.

    The poses' figures are those of blue plates; ``tone`` as by ccpd.tones.tone_of.
    """
    shaken = pose.blurriness < SHAKEN and bool(rng.random() < 0.5)
    if shaken:  # before the light: in the dark a sharp plate has the figure of a blurred one
        image = camera.blur(image, rng.uniform(0.02, 0.07) * (box[2] - box[0]), camera.random_blur(rng))
    image = _light(image, rng)
    x1, y1, x2, y2 = np.clip(box.round().astype(int), 0, None)
    brightness = in_light_of(pose.brightness, tone_of_box(tone, pose.corners))
    image = camera.expose(image, np.clip(brightness / max(4.0, float(image[y1:y2, x1:x2].mean())), 0.08, 3.0))
    if rng.random() < 0.15:
        image = _weather(image, rng)
    kind = camera.random_blur(rng)
    # noise and JPEG raise the figure in CCPD's own photos: what lies below them is softer than it says
    sharp = pose.blurriness * rng.uniform(0.3, 1)
    image = camera.blur_to(image, tuple(box), sharp, 0.08 * (box[2] - box[0]), kind)
    if shaken or rng.random() < 0.6:
        image = _noise(image, rng, 14 if pose.blurriness > 10 else 6 if shaken else 3)
    quality = camera.CCPD_QUALITY if rng.random() < 0.75 else int(rng.integers(15, 85))
    return camera.coded(image, quality)


def _light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma, gain, offset and colour cast through a table; sometimes a gradient or a bright spot."""
    gamma = np.exp(rng.normal(0, 0.25))
    gain = np.exp(rng.normal(0, 0.3)) * (rng.uniform(0.15, 0.6) if rng.random() < 0.15 else 1)
    cast = np.exp(rng.normal(0, 0.06, 3))
    levels = (np.arange(256) / 255.0)[:, None] ** gamma * gain * cast + rng.normal(0, 0.04)
    table = np.clip(levels * 255, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table[:, None, :])
    if rng.random() < 0.3:
        camera.gain_field(image, _soft_field(rng))
    return image


def _soft_field(rng: np.random.Generator) -> np.ndarray:
    """A coarse float32 grid of gains about 1: a slope across the picture, or a spot."""
    y, x = np.mgrid[-1:1:24j, -1:1:16j]
    if rng.random() < 0.6:
        angle = rng.uniform(0, 2 * np.pi)
        field = 1 + rng.uniform(0.2, 0.8) * (np.cos(angle) * x + np.sin(angle) * y)
    else:
        cx, cy, radius = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.2, 0.7)
        field = 1 + rng.uniform(0.5, 3) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / radius ** 2)
    return np.clip(field, 0.1, 4).astype(np.float32)


def _weather(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Haze, then snow flakes or streaks of rain."""
    haze = rng.uniform(0, 0.5)
    image = cv2.addWeighted(image, 1 - haze, np.full_like(image, int(rng.uniform(120, 230))), haze, 0)
    height, width = image.shape[:2]
    layer = np.zeros((height, width), np.uint8)
    slant = rng.normal(0, 0.3)
    snow = rng.random() < 0.5
    for _ in range(int(rng.integers(60, 600))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        if snow:
            cv2.circle(layer, (x, y), int(rng.integers(1, 5)), int(rng.integers(120, 255)), -1)
        else:
            length = int(rng.integers(8, 40))
            cv2.line(layer, (x, y), (int(x + slant * length), y + length), int(rng.integers(60, 180)), 1)
    layer = cv2.blur(layer, (3, 3))
    return cv2.add(image, cv2.merge([layer, layer, layer]))


def _coarser(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fewer pixels and back."""
    height, width = image.shape[:2]
    factor = rng.uniform(0.25, 0.7)
    small = cv2.resize(image, (max(1, int(width * factor)), max(1, int(height * factor))), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC]).item())


def _blur(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Focus blur, or motion blur of up to 36 pixels."""
    if rng.random() < camera.LINEAR_BLURS:
        return camera.from_linear(_blur_numbers(camera.to_linear(image), rng))
    return _blur_numbers(image, rng)


def _blur_numbers(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.35:
        return cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 6))
    length, angle = np.exp(rng.uniform(np.log(4), np.log(36))), rng.uniform(0, np.pi)
    height, width = image.shape[:2]
    shrink = 1 if length < 10 else 2 if length < 20 else 3  # a wide kernel is dear, and hides the loss of pixels
    if shrink > 1:
        image = cv2.resize(image, (width // shrink or 1, height // shrink or 1), interpolation=cv2.INTER_AREA)
    image = cv2.filter2D(image, -1, camera.motion_kernel(length / shrink, angle))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR) if shrink > 1 else image


@functools.cache
def _grain() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 32, (1 << 21,)).clip(-127, 127).astype(np.int8)


def _noise(image: np.ndarray, rng: np.random.Generator, levels: float = 14) -> np.ndarray:
    """Grey or coloured grain of up to ``levels``, out of a fixed table: drawing millions of normals costs too much."""
    height, width = image.shape[:2]
    channels = 3 if rng.random() < 0.6 else 1
    start = int(rng.integers(1 << 20))
    grain = np.resize(_grain()[start:], height * width * channels).reshape(height, width, channels)
    if channels == 1:
        grain = cv2.merge([grain, grain, grain])
    return cv2.addWeighted(image, 1, grain, rng.uniform(1, levels) / 32, 0, dtype=cv2.CV_8U)
