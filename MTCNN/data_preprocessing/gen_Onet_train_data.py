"""Generate ONet's training samples (24x94) with the trained PNet: what it proposes in photos, and jittered plates.

    python MTCNN/data_preprocessing/gen_Onet_train_data.py -dir_train DIR -dir_val DIR --views 10

With ``--onet WEIGHTS`` a trained ONet says which of the negatives are hard, and adds the boxes it corrected itself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from MTCNN.data_preprocessing.choosers import MINED_SCORE, ONetWindows
from MTCNN.data_preprocessing.generate import add_common_arguments, run
from MTCNN.data_preprocessing.windows import Counts
from MTCNN.model.MTCNN_nets import ONET_SIZE
from MTCNN.paths import TRAINED_PNET
from MTCNN.pyramid import add_pyramid_arguments
from platekit.arguments import HelpFormatter, check_range
from platekit.errors import run_script
from platekit.files import file_fingerprint


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0],
                                     formatter_class=HelpFormatter)
    add_common_arguments(parser, "onet")
    mining = parser.add_argument_group("mining")
    mining.add_argument("--pnet", type=Path, default=TRAINED_PNET, metavar="WEIGHTS", help="the trained PNet")
    mining.add_argument("--onet", type=Path, metavar="WEIGHTS",
                        help="a trained ONet, to choose the hard negatives and add the boxes that it corrected itself")
    mining.add_argument("--threshold", type=float, default=MINED_SCORE, help="lowest PNet score of a proposal")
    add_pyramid_arguments(mining)
    samples = parser.add_argument_group("samples of a view, at most")
    samples.add_argument("--positives", type=int, default=12, help="boxes of the plate")
    samples.add_argument("--parts", type=int, default=8, help="boxes that overlap it less")
    samples.add_argument("--near", type=int, default=6, help="negatives that touch the plate")
    samples.add_argument("--far", type=int, default=18, help="negatives elsewhere, half of them the best scored")
    return parser.parse_args(arguments)


def main() -> int:
    args = parse_arguments()
    check_range(args, "threshold", 0, 1)
    counts = Counts(args.positives, args.parts, args.near, args.far)
    chooser = ONetWindows(counts, args.pnet, args.onet, args.threshold, args.mini_lp, args.scale)
    facts = {"counts": str(counts), "pnet": file_fingerprint(args.pnet), "onet": file_fingerprint(args.onet),
             "threshold": args.threshold, "mini_lp": list(args.mini_lp), "scale": args.scale}
    return run(args, "onet", ONET_SIZE, chooser, facts)


if __name__ == "__main__":
    run_script(main)
