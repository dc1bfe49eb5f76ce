"""Cut plate crops out of CCPD photos, for LPRNet.

    python LPRNet/data/preprocess.py                    # ccpd_train and ccpd_val, split by MTCNN/data_set/preprocess.py

Crops are called ``<plate>_<number>.jpg``: the label is in the name, and the number (a checksum of the photo's path
below its folder) keeps all photos of a plate apart and stays the same, so that a stopped run goes on with the same
command. A crop shows some surroundings and its name gives the plate's corners (see LPRNet/data/crop_names.py), so that
training can turn the plate and move the box; ``--context 0`` cuts the bare box instead.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import from the repository root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from tqdm import tqdm

from ccpd.annotation import Annotation, has_annotation, parse
from LPRNet.alphabet import Alphabet
from LPRNet.data.crop_names import CropName
from MTCNN.paths import PHOTOS_TRAIN, PHOTOS_VAL
from platekit.errors import UserError, run_script
from platekit.images import find_images, read_image, write_image

HERE = Path(__file__).resolve().parent


def cut(photo: np.ndarray, annotation: Annotation, context: float
        ) -> tuple[np.ndarray, tuple[tuple[int, int], ...] | None]:
    """The crop round the plate, and the plate's corners in it; the bare box and None without ``context``."""
    height, width = photo.shape[:2]
    x1, y1, x2, y2 = annotation.box
    margin = round(context * (x2 - x1))
    left, top = max(0, x1 - margin), max(0, y1 - margin)
    crop = photo[top:min(height, y2 + margin), left:min(width, x2 + margin)]
    if x2 > width or y2 > height or not crop.size:
        raise UserError("the box lies outside the picture; the name belongs to another photo")
    return crop, tuple((x - left, y - top) for x, y in annotation.vertices) if margin else None


def cut_folder(source: Path, target: Path, context: float, plain_names: set[str]) -> tuple[int, list[str]]:
    """Cut every annotated photo below ``source``; return the number of crops and one line for each photo left out."""
    alphabet, written, problems = Alphabet(), 0, []
    photos = [path for path in find_images(source) if has_annotation(path)]
    if not photos:
        raise UserError(f"{source} holds no photo with a CCPD name; run 'python MTCNN/data_set/preprocess.py' first")
    for path in tqdm(photos, desc=target.name, unit="photo"):
        try:
            annotation = parse(path)
            alphabet.encode(annotation.plate, source=str(path))
            photo = read_image(path)
            known = not annotation.corners_are_box and path.name not in plain_names
            crop, corners = cut(photo, annotation, context if known else 0)
        except UserError as error:
            problems.append(f"{path.name}: {error}")
            continue
        place = path.relative_to(source).as_posix()  # the same name may occur in several subsets
        name = CropName(annotation.plate, zlib.crc32(place.encode("utf-8", "surrogateescape")), corners)
        write_image(target / f"{name.stem()}.jpg", crop, quality=95)
        written += 1
    return written, problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-dir_train", "--dir_train", type=Path, default=PHOTOS_TRAIN, help="default: %(default)s")
    parser.add_argument("-dir_val", "--dir_val", type=Path, nargs="?", default=PHOTOS_VAL,
                        help="without a folder no crops to validate on are cut (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE, help="crops go to train/ and val/ below it")
    parser.add_argument("--context", type=float, default=0.4,
                        help="surroundings on each side, over the plate's width (default: %(default)s)")
    parser.add_argument("--plain_list", type=Path, metavar="FILE",
                        help="names (one a line) whose corners are not to be trusted: their bare box is cut")
    parser.add_argument("--seed", type=int, default=0, help="accepted by every script; nothing is random here")
    args = parser.parse_args()
    try:
        plain_names = {Path(line).name for line in args.plain_list.read_text("utf-8").split("\n")} \
            if args.plain_list else set()
    except OSError as error:
        raise UserError(f"cannot read {args.plain_list}: {error.strerror}; check the path") from None

    problems = []
    given = (args.dir_train, "train"), (args.dir_val, "val")
    folders = [(source, args.out / part) for source, part in given if source]
    for source, _ in folders:
        if not source.is_dir():
            raise UserError(f"{source} is not there; run 'python MTCNN/data_set/preprocess.py' first")
    for source, target in folders:
        count, left_out = cut_folder(source, target, args.context, plain_names)
        print(f"{source}: {count} crops written to {target}")
        problems += left_out
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    print("next: python LPRNet/LPRNet_Train.py")
    return 1 if problems else 0


if __name__ == "__main__":
    run_script(main)
