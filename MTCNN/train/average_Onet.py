"""Average the weights of two trainings of ONet that began alike.

    python MTCNN/train/average_Onet.py FIRST SECOND --share 0.5 --save FILE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from MTCNN.model.MTCNN_nets import ONet
from MTCNN.paths import TRAINED_ONET
from platekit.checkpoints import load_weights, save_weights
from platekit.errors import UserError, run_script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0],
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("weights", nargs=2, type=Path, metavar="FILE", help="the two weights")
    parser.add_argument("--share", type=float, default=0.5, help="of the second")
    parser.add_argument("--save", type=Path, default=TRAINED_ONET, metavar="FILE", help="where the average goes")
    options = parser.parse_args()
    if not 0 <= options.share <= 1:
        raise UserError(f"--share must lie between 0 and 1, not {options.share}")
    first, second = ONet(), ONet()
    load_weights(first, options.weights[0])
    load_weights(second, options.weights[1])
    others = second.state_dict()
    for name, value in first.state_dict().items():
        if value.is_floating_point():
            value.lerp_(others[name], options.share)
    save_weights(options.save, first, {"average": [str(path) for path in options.weights], "share": options.share})
    print(f"wrote {options.save}")


if __name__ == "__main__":
    run_script(main)
