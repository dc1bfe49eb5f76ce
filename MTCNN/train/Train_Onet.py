"""Train ONet on the assembled lists.

    python MTCNN/train/Train_Onet.py

A run that was stopped goes on with the same command, without --restart.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from MTCNN.model.MTCNN_nets import ONET_SIZE, ONet
from MTCNN.paths import TRAINED_ONET
from MTCNN.train.trainer import Recipe, parse_arguments, train
from platekit.errors import run_script

RECIPE = Recipe("onet", ONet, ONET_SIZE, TRAINED_ONET, epochs=10, batch_size=256, learning_rate=1.5e-3, box_weight=1.0,
                next_step="python LPRNet/data/preprocess.py",
                own_next_step="python MTCNN/MTCNN.py --pnet PNET{weights} --image {photos} --boxes TABLE")


def main() -> None:
    train(RECIPE, parse_arguments(RECIPE, __doc__.partition("\n")[0]))


if __name__ == "__main__":
    run_script(main)
