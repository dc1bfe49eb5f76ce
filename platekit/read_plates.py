"""The command line that reads plates: ``python main.py`` in a checkout, ``read-plates`` where it is installed."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from LPRNet.paths import COLOUR_WEIGHTS, LPRNET_ONNX, STN_ONNX
from MTCNN.paths import ONET_ONNX, PNET_ONNX
from MTCNN.pyramid import add_pyramid_arguments
from MTCNN.score import Score
from platekit.arguments import HelpFormatter, check_range, for_help
from platekit.command import add_arguments, results_place, run_pictures
from platekit.devices import pick_device
from platekit.distributed import join
from platekit.errors import UserError, run_script
from platekit.frames import MOST_CAMERAS, VIDEOS, is_live, local_path, source_name
from platekit.inputs import expand_inputs, is_same_folder, read_lines
from platekit.memory import hand_back_files
from platekit.onnx_nets import is_onnx
from platekit.paths import samples_from_here
from platekit.pipeline import WEIGHTS, PlateReader
from platekit.tables import BOXES_HELP, plates_of_tables
from platekit.tracking import RULES
from platekit.video import run_video

OUTPUTS = Path("outputs")
BACKENDS = {
    "torch": WEIGHTS,
    "onnx": {"pnet": PNET_ONNX, "onet": ONET_ONNX, "lprnet": LPRNET_ONNX, "stn": STN_ONNX},
}
DESCRIPTION = """\
Find and read the licence plates of pictures, folders, videos, streams or cameras.

    %(prog)s                                         # the bundled samples
    %(prog)s --image photo.jpg folder/ 'more/*.png'  # one line per plate, annotated pictures in outputs/
    %(prog)s --image folder/ --json plates.jsonl     # one JSON object per picture
    %(prog)s --video clip.mp4                        # or rtsp://..., or --camera 0

Exit status: 0 all inputs done, 1 some failed, 2 wrong usage or missing weights.
"""


def add_reader_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags, beside ``--device``, of what ``make_reader`` makes."""
    add_pyramid_arguments(parser)
    parser.add_argument("--backend", choices=BACKENDS, default="torch",
                        help="onnx: onnxruntime runs the nets, on the CPU")
    parser.add_argument("--min_confidence", type=float, default=0.0, metavar="P",
                        help="leave out plates whose text is less sure (0 to 1); of videos, when all frames are over")
    parser.add_argument("--details", action="store_true",
                        help="also tell the plates' colours and, in JSON lines, their corners, how sure each symbol "
                             "is, and what else a text may be")
    weights = parser.add_argument_group("weights")
    for net, path in BACKENDS["torch"].items():
        weights.add_argument(f"--{net}", type=Path, metavar="FILE",
                             help=f"default: {for_help(path)}; with --backend onnx: {for_help(BACKENDS['onnx'][net])}")
    weights.add_argument("--colour", type=Path, default=COLOUR_WEIGHTS, metavar="FILE", help="of --details")


def nets_of(args: argparse.Namespace) -> dict[str, Path]:
    """The files of the four nets that the flags name."""
    return {net: getattr(args, net) or path for net, path in BACKENDS[args.backend].items()}


def make_reader(args: argparse.Namespace, doubtful: bool = False, of_frames: bool = False) -> PlateReader:
    """The reader that the flags describe, ``doubtful`` as for ``PlateReader``. Raises UserError as ``PlateReader``.

    That ``of_frames`` of videos leaves out nothing by ``--min_confidence``: one frame is less sure than all are.
    """
    if args.backend == "onnx" and args.device not in ("auto", "cpu"):
        raise UserError(f"--backend onnx runs on the CPU, not on {args.device}; leave out --device")
    nets = nets_of(args)
    for path in nets.values():
        if args.backend == "onnx" and not is_onnx(path):
            raise UserError(f"--backend onnx takes ONNX files, which end in .onnx, not {path}; export it "
                            "(MTCNN/export_onnx.py, LPRNet/export_onnx.py) and name what that writes")
    device = join(pick_device("cpu" if args.backend == "onnx" else args.device))
    check_range(args, "min_confidence", 0, 1)
    if args.colour != COLOUR_WEIGHTS and not args.details:
        raise UserError("--colour is of --details; add that, or leave it out")
    reader = PlateReader(device, args.mini_lp, args.scale, pnet=nets["pnet"], onet=nets["onet"],
                         lprnet=nets["lprnet"], stn=nets["stn"], details=args.details, colour=args.colour,
                         doubtful=doubtful, min_confidence=0.0 if of_frames else args.min_confidence)
    hand_back_files()
    return reader


def camera_number(text: str) -> int:
    """The type of ``--camera``, for argparse."""
    if not 0 <= int(text) < MOST_CAMERAS:
        raise argparse.ArgumentTypeError("cameras count from 0")
    return int(text)


