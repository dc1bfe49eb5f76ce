"""Licence plate detection: the public names, and a command line for detection alone.

    python MTCNN/MTCNN.py --image photo.jpg folder/ --json -

From Python::

    from MTCNN.MTCNN import Detector
    plates = Detector().detect(image)          # BGR uint8 (H, W, 3); plates.boxes (N, 4), plates.scores (N,)
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from MTCNN.detector import Detections, Detector, Thresholds
from MTCNN.paths import ONET_WEIGHTS, PNET_WEIGHTS
from MTCNN.pyramid import MINI_LP, SCALE
from platekit.devices import DEVICE_HELP
from platekit.errors import UserError, run_script
from platekit.files import write_text
from platekit.images import expand_inputs, read_image, write_image
from platekit.opencv import cv2

__all__ = ["Detections", "Detector", "Thresholds", "create_mtcnn_net"]

_detectors: dict[tuple, Detector] = {}


def create_mtcnn_net(image: np.ndarray, mini_lp: tuple[float, float] = MINI_LP,
                     device: torch.device | str = "auto", p_model_path: str | Path = PNET_WEIGHTS,
                     o_model_path: str | Path = ONET_WEIGHTS, scale: float = SCALE) -> np.ndarray:
    """Boxes (N, 4) of the plates in a BGR uint8 picture, the most certain first; (0, 4) when there is none.

    The familiar one-call form; the nets are kept, so that a second call with the same paths reads nothing. ``mini_lp``
    is the (width, height) of the smallest plate to find. Use ``Detector`` for scores and crops.
    """
    key = (str(p_model_path), str(o_model_path), str(device), tuple(mini_lp), scale)
    if key not in _detectors:
        _detectors[key] = Detector(p_model_path, o_model_path, device, tuple(mini_lp), scale)
    return _detectors[key].detect(image).boxes


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Find licence plates in pictures.",
                                     formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("-image", "--image", nargs="+", required=True, metavar="PATH",
                        help="files, folders or patterns")
    parser.add_argument("--json", metavar="FILE", help="write one JSON object a picture; - is standard output")
    parser.add_argument("--output", metavar="DIR", type=Path, help="write annotated pictures there")
    parser.add_argument("--mini_lp", nargs=2, type=float, default=MINI_LP, metavar=("W", "H"),
                        help="width and height in pixels of the smallest plate to find")
    parser.add_argument("--scale", type=float, default=SCALE, help="factor between pyramid levels, below 1")
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--pnet", default=PNET_WEIGHTS, type=Path, help="weights of PNet")
    parser.add_argument("--onet", default=ONET_WEIGHTS, type=Path, help="weights of ONet")
    parser.add_argument("--seed", type=int, default=0, help="taken for uniformity; detection draws nothing at random")
    return parser.parse_args(arguments)


def main() -> int:
    arguments = parse_arguments()
    try:
        detector = Detector(arguments.pnet, arguments.onet, arguments.device, tuple(arguments.mini_lp), arguments.scale)
    except ValueError as error:
        raise UserError(str(error)) from None
    lines, failed = [], False
    for path in expand_inputs(arguments.image):
        entry: dict = {"image": str(path)}
        try:
            image = read_image(path)
        except UserError as error:
            failed = True
            entry["error"] = str(error)
            print(f"error: {error}", file=sys.stderr)
        else:
            start = time.perf_counter()
            plates = detector.detect(image)
            milliseconds = 1000 * (time.perf_counter() - start)
            entry |= {"width": image.shape[1], "height": image.shape[0], "ms": {"detect": round(milliseconds, 1)},
                      "plates": [{"detection_score": round(float(score), 4), "box": [round(float(v), 1) for v in box]}
                                 for box, score in zip(plates.boxes, plates.scores)]}
            if arguments.output:
                write_image(arguments.output / path.name, annotate(image, plates))
        if arguments.json == "-":
            print(json.dumps(entry, ensure_ascii=False), flush=True)
        elif not arguments.json:
            for plate in entry.get("plates", ()):
                print(path, plate["detection_score"], *plate["box"])
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    if arguments.json and arguments.json != "-":
        write_text(arguments.json, "".join(lines))
    return int(failed)


def annotate(image: np.ndarray, plates: Detections) -> np.ndarray:
    """A copy of the picture with the boxes drawn on it."""
    drawn = image.copy()
    for x1, y1, x2, y2 in plates.boxes.round().astype(int).tolist():
        cv2.rectangle(drawn, (x1, y1), (x2, y2), (0, 0, 255), max(2, image.shape[1] // 300))
    return drawn


if __name__ == "__main__":
    run_script(main)
