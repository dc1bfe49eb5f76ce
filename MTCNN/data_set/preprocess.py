"""Split CCPD photos into ccpd_train and ccpd_val, by plate number.

    python MTCNN/data_set/preprocess.py                         # the CCPD folders below ccpd/
    python MTCNN/data_set/preprocess.py --img_dirs DIR [DIR ...]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from ccpd.dataset import find_subsets
from MTCNN.data_set.split import split_photos
from MTCNN.paths import PHOTOS_TRAIN, PHOTOS_VAL
from platekit.arguments import HelpFormatter, ListOf, add_seed, flags_of
from platekit.errors import UserError, run_script


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("--img_dirs", nargs="+", action=ListOf, type=Path, metavar="DIR",
                        help="CCPD folders, or folders that hold such (default: those below ccpd/)")
    parser.add_argument("-dir_train", "--dir_train", type=Path, default=PHOTOS_TRAIN, metavar="DIR",
                        help="where the photos to train on go")
    parser.add_argument("-dir_val", "--dir_val", type=Path, default=PHOTOS_VAL, metavar="DIR",
                        help="where those to validate on go")
    parser.add_argument("--val_share", type=float, default=0.1,
                        help="share of the plate numbers to validate on, the same whenever photos are added")
    parser.add_argument("--copy", action="store_true", help="copy the files even where hard links would do")
    add_seed(parser, "of all that is random")
    return parser.parse_args(arguments)


def main() -> None:
    args = parse_arguments()
    if not 0 <= args.val_share < 1:
        raise UserError(f"--val_share must lie between 0 and 1, not {args.val_share}")
    folders: list[Path] = []
    for root in args.img_dirs or [None]:
        folders += find_subsets(root).values()
    print(f"read {', '.join(map(str, folders))}")
    counts = split_photos(folders, args.dir_train, args.dir_val, args.val_share, args.seed, args.copy)
    print(f"wrote {counts.train} photos to {args.dir_train} and {counts.val} to {args.dir_val}; "
          f"{counts.unchanged} were there already, {counts.left_out} without a CCPD name left out")
    flags = flags_of({"--dir_train": (args.dir_train, PHOTOS_TRAIN)})
    flags += flags_of({"--dir_val": (args.dir_val, PHOTOS_VAL)}) if args.val_share else ["--dir_val"]
    print("next: python MTCNN/data_preprocessing/gen_Pnet_train_data.py", *flags)


if __name__ == "__main__":
    run_script(main)
