"""Change photos with CCPD names as other cameras, light and places would, to test the weights on them.

    python ccpd/vary.py --data DIR/ccpd_base --out varied
    python ccpd/evaluate.py --data varied --out varied_evaluation

Every change has a folder of its own, whose photos keep their annotation; where the plate moves, it moves along. The
same seed makes the same photos. They are made to test on, not to train on.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from tqdm import tqdm

from ccpd import camera
from ccpd.annotation import Annotation, has_annotation, parse
from ccpd.views import POSES, make_view
from platekit.arguments import HelpFormatter, ListOf, add_seed, command_line
from platekit.boxes import check_inside
from platekit.corners import bounding_box, repeat_box
from platekit.errors import UserError, run_script
from platekit.files import write_text
from platekit.images import read_image, write_image
from platekit.inputs import is_same_folder, walk_images
from platekit.opencv import cv2

# A change gets a picture, its plate's corners (4, 2), which it may draw by, and a generator; it returns the new picture
# and, where it moved things, the matrix (3, 3) that moves points along.
Changed = tuple[np.ndarray, "np.ndarray | None"]
Change = Callable[[np.ndarray, np.ndarray, np.random.Generator], Changed]


def by_pixel(function: Callable[[np.ndarray], np.ndarray]) -> Change:
    """A change of the colours alone."""
    return lambda picture, corners, rng: (np.clip(function(picture.astype(np.float32)), 0, 255).astype(np.uint8), None)


def grey(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> Changed:
    """As an infrared camera sees at night, which has no colours."""
    return cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), None


def noise(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> Changed:
    """Noise of 30 grey levels in every channel."""
    return cv2.add(picture, rng.normal(0, 30, picture.shape), dtype=cv2.CV_8U), None


def jpeg(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> Changed:
    """JPEG of quality 12."""
    return camera.coded(picture, 12), None


def small(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> Changed:
    """A third of the pixels in either direction."""
    reduced = cv2.resize(picture, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA)
    factors = np.array(reduced.shape[1::-1]) / picture.shape[1::-1]
    return reduced, np.column_stack([np.diag([*factors, 1.0])[:, :2], [*(factors / 2 - 0.5), 1.0]])


def shadow(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> Changed:
    """The edge of a deep shadow across the plate: on one side of it three tenths of the light are left."""
    return shade(picture, distance(picture, corners, rng)), None


def streak(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> Changed:
    """The shadow of a pole across the plate, a fifth of the plate wide."""
    return shade(picture, np.ptp(corners[:, 0]) / 10 - np.abs(distance(picture, corners, rng))), None


def shade(picture: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """The picture with a shadow of 0.3 of the light where ``depth`` (H, W), in pixels into it, is positive."""
    shaded = picture.copy()
    camera.gain_field(shaded, 1 - 0.7 * np.clip(depth / 3 + 0.5, 0, 1))
    return shaded


def distance(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Distances (H, W) of the pixels from a line of any direction through the middle part of the plate."""
    x0, y0 = corners.mean(axis=0) + rng.uniform(-0.3, 0.3, 2) * np.ptp(corners, axis=0)
    y, x = np.mgrid[:picture.shape[0], :picture.shape[1]].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    return (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)


def reflection(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> Changed:
    """A bright spot on the plate, a third of it wide, through which a third of the contrast is left."""
    x0, y0 = corners.mean(axis=0) + rng.uniform(-0.4, 0.4, 2) * np.ptp(corners, axis=0)
    y, x = np.mgrid[:picture.shape[0], :picture.shape[1]].astype(np.float32)
    radius = np.ptp(corners[:, 0]) / 6
    spot = (0.67 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * radius**2))).astype(np.float32)
    return cv2.blendLinear(picture, np.full_like(picture, 250), 1 - spot, spot), None


