"""Licence plate detection: the public names, and a command line for detection alone.

    python MTCNN/MTCNN.py --image photo.jpg folder/ --json -
    python MTCNN/MTCNN.py --image folder/ --boxes folder/boxes.csv      # counts the plates found

From Python::

    from MTCNN.MTCNN import Detector
    plates = Detector().detect(image)          # BGR uint8 (H, W, 3); plates.boxes (N, 4), plates.scores (N,)
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from MTCNN.detector import Detections, Detector, Thresholds
from MTCNN.paths import ONET_WEIGHTS, PNET_WEIGHTS
from MTCNN.pyramid import MINI_LP, SCALE, add_pyramid_arguments
from MTCNN.score import Score
from platekit.arguments import HelpFormatter
from platekit.command import add_arguments, run_pictures
from platekit.devices import pick_device
from platekit.distributed import join
from platekit.errors import run_script
from platekit.paths import samples_from_here
from platekit.results import PictureResult, Plate
from platekit.tables import BOXES_HELP, plates_of_tables

__all__ = ["Detections", "Detector", "Thresholds", "create_mtcnn_net"]

_detector = functools.lru_cache(maxsize=4)(Detector)


def create_mtcnn_net(image: np.ndarray, mini_lp: tuple[float, float] = MINI_LP,
                     device: torch.device | str = "auto", p_model_path: str | Path | None = None,
                     o_model_path: str | Path | None = None, scale: float = SCALE) -> np.ndarray:
    """Boxes (N, 4) of the plates in a BGR uint8 picture, the most certain first; (0, 4) when there is none.

    The familiar one-call form; the nets of the last four calls that differed are kept, and not read again. ``mini_lp``
    is the (width, height) of the smallest plate to find; without paths the bundled weights are taken. Use ``Detector``
    for scores.
    """
    paths = (os.path.abspath(path) for path in (p_model_path or PNET_WEIGHTS, o_model_path or ONET_WEIGHTS))
    smallest = tuple(mini_lp) if isinstance(mini_lp, Iterable) else mini_lp  # others are refused by the detector
    return _detector(*paths, str(device), smallest, scale).detect(image).boxes


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Find licence plates in pictures.", formatter_class=HelpFormatter)
    add_arguments(parser, default="the bundled samples")
    add_pyramid_arguments(parser)
    parser.add_argument("--boxes", nargs="+", action="extend", type=Path, default=[], metavar="FILE",
                        help=f"count what is found by them: {BOXES_HELP}")
    parser.add_argument("--pnet", default=PNET_WEIGHTS, type=Path, help="weights of PNet")
    parser.add_argument("--onet", default=ONET_WEIGHTS, type=Path, help="weights of ONet")
    return parser.parse_intermixed_args(arguments)


def main() -> int:
    args = parse_arguments()
    # no text is read
    truth = {path: plates._replace(texts=[]) for path, plates in plates_of_tables(args.boxes).items()}
    score = Score(truth) if args.boxes else None
    device = join(pick_device(args.device))
    detector = Detector(args.pnet, args.onet, device, args.mini_lp, args.scale)

    def read(image: np.ndarray, _: Path) -> PictureResult:
        start = time.perf_counter()
        found = detector.detect(image)
        milliseconds = {"detect": 1000 * (time.perf_counter() - start)}
        plates = tuple(Plate(tuple(box), sure) for box, sure in zip(found.boxes.tolist(), found.scores.tolist()))
        return PictureResult(image.shape[1], image.shape[0], plates, milliseconds)

    settings = (args.pnet, args.onet, args.mini_lp, args.scale)
    return run_pictures(args.image or [samples_from_here()], read, args.json, args.output,
                        resume=args.resume, settings=settings, score=score, wrong=args.wrong)


if __name__ == "__main__":
    run_script(main)
