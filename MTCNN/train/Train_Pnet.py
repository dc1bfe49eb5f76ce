"""Train PNet on the assembled lists.

    python MTCNN/train/Train_Pnet.py

A run that was stopped goes on with the same command, without --restart.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from MTCNN.model.MTCNN_nets import PNET_SIZE, PNet
from MTCNN.paths import TRAINED_PNET
from MTCNN.train.trainer import Recipe, parse_arguments, train
from platekit.errors import run_script

RECIPE = Recipe("pnet", PNet, PNET_SIZE, TRAINED_PNET, epochs=12, batch_size=512, learning_rate=4e-3, box_weight=0.7,
                next_step="python MTCNN/data_preprocessing/gen_Onet_train_data.py{weights}",
                own_next_step="python MTCNN/data_preprocessing/gen_Onet_train_data.py{weights} -dir_train PHOTOS "
                              "--hold_out SHARE --boxes TABLE")


def main() -> None:
    train(RECIPE, parse_arguments(RECIPE, __doc__.partition("\n")[0]))


if __name__ == "__main__":
    run_script(main)
