"""Cut plate crops out of CCPD photos, for LPRNet.

    python LPRNet/data/preprocess.py                    # ccpd_train and ccpd_val, split by MTCNN/data_set/preprocess.py

Crops are called ``<plate>_<number>.jpg``: the label is in the name, and the number (a checksum of the photo's path
below its folder) keeps all photos of a plate apart and stays the same, so that a stopped run goes on with the same
command. A crop shows some surroundings and its name gives the plate's corners (see LPRNet/data/crop_names.py), so that
training can turn the plate and move the box; ``--context 0`` cuts the bare box instead.

Leave out photos of plates of two rows: a single look cannot read these, and their text would spoil what LPRNet learns.
Training draws its own, with their rows side by side.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import from the repository root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from tqdm import tqdm

from ccpd.annotation import has_annotation, parse
from ccpd.dataset import listed_names
from LPRNet.alphabet import Alphabet
from LPRNet.data.crop_names import CropName
from LPRNet.paths import CROPS_TRAIN
from MTCNN.paths import PHOTOS_TRAIN, PHOTOS_VAL
from platekit.ahead import ahead, spare_threads
from platekit.arguments import HelpFormatter, add_seed, check_range, flags_of
from platekit.boxes import reach_outside
from platekit.errors import UserError, run_script
from platekit.images import read_image, write_image
from platekit.inputs import find_images
from platekit.paths import must_be_there


@dataclass(frozen=True)
class Cut:
    """What to cut out of a photo: the plate's box with ``margin`` pixels of surroundings."""

    box: tuple[int, int, int, int]
    margin: int

    @property
    def start(self) -> tuple[int, int]:
        """The photo's pixel (x, y) that is the crop's first."""
        return max(0, self.box[0] - self.margin), max(0, self.box[1] - self.margin)

    def of(self, photo: np.ndarray) -> np.ndarray:
        """The crop. Raises UserError."""
        (left, top), (height, width), (_, _, x2, y2) = self.start, photo.shape[:2], self.box
        crop = photo[top:y2 + self.margin, left:x2 + self.margin]
        if reach_outside(np.array([self.box]), height, width) or not crop.size:
            raise UserError(f"the box goes beyond the picture ({width} x {height} pixels); mend it or name its picture")
        return crop


def add_context(parser: argparse.ArgumentParser, text: str) -> None:
    """The flag ``--context``; ``text`` says what it is there."""
    parser.add_argument("--context", type=float, default=0.4, help=text)


def cut_folder(source: Path, target: Path, context: float, plain_names: set[str]) -> tuple[int, list[str]]:
    """Cut every annotated photo below ``source``; return the number of crops and one line for each photo left out.

    A crop that is there already and newer than its photo is kept; one that was cut otherwise is removed. Crops of no
    photo there stay, with a word about them: somebody else's, or an earlier split's.
    """
    alphabet, count, problems = Alphabet(), 0, []
    earlier: dict[str, list[Path]] = {}
    for path in target.glob("*.jpg"):
        earlier.setdefault("_".join(path.stem.split("_")[:2]), []).append(path)
    photos = [path for path in find_images(source) if has_annotation(path)]
    if not photos:
        raise UserError(f"{source} holds no photo with a CCPD name; run 'python MTCNN/data_set/preprocess.py' first")

    def cut_out(path: Path) -> tuple[Path, list[Path], np.ndarray | None] | str:
        """The crop's place, what was cut out of this photo before, and the crop unless it is there; or a problem."""
        try:
            annotation = parse(path)
            alphabet.encode(annotation.plate, source=str(path))
            known = not annotation.without_pose and path.name not in plain_names
            cut = Cut(annotation.box, round(context * (annotation.box[2] - annotation.box[0])) if known else 0)
            (left, top), place = cut.start, path.relative_to(source).as_posix()  # a name may occur in several subsets
            corners = tuple((x - left, y - top) for x, y in annotation.vertices) if cut.margin else None
            name = CropName(annotation.plate, zlib.crc32(place.encode("utf-8", "surrogateescape")), corners)
            crop = target / f"{name.stem()}.jpg"
            before = earlier.pop(f"{name.plate}_{name.number}", [])
            # Beside the photo's upper left corner the name is the same for any context.
            stale = crop not in before or cut.start == (0, 0) or crop.stat().st_mtime < path.stat().st_mtime
            return crop, before, cut.of(read_image(path)) if stale else None
        except UserError as error:
            return f"{path.name}: {error}"

    for result in tqdm(ahead(photos, cut_out, spare_threads()), desc=target.name, total=len(photos), unit="photo"):
        if isinstance(result, str):
            problems.append(result)
            continue
        crop, before, picture = result
        if picture is not None:
            write_image(crop, picture, quality=95)  # a full disk ends the run: it is no fault of a photo
        for other in before:
            if other != crop:
                other.unlink(missing_ok=True)
        count += 1
    others = sorted(path.name for paths in earlier.values() for path in paths)
    if others:
        print(f"{target} has {len(others)} pictures of no photo in {source}, such as {others[0]}; if an earlier "
              f"split made them, remove {target} and run this again")
    return count, problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("-dir_train", "--dir_train", type=Path, default=PHOTOS_TRAIN, metavar="DIR", help="photos")
    parser.add_argument("-dir_val", "--dir_val", type=Path, nargs="?", default=PHOTOS_VAL,
                        help="give no folder to cut no crops to validate on")
    parser.add_argument("--out", type=Path, default=CROPS_TRAIN.parent,
                        help="crops go to train/ and val/ below it")
    add_context(parser, "surroundings on each side, as a share of the plate's width")
    parser.add_argument("--plain_list", type=Path, metavar="FILE",
                        help="names (one per line) of photos with unreliable corners: only their box is cut out")
    add_seed(parser)
    args = parser.parse_args()
    check_range(args, "context", 0, 100)
    plain_names = listed_names(args.plain_list) if args.plain_list else set()

    problems = []
    given = (args.dir_train, "train"), (args.dir_val, "val")
    folders = [(source, args.out / part) for source, part in given if source]
    must_be_there((source for source, _ in folders), "MTCNN/data_set/preprocess.py")
    for source, target in folders:
        count, left_out = cut_folder(source, target, args.context, plain_names)
        print(f"{source}: crops of {count} photos in {target}")
        problems += left_out
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    flags = {f"--img_dirs_{target.name}": (target, CROPS_TRAIN.parent / target.name) for _, target in folders}
    print("next: python LPRNet/LPRNet_Train.py", *flags_of(flags))
    return 1 if problems else 0


if __name__ == "__main__":
    run_script(main)
