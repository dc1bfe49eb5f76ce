"""Generate PNet's training samples (12x47): positives, parts and negatives around and beside the plates of photos.

    python MTCNN/data_preprocessing/gen_Pnet_train_data.py -dir_train DIR -dir_val DIR --views 20

With ``--mine WEIGHTS`` a trained PNet adds the windows it mistakes for plates.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from MTCNN.data_preprocessing.choosers import PNetWindows
from MTCNN.data_preprocessing.generate import add_common_arguments, run
from MTCNN.data_preprocessing.windows import Counts
from MTCNN.model.MTCNN_nets import PNET_SIZE
from platekit.arguments import HelpFormatter
from platekit.errors import run_script
from platekit.files import file_fingerprint


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0],
                                     formatter_class=HelpFormatter)
    add_common_arguments(parser, "pnet")
    samples = parser.add_argument_group("samples of a view, at most")
    samples.add_argument("--positives", type=int, default=10, help="boxes of the plate")
    samples.add_argument("--parts", type=int, default=8, help="boxes that overlap it less")
    samples.add_argument("--near", type=int, default=10, help="negatives that touch the plate")
    samples.add_argument("--far", type=int, default=14, help="negatives anywhere")
    samples.add_argument("--mine", type=Path, metavar="WEIGHTS", help="a trained PNet to mine hard negatives with")
    samples.add_argument("--mined", type=int, default=20, help="hard negatives, with --mine")
    return parser.parse_args(arguments)


def main() -> int:
    args = parse_arguments()
    if not args.mine:
        args.mined = min(args.mined, 0)  # what is below is refused
    counts = Counts(args.positives, args.parts, args.near, args.far)
    chooser = PNetWindows(counts, args.mine, args.mined)
    facts = {"counts": str(counts), "mine": file_fingerprint(args.mine), "mined": args.mined}
    return run(args, "pnet", PNET_SIZE, chooser, facts)


if __name__ == "__main__":
    run_script(main)