def find_videos(entries: Sequence[str], output: Path | None) -> list[str]:
    """The videos of files, folders, patterns and lists, but for annotated ones; an address is itself, in a list too,
    unless it is a file's.

    An entry without any is passed on as it is, so that opening it reports it; UserError where no other one is named,
    and for a list that cannot be read.
    """
    videos, problems = [], []
    entries = list(map(local_path, entries))
    entries = [entry for entry in entries if not is_same_folder(entry, output)] or entries  # as for pictures
    for entry in entries:
        if entry.lower().endswith(".txt") and os.path.isfile(entry):
            videos += [line if is_live(line) else str(Path(line)) for line in map(local_path, read_lines(entry))]
            continue
        try:
            videos += [entry] if is_live(entry) else map(str, expand_inputs([entry], output, VIDEOS))
        except UserError as error:
            problems.append(error)
            videos.append(entry)
    if problems and len(problems) == len(entries):
        raise problems[0]
    return videos


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=HelpFormatter)
    add_arguments(parser, default="the bundled samples", output="outputs, unless there is --json")
    parser.add_argument("--video", nargs="+", action="extend", metavar="PATH",
                        help="videos, folders, patterns, lists, or addresses of streams")
    parser.add_argument("--camera", type=camera_number, metavar="N",
                        help="number of a camera; q in its window or Ctrl-C stops")
    parser.add_argument("--every", type=int, default=1, metavar="N",
                        help="look only at every Nth frame of a video, stream or camera")
    parser.add_argument("--reconnect", action="store_true",
                        help="try to open a stream or camera again when it is away, until Ctrl-C")
    parser.add_argument("--crops", type=Path, metavar="DIR",
                        help="of videos: write a picture of each plate, and a table of their texts, there")
    parser.add_argument("--boxes", nargs="+", action="extend", type=Path, default=[], metavar="FILE",
                        help=f"count what is found, and what is read where a column text tells it, by {BOXES_HELP}")
    parser.add_argument("--hide", action="store_true",
                        help="make the plates unreadable in the pictures and videos written or shown, instead of their "
                             "frames and texts; also what is only perhaps a plate")
    parser.add_argument("--show", action="store_true", help="open a window for every result")
    add_reader_arguments(parser)
    return parser.parse_intermixed_args()


def of_videos(args: argparse.Namespace) -> bool:
    """Whether videos are read, not pictures."""
    return bool(args.video) or args.camera is not None


def check_inputs(args: argparse.Namespace) -> None:
    """UserError for inputs that exclude each other or are no pictures by name, for flags that would have no effect, and
    for results in a video's place."""
    videos = of_videos(args)
    if videos and (args.image or args.resume or args.boxes or args.wrong):
        raise UserError("--image, --resume, --boxes and --wrong exclude --video and --camera; run them one after the "
                        "other")
    if not videos and (args.every != 1 or args.reconnect):
        raise UserError("--every and --reconnect are for videos; leave them out")
    if args.crops and not videos:
        raise UserError("--crops is for videos; MTCNN/data_set/boxes_of_results.py and LPRNet/data/crops_of_boxes.py "
                        "cut the plates out of pictures")
    if args.crops and args.hide:
        raise UserError("--crops keeps pictures of what --hide makes unreadable; leave one of them out")
    results_place(args.json, args.video or (), args.output)  # videos may be a list of them
    if args.hide and args.json and not args.output and not args.show:
        raise UserError("--hide is for pictures and videos; name a folder for them with --output DIR")
    check_range(args, "every", 1)
    for entry in args.image or []:
        if "://" in entry or (entry.lower().endswith(VIDEOS) and not os.path.isdir(entry)):
            raise UserError(f"{source_name(entry)} is a video or an address; name it with --video, or save it if it is "
                            "a picture")


def main() -> int:
    args = parse_arguments()
    check_inputs(args)
    truth = plates_of_tables(args.boxes)
    reader = make_reader(args, doubtful=args.hide, of_frames=of_videos(args))
    score = Score(truth, reader.recogniser.alphabet.symbols) if args.boxes else None
    written = args.output or OUTPUTS  # also by a run before: no input
    output = None if args.json and not args.output else written
    if of_videos(args):
        cameras = [] if args.camera is None else [args.camera]
        rules = dataclasses.replace(RULES, least=args.min_confidence)
        return run_video(find_videos(args.video or [], written) + cameras, reader.read, args.json, output,
                         show=args.show, every=args.every, hide=args.hide, reconnect=args.reconnect, rules=rules,
                         crops=args.crops)
    settings = (*nets_of(args).values(), args.mini_lp, args.scale, args.colour if args.details else None, args.hide,
                args.min_confidence)
    return run_pictures(args.image or [samples_from_here()], lambda image, _: reader.read(image), args.json, output,
                        show=args.show, resume=args.resume, settings=settings, score=score, wrong=args.wrong,
                        hide=args.hide, leave_out=written)


def command() -> None:
    """The installed command ``read-plates``."""
    run_script(main, at_once=True)


if __name__ == "__main__":
    command()
