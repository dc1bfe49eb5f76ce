"""Write PNet and ONet as ONNX files for other runtimes, and compare them with torch in onnxruntime.

    python MTCNN/export_onnx.py

``pnet.onnx`` takes a picture of any height and width, ``onet.onnx`` any number of crops; both give offsets and
probabilities as the modules in MTCNN/model/MTCNN_nets.py do.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from MTCNN.detector import Detector
from MTCNN.model.MTCNN_nets import ONET_SIZE, PNET_SIZE, ONet, PNet
from MTCNN.paths import ONET_ONNX, ONET_WEIGHTS, PNET_ONNX, PNET_WEIGHTS
from MTCNN.pyramid import resize
from platekit.arguments import HelpFormatter, add_seed, flags_of
from platekit.checkpoints import load_weights
from platekit.crops import crop_resize, normalise
from platekit.errors import run_script
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.onnx_nets import check_targets, export
from platekit.paths import SAMPLES

SHAPES = (PNET_SIZE, (13, 48), (99, 203), (240, 320), (331, 512))  # heights and widths to compare PNet on
COUNTS = (1, 2, 3, 16, 64)  # numbers of crops to compare ONet on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--pnet", type=Path, default=PNET_WEIGHTS, metavar="FILE", help="weights")
    parser.add_argument("--onet", type=Path, default=ONET_WEIGHTS, metavar="FILE", help="weights")
    parser.add_argument("--pnet_onnx", type=Path, default=PNET_ONNX, metavar="FILE", help="where the ONNX file goes")
    parser.add_argument("--onet_onnx", type=Path, default=ONET_ONNX, metavar="FILE", help="where the ONNX file goes")
    add_seed(parser, "of the random inputs")
    args = parser.parse_args()
    check_targets(args.pnet_onnx, args.onet_onnx)
    torch.manual_seed(args.seed)
    pnet, onet = PNet(), ONet()
    load_weights(pnet, args.pnet)
    load_weights(onet, args.onet)
    detector = Detector(pnet, onet, "cpu")
    photos = [detector.upload(read_image(path)) for path in find_images(SAMPLES)]

    print(f"exporting {args.pnet} and {args.onet}")
    export(pnet, torch.zeros(1, 3, *SHAPES[-1]), (2, 3), args.pnet_onnx, ["offsets", "scores"], {
        **{f"sample {number + 1}": normalise(resize(photos[number % len(photos)], *shape))
           for number, shape in enumerate(SHAPES)},
        **{f"random {number + 1}": torch.rand(1, 3, *shape) * 2 - 1 for number, shape in enumerate(SHAPES)}})

    crops = torch.cat([crop_resize(photo, detector.propose(photo)[0]) for photo in photos])
    export(onet, torch.zeros(2, 3, *ONET_SIZE), (0,), args.onet_onnx, ["offsets", "scores"], {
        **{f"samples {count}": crops[:count] for count in COUNTS if len(crops)},  # PNet may find nothing there
        **{f"random {count}": torch.rand(count, 3, *ONET_SIZE) * 2 - 1 for count in COUNTS}})
    files = {"--pnet": (args.pnet_onnx, PNET_ONNX), "--onet": (args.onet_onnx, ONET_ONNX)}
    print("next: python LPRNet/export_onnx.py, then python main.py --backend onnx", *flags_of(files))


if __name__ == "__main__":
    run_script(main)
