"""Read plate crops, and report the accuracy where their names, or a table, say what they show.

    python LPRNet/LPRNet_Test.py                                   # the crops in LPRNet/data/val
    python LPRNet/LPRNet_Test.py --image crop.jpg folder/ --json -
    python LPRNet/LPRNet_Test.py --image folder/ --labels folder/labels.csv
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import from the repository root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from LPRNet.alphabet import decode
from LPRNet.data.labels import LABELS_HELP, check_tables, read_labels
from LPRNet.data.load_data import crop_box
from LPRNet.paths import CROPS_VAL, LPRNET_WEIGHTS, STN_WEIGHTS
from LPRNet.recogniser import Recogniser
from LPRNet.score import Score, known_label
from platekit.arguments import HelpFormatter, ListOf, for_help
from platekit.boxes import at_least, clip_boxes
from platekit.command import add_arguments, run_pictures
from platekit.devices import pick_device
from platekit.distributed import join
from platekit.errors import run_script
from platekit.paths import must_be_there
from platekit.results import PictureResult, Plate

__all__ = ["decode", "main"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add_arguments(parser, default=for_help(CROPS_VAL))
    parser.add_argument("--lprnet", type=Path, default=LPRNET_WEIGHTS, metavar="FILE", help="weights")
    parser.add_argument("--stn", type=Path, default=STN_WEIGHTS, metavar="FILE", help="weights")
    parser.add_argument("--labels", nargs="+", action=ListOf, metavar="FILE", default=[], help=LABELS_HELP)
    args = parser.parse_intermixed_args()
    if not args.image:
        must_be_there([CROPS_VAL], "LPRNet/data/preprocess.py")
    labels = read_labels(args.labels)
    check_tables(args.image, labels)
    recogniser = Recogniser(args.lprnet, args.stn, join(pick_device(args.device)))

    def read(image: np.ndarray, path: Path) -> PictureResult:
        name = known_label(path, labels)  # an unlabelled picture is read all the same
        box = crop_box(image, name.corner_array() if name else None)
        start = time.perf_counter()
        reading = recogniser.read_pictures([image], [box])[0]
        milliseconds = (time.perf_counter() - start) * 1000
        inside = clip_boxes(np.array([box]), *image.shape[:2])  # corners of a name may lie outside
        shown = tuple(inside[0].tolist()) if at_least(inside, 1)[0] else crop_box(image)
        plate = Plate(shown, None, reading.text, reading.confidence, reading.symbol_confidences)
        return PictureResult(image.shape[1], image.shape[0], (plate,), {"recognise": milliseconds})

    settings = args.lprnet, args.stn, *map(Path, args.labels)  # labels tell where plates lie in crops with surroundings
    return run_pictures(args.image or [CROPS_VAL], read, args.json, args.output, resume=args.resume,
                        settings=settings, score=Score(recogniser.alphabet, labels), wrong=args.wrong)


if __name__ == "__main__":
    run_script(main)
