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

from LPRNet.alphabet import Alphabet, Reading
from LPRNet.data.labels import LABELS_HELP, label_of, read_labels
from LPRNet.data.load_data import crop_box
from LPRNet.paths import CROPS_VAL, LPRNET_WEIGHTS, STN_WEIGHTS
from LPRNet.recogniser import Recogniser
from platekit.command import add_arguments, run_pictures
from platekit.errors import UserError, run_script
from platekit.results import PictureResult, Plate


class Score:
    """Counts right readings of labelled crops."""

    def __init__(self, alphabet: Alphabet) -> None:
        self.chinese = "皖" in alphabet
        self.counts = {"all": [0, 0], "not 皖": [0, 0]}

    def add(self, label: str, reading: Reading) -> None:
        for group in ("all", "not 皖") if self.chinese and not label.startswith("皖") else ("all",):
            self.counts[group][0] += reading.text == label
            self.counts[group][1] += 1

    def __str__(self) -> str:
        return ", ".join(f"{name}: {right} of {total} right ({right / total:.1%})"
                         for name, (right, total) in self.counts.items() if total)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, default=[CROPS_VAL], help="crops, folders of crops or patterns (default: %(default)s)")
    parser.add_argument("--lprnet", type=Path, default=LPRNET_WEIGHTS, help="default: %(default)s")
    parser.add_argument("--stn", type=Path, default=STN_WEIGHTS, help="default: %(default)s")
    parser.add_argument("--labels", nargs="+", metavar="FILE", default=[], help=LABELS_HELP)
    args = parser.parse_args()
    labels = read_labels(args.labels)
    recogniser = Recogniser(args.lprnet, args.stn, args.device)
    score = Score(recogniser.alphabet)

    def read(image: np.ndarray, path: Path) -> PictureResult:
        try:
            name = label_of(path, labels)
        except UserError:
            name = None  # an unlabelled picture is read all the same
        box = crop_box(image, name.corner_array() if name else None)
        start = time.perf_counter()
        reading = recogniser.read_pictures([image], [box])[0]
        milliseconds = (time.perf_counter() - start) * 1000
        if name and (path.resolve() in labels or recogniser.alphabet.is_label(name.plate)):
            score.add(name.plate, reading)
        plate = Plate(box, None, reading.text, reading.confidence, reading.symbol_confidences)
        return PictureResult(image.shape[1], image.shape[0], (plate,), {"recognise": milliseconds})

    status = run_pictures(args.image, read, args.json, args.output)
    if str(score):
        print(score, file=sys.stderr if args.json == "-" else sys.stdout)
    return status


if __name__ == "__main__":
    run_script(main)
