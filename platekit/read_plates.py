"""The command line that reads plates: ``python main.py`` in a checkout, ``read-plates`` where it is installed."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from LPRNet.recogniser import LPRNET_WEIGHTS, STN_WEIGHTS
from MTCNN.paths import ONET_WEIGHTS, PNET_WEIGHTS
from MTCNN.pyramid import MINI_LP, SCALE
from platekit.command import add_arguments, run_pictures
from platekit.devices import pick_device
from platekit.distributed import join
from platekit.errors import UserError, run_script
from platekit.pipeline import PlateReader
from platekit.places import ROOT
from platekit.results import PictureResult
from platekit.video import run_video

SAMPLES = ROOT / "ccpd" / "samples"
OUTPUTS = Path("outputs")
DESCRIPTION = """\
Find and read the licence plates of pictures, folders, videos, streams or cameras.

    %(prog)s                                         # the bundled samples
    %(prog)s --image photo.jpg folder/ 'more/*.png'  # a line a plate, annotated pictures in outputs/
    %(prog)s --image folder/ --json plates.jsonl     # one JSON object a picture
    %(prog)s --video clip.mp4                        # or rtsp://..., or --camera 0

Exit status: 0 all inputs done, 1 some failed, 2 wrong usage or missing weights.
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, help="pictures, folders or patterns (default: the bundled samples)")
    parser.add_argument("--video", nargs="+", metavar="FILE", help="video files or stream addresses")
    parser.add_argument("--camera", type=int, metavar="N", help="number of a camera; q in its window or Ctrl-C stops")
    parser.add_argument("--show", action="store_true", help="open a window for every result")
    parser.add_argument("--mini_lp", nargs=2, type=float, default=MINI_LP, metavar=("W", "H"),
                        help="width and height in pixels of the smallest plate to find (default: %(default)s)")
    parser.add_argument("--scale", type=float, default=SCALE,
                        help="factor between pyramid levels, below 1 (default: %(default)s)")
    weights = parser.add_argument_group("weights")
    weights.add_argument("--pnet", type=Path, default=PNET_WEIGHTS, help="default: %(default)s")
    weights.add_argument("--onet", type=Path, default=ONET_WEIGHTS, help="default: %(default)s")
    weights.add_argument("--lprnet", type=Path, default=LPRNET_WEIGHTS, help="default: %(default)s")
    weights.add_argument("--stn", type=Path, default=STN_WEIGHTS, help="default: %(default)s")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()
    device = join(pick_device(args.device))
    try:
        reader = PlateReader(device, tuple(args.mini_lp), args.scale, args.pnet, args.onet, args.lprnet, args.stn)
    except ValueError as error:
        raise UserError(str(error)) from None

    def read(image: np.ndarray, _: Path) -> PictureResult:
        return reader.read(image)

    output = args.output or (None if args.json else OUTPUTS)
    videos = [*(args.video or []), *([args.camera] if args.camera is not None else [])]
    if videos:
        if args.image or args.resume:
            raise UserError("--image and --resume go without --video and --camera; run them one after the other")
        return run_video(videos, read, args.json, output, args.show)
    return run_pictures(args.image or [SAMPLES], read, args.json, output, args.show, args.resume)


def command() -> None:
    """The installed command ``read-plates``."""
    run_script(main)
