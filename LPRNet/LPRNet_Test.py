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

from ccpd.protocol import calibrate
from LPRNet.alphabet import Alphabet, Reading
from LPRNet.data.labels import LABELS_HELP, label_of, read_labels
from LPRNet.data.load_data import crop_box
from LPRNet.paths import CROPS_VAL, LPRNET_WEIGHTS, STN_WEIGHTS
from LPRNet.recogniser import Recogniser
from platekit.command import add_arguments, run_pictures
from platekit.errors import UserError, run_script
from platekit.results import PictureResult, Plate


class Score:
    """Counts right readings of labelled crops, and compares the confidence with them."""

    def __init__(self, alphabet: Alphabet) -> None:
        self.chinese = "皖" in alphabet
        self.labels: list[str] = []
        self.readings: list[Reading] = []

    def add(self, label: str, reading: Reading) -> None:
        self.labels.append(label)
        self.readings.append(reading)

    def __str__(self) -> str:
        if not self.labels:
            return ""
        right = [reading.text == label for label, reading in zip(self.labels, self.readings)]
        groups = {"all": right}
        if self.chinese:
            groups["not 皖"] = [one for one, label in zip(right, self.labels) if not label.startswith("皖")]
        error = calibrate([reading.confidence for reading in self.readings], right).error
        return ", ".join([f"{name}: {sum(part)} of {len(part)} right ({sum(part) / len(part):.1%})"
                          for name, part in groups.items() if part] + [f"calibration error {error:.3f}"])


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

    status = run_pictures(args.image, read, args.json, args.output, resume=args.resume)
    if str(score):
        print(score, file=sys.stderr if args.json == "-" else sys.stdout)
    return status


if __name__ == "__main__":
    run_script(main)
