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
from typing import Any

if __package__ in (None, ""):  # run as a file: import from the repository root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from ccpd.protocol import calibrate
from LPRNet.alphabet import Alphabet
from LPRNet.data.crop_names import CropName
from LPRNet.data.labels import LABELS_HELP, Labels, label_of, read_labels
from LPRNet.data.load_data import crop_box
from LPRNet.paths import CROPS_VAL, LPRNET_WEIGHTS, STN_WEIGHTS
from LPRNet.recogniser import Recogniser
from platekit.command import add_arguments, run_pictures
from platekit.devices import pick_device
from platekit.distributed import join
from platekit.errors import UserError, run_script
from platekit.files import real_path
from platekit.places import for_help, must_be_there
from platekit.results import PictureResult, Plate


class Score:
    """Counts right readings of labelled crops, and compares the confidence with them."""

    def __init__(self, alphabet: Alphabet, labels: Labels) -> None:
        self.alphabet, self.labels = alphabet, labels
        self.texts: list[str] = []  # what is written
        self.right: list[bool] = []
        self.confidences: list[float] = []
        self.unlabelled = 0

    def add_entry(self, entry: dict[str, Any]) -> None:
        """Count what a line of results says, where a table, or a name that is a plate's, says what the crop shows."""
        path = Path(entry["image"])
        name = known_label(path, self.labels)
        for plate in entry.get("plates", ()):
            if "text" not in plate:
                raise UserError("the lines kept by --resume come from another script; name another --json")
            if not name or not (self.alphabet.is_label(name.plate) or real_path(path) in self.labels):
                self.unlabelled += 1
                continue
            self.texts.append(name.plate)
            self.right.append(plate["text"] == name.plate)
            self.confidences.append(plate["confidence"])

    def __str__(self) -> str:
        if not self.texts:
            return f"none of {self.unlabelled} crops is in --labels" if self.labels and self.unlabelled else ""
        groups = {"all": self.right}
        if "皖" in self.alphabet:
            groups["not 皖"] = [right for right, text in zip(self.right, self.texts) if not text.startswith("皖")]
        counts = [f"{name}: {sum(part)} of {len(part)} right ({sum(part) / len(part):.1%})"
                  for name, part in groups.items() if part]
        counts.append(f"calibration error {calibrate(self.confidences, self.right).error:.3f}")
        if self.unlabelled:
            counts.append(f"{self.unlabelled} without a label that these weights could read")
        if strange := sum(not all(map(self.alphabet.__contains__, text)) for text in self.texts):
            counts.append(f"{strange} labels with symbols that these weights do not know")
        return ", ".join(counts)


def known_label(path: Path, labels: Labels) -> CropName | None:
    """``label_of``, or None."""
    try:
        return label_of(path, labels)
    except UserError:
        return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, default=for_help(CROPS_VAL))
    parser.add_argument("--lprnet", type=Path, default=LPRNET_WEIGHTS, help="default: %(default)s")
    parser.add_argument("--stn", type=Path, default=STN_WEIGHTS, help="default: %(default)s")
    parser.add_argument("--labels", nargs="+", metavar="FILE", default=[], help=LABELS_HELP)
    args = parser.parse_intermixed_args()
    if not args.image:
        must_be_there([CROPS_VAL], "LPRNet/data/preprocess.py")
    labels = read_labels(args.labels)
    recogniser = Recogniser(args.lprnet, args.stn, join(pick_device(args.device)))

    def read(image: np.ndarray, path: Path) -> PictureResult:
        name = known_label(path, labels)  # an unlabelled picture is read all the same
        box = crop_box(image, name.corner_array() if name else None)
        start = time.perf_counter()
        reading = recogniser.read_pictures([image], [box])[0]
        milliseconds = (time.perf_counter() - start) * 1000
        plate = Plate(box, None, reading.text, reading.confidence, reading.symbol_confidences)
        return PictureResult(image.shape[1], image.shape[0], (plate,), {"recognise": milliseconds})

    return run_pictures(args.image or [CROPS_VAL], read, args.json, args.output, resume=args.resume,
                        settings=(args.lprnet, args.stn), score=Score(recogniser.alphabet, labels))


if __name__ == "__main__":
    run_script(main)