def pale(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> Changed:
    """The plate alone overexposed, as it throws a lamp's light back: a third of its contrast is left."""
    plate = np.zeros(picture.shape[:2], np.float32)
    cv2.fillConvexPoly(plate, corners.round().astype(np.int32), 0.67)
    plate = cv2.GaussianBlur(plate, (0, 0), 1.5)
    return cv2.blendLinear(picture, np.full_like(picture, 235), 1 - plate, plate), None


def night(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> Changed:
    """At night: the scene dark, the plate lit by the headlamps of the car behind, among lamps, with noise."""
    dark = picture.copy()
    camera.nightfall(dark, corners, rng)
    return cv2.add(dark, rng.normal(0, 8, picture.shape), dtype=cv2.CV_8U), None


def turned(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> Changed:
    """By 20 degrees about the plate."""
    turn = cv2.getRotationMatrix2D(tuple(corners.mean(axis=0)), float(rng.choice((-20, 20))), 1.0)
    return warp(picture, np.vstack([turn, (0, 0, 1)]))


def aslant(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> Changed:
    """From the side: four fifths as wide, and one end up to a third higher than the other."""
    x0, y0 = corners.mean(axis=0)
    centre = np.array([(1, 0, -x0), (0, 1, -y0), (0, 0, 1)])
    tilt = np.diag([0.8, 1.0, 1.0])
    # no more than keeps all of the photo this side of the horizon, where the plate is small or near an edge
    tilt[2, 0] = rng.choice((-1, 1)) * min(0.3 / np.ptp(corners[:, 0]), 0.9 / max(x0, picture.shape[1] - x0))
    return warp(picture, np.linalg.inv(centre) @ tilt @ centre)


def warp(picture: np.ndarray, matrix: np.ndarray) -> Changed:
    """The picture under a homography; beyond its border the border goes on."""
    return cv2.warpPerspective(picture, matrix, picture.shape[1::-1], borderMode=cv2.BORDER_REPLICATE), matrix


def like(subset: str) -> Change:
    """As if it were a photo of this subset of CCPD: a view such as the detector learns from, of the whole photo."""
    def change(picture: np.ndarray, corners: np.ndarray, rng: np.random.Generator) -> Changed:
        box = bounding_box(corners)
        view = make_view(picture, box, None if repeat_box(corners, box) else corners, np.zeros((0, 4)), rng, [subset])
        return view.image, view.matrix
    return change


CHANGES: dict[str, Change] = {
    "same": by_pixel(lambda pixels: pixels),
    "grey": grey,
    "noise": noise,
    "jpeg": jpeg,
    "small": small,
    "dark": by_pixel(lambda pixels: pixels / 4),
    "bright": by_pixel(lambda pixels: pixels * 2),
    "warm": by_pixel(lambda pixels: pixels * np.array((0.6, 0.9, 1.2), np.float32)),
    "flat": by_pixel(lambda pixels: 90 + 0.3 * pixels),
    "shadow": shadow,
    "streak": streak,
    "reflection": reflection,
    "pale": pale,
    "night": night,
    "turned": turned,
    "aslant": aslant,
    **{f"like_{subset.removeprefix('ccpd_')}": like(subset) for subset in POSES},
}


MOVING = {"turned", "aslant"}  # changes after which the box follows from the plate's corners


def moved(annotation: Annotation, matrix: np.ndarray, height: int, width: int) -> Annotation:
    """The annotation with its corners moved, as far as they stay in the picture, and the box about them."""
    corners = cv2.perspectiveTransform(np.array([annotation.vertices], np.float64), matrix)[0].round().astype(int)
    corners = np.clip(corners, 0, (width - 1, height - 1))
    box = (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())
    return dataclasses.replace(annotation, box=box, vertices=tuple((x, y) for x, y in corners.tolist()))


def change_photo(picture: np.ndarray, annotation: Annotation, name: str, seed: int) -> tuple[np.ndarray, Annotation]:
    """A photo and its annotation after the change ``name``."""
    rng = np.random.default_rng([seed, zlib.crc32(f"{name}/{annotation.file_name()}".encode())])
    picture, matrix = CHANGES[name](picture, np.array(annotation.vertices, np.float64), rng)
    return picture, annotation if matrix is None else moved(annotation, matrix, *picture.shape[:2])


def photo_to_change(path: Path) -> tuple[np.ndarray, Annotation]:
    """A photo and its annotation.

    Raises UserError where it cannot be read, or does not hold what its name says.
    """
    annotation, picture = parse(path), read_image(path)
    check_inside(path, np.array([annotation.box]), *picture.shape[:2])
    return picture, annotation


def keep_seed(out: Path, seed: int) -> None:
    """Note in the folder what seed its photos are of. Raises UserError where it holds those of another."""
    note = out / "seed"
    if note.is_file() and note.read_text("utf-8") != str(seed):
        raise UserError(f"{out} holds photos of another seed; name another --out, or delete it")
    write_text(note, str(seed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", nargs="+", action=ListOf, type=Path, required=True, metavar="DIR",
                        help="folders of photos")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where a folder a change goes")
    parser.add_argument("--changes", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="NAME",
                        help="what is changed (default: everything)")
    add_seed(parser, "of all that is random")
    args = parser.parse_args()
    folders = [folder for folder in args.data if not is_same_folder(folder, args.out)]
    if not folders:
        raise UserError(f"--out {args.out} is the folder of the photos; name another, which may lie in it")
    photos = [path for folder in folders for path in walk_images(folder, args.out)]
    annotated = [path for path in photos if has_annotation(path)]
    if not annotated:
        raise UserError(f"no photo in {', '.join(map(str, args.data))} has a CCPD name; name other folders")
    keep_seed(args.out, args.seed)
    written, done, bare = 0, set(), 0
    for path in tqdm(annotated, unit="photo", leave=False, disable=None):
        try:
            picture, annotation = photo_to_change(path)
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        bare += annotation.without_pose
        for change in args.changes:
            if annotation.without_pose and change in MOVING:
                continue
            changed, new_annotation = change_photo(picture, annotation, change, args.seed)
            target = args.out / f"ccpd_{change}" / new_annotation.file_name()
            while target in done:  # one photo in two subsets, or two of one plate and place
                target = target.parent / "again" / target.name
            done.add(target)
            write_image(target, changed, quality=95)
        written += 1
    if not done:
        raise UserError("no photo could be changed so; name others, or other --changes")
    if bare and MOVING & set(args.changes):
        print(f"{bare} photos tell no corners, only the box, which is not known after {' and '.join(sorted(MOVING))}")
    others = {path for path in walk_images(args.out) if path.parent.name.startswith("ccpd_")} - done
    if others:
        print(f"{len(others)} photos of earlier runs are there too, such as {min(others)}; delete what is not wanted")
    print(f"wrote {len(done)} photos to {args.out}, changed versions of {written}, leaving out "
          f"{len(annotated) - written} and {len(photos) - len(annotated)} without a CCPD name; "
          f"next: python ccpd/evaluate.py --data {command_line([args.out])}")
    return int(written < len(annotated))


if __name__ == "__main__":
    run_script(main)
