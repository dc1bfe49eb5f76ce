"""Assemble ONet's training lists out of generated samples.

    python MTCNN/data_preprocessing/assemble_Onet_imglist.py --samples_train DIR [DIR ...] --samples_val DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from MTCNN.data_preprocessing.assemble import run
from platekit.errors import run_script


def main() -> None:
    run("onet", __doc__.partition("\n")[0])


if __name__ == "__main__":
    run_script(main)
