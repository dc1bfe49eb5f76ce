"""Write STNet and LPRNet as ONNX files for other runtimes, and compare them with torch in onnxruntime.

    python LPRNet/export_onnx.py

``stn.onnx`` gives the spatial transforms of any number of crops, ``lprnet.onnx`` (both nets) the probabilities of the
symbols at each time step; it records the alphabet.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import from the repository root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch import nn
from torch.nn import functional

from ccpd.annotation import parse
from LPRNet.onnx_reader import Probabilities, Transforms, facts_of
from LPRNet.paths import CROPS_VAL, LPRNET_ONNX, LPRNET_WEIGHTS, STN_ONNX, STN_WEIGHTS
from LPRNet.recogniser import Recogniser, load_reader
from platekit.arguments import HelpFormatter, add_seed, flags_of, for_help
from platekit.crops import CROP_SIZE, crop_resize
from platekit.errors import UserError, run_script
from platekit.files import file_fingerprint
from platekit.images import read_image
from platekit.inputs import find_images
from platekit.onnx_nets import check_targets, export
from platekit.paths import SAMPLES


def sample_crops(recogniser: Recogniser) -> tuple[torch.Tensor, torch.Tensor]:
    """Crops (N, 3, 24, 94) of the plates in the bundled samples: as STNet sees them first, and as both nets then do."""
    first, last = [], []
    for path in find_images(SAMPLES):
        pixels, boxes = recogniser.prepare(read_image(path), tuple(map(float, parse(path).box)))
        first.append(crop_resize(pixels, boxes))
        with torch.inference_mode():
            last.append(recogniser.look(pixels, boxes))
    return torch.cat(first), torch.cat(last)


def random_crops(count: int) -> torch.Tensor:
    """Smooth random crops: sampling between the pixels of pure noise multiplies rounding errors as in no picture."""
    return functional.interpolate(torch.rand(count, 3, 8, 32) * 2 - 1, CROP_SIZE, mode="bilinear", align_corners=False)


def compare_texts(folder: Path, mine: Recogniser, exported: Recogniser) -> None:
    """Read every crop of the folder by both; UserError when a text differs."""
    paths, same = find_images(folder), 0
    for picture in map(read_image, paths):
        one, other = (recogniser.read_pictures([picture])[0].text for recogniser in (mine, exported))
        same += one == other
    print(f"{folder}: {same} of {len(paths)} crops have the same text in torch and in onnxruntime")
    if same < len(paths):
        raise UserError(f"{len(paths) - same} crops of {folder} read otherwise in onnxruntime; do not use the files")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--lprnet", type=Path, default=LPRNET_WEIGHTS, metavar="FILE", help="weights")
    parser.add_argument("--stn", type=Path, default=STN_WEIGHTS, metavar="FILE", help="weights")
    parser.add_argument("--lprnet_onnx", type=Path, default=LPRNET_ONNX, metavar="FILE",
                        help="where the ONNX file goes")
    parser.add_argument("--stn_onnx", type=Path, default=STN_ONNX, metavar="FILE",
                        help="where the ONNX file goes")
    parser.add_argument("--crops", type=Path, metavar="DIR",
                        help=f"to compare texts on (default: {for_help(CROPS_VAL)}, where it is there)")
    add_seed(parser, "of the random inputs")
    args = parser.parse_args()
    check_targets(args.lprnet_onnx, args.stn_onnx)
    if args.crops and not args.crops.is_dir():
        raise UserError(f"{args.crops} is not a folder; name a folder of crops, or leave out --crops")
    crops_folder = args.crops or (CROPS_VAL if CROPS_VAL.is_dir() else None)
    torch.manual_seed(args.seed)
    reader, alphabet = load_reader(args.lprnet, args.stn)
    recogniser = Recogniser(args.lprnet, args.stn, "cpu")
    print(f"exporting {args.lprnet} and {args.stn}")
    first, last = sample_crops(recogniser)
    noise = {f"random {count}": random_crops(count) for count in (1, 2, 3, 16, 64)}

    def write(net: nn.Module, path: Path, output: str, crops: torch.Tensor, facts: dict[str, str]) -> None:
        samples = {f"samples {count}": crops[:count] for count in range(1, len(crops) + 1)}
        export(net, first[:2], (0,), path, [output], {**samples, **noise}, facts)

    write(Transforms(reader), args.stn_onnx, "transforms", first, {})
    write(Probabilities(reader), args.lprnet_onnx, "probabilities", last,
          facts_of(alphabet) | {"with": file_fingerprint(args.stn_onnx)})
    if crops_folder:
        compare_texts(crops_folder, recogniser, Recogniser(args.lprnet_onnx, args.stn_onnx, "cpu"))
    else:
        print("no texts were compared; name a folder of crops with --crops")
    files = {"--lprnet": (args.lprnet_onnx, LPRNET_ONNX), "--stn": (args.stn_onnx, STN_ONNX)}
    print("next: python main.py --backend onnx", *flags_of(files))


if __name__ == "__main__":
    run_script(main)
