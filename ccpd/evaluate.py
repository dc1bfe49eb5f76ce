"""Evaluate the whole chain by CCPD's protocol, on folders of photos with CCPD names.

    python ccpd/evaluate.py --out evaluation    # what lies below ccpd/, without plates of MTCNN/data_set/ccpd_train
    python ccpd/evaluate.py --data CCPD2019/ccpd_* --out evaluation --release 2019

The folder's name is the subset. A run that was stopped goes on with the same command, where the code, the weights, the
device and the number of threads are the same.

Ablations of the detector, each to a folder of its own:

    python ccpd/evaluate.py --data DIR --out square --aspects 3.92    # PNet's own aspect only, 47:12
    python ccpd/evaluate.py --data DIR --out proposals --rounds 0     # PNet alone
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: import from the repository root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from tqdm import tqdm

from ccpd.annotation import Annotation, has_annotation, parse, plate_of
from ccpd.dataset import find_subsets, listed_names, shows_no_plate, subset_folders
from ccpd.figures import draw_figures, read_training
from ccpd.protocol import ALL, APPROXIMATE_IOU, IOU_THRESHOLD, Outcome
from ccpd.report import write_reports
from MTCNN.detector import ROUNDS
from MTCNN.paths import PHOTOS_TRAIN, PHOTOS_VAL
from MTCNN.pyramid import ASPECTS, add_pyramid_arguments
from platekit.arguments import HelpFormatter, ListOf, add_seed
from platekit.boxes import box_iou, check_inside
from platekit.devices import add_device
from platekit.errors import UserError, run_script
from platekit.files import alone, file_fingerprint, json_line, printable, write_bytes, write_text, writing
from platekit.inputs import find_images, is_same_folder, walk_images
from platekit.pipeline import WEIGHTS, PlateReader
from platekit.results import PictureResult
from platekit.revision import code_revision


def evaluate_photo(reader: PlateReader, path: Path, subset: str, iou_threshold: float) -> Outcome:
    """Run the chain on one photo. Raises UserError for a name that is no annotation and a file that is no picture."""
    annotation = None if shows_no_plate(path) else parse(path)
    result = reader(path)
    if annotation:
        check_inside(path, np.array([annotation.box]), result.height, result.width)
    return outcome_of(result, annotation, str(path), subset, iou_threshold)


def outcome_of(result: PictureResult, annotation: Annotation | None, image: str, subset: str,
               iou_threshold: float = IOU_THRESHOLD) -> Outcome:
    """What came out on the photo called ``image``; the annotation is None where it shows no plate."""
    outcome = Outcome(image, subset, annotation.plate if annotation else None, iou_threshold=iou_threshold,
                      boxes=len(result.plates), detect_ms=result.ms["detect"], recognise_ms=result.ms["recognise"])
    if not result.plates:
        return outcome
    best = result.plates[0]
    iou = box_iou(np.array([best.box]), np.array([annotation.box])).item() if annotation else 0.0
    return dataclasses.replace(outcome, iou=iou, text=best.text, confidence=best.confidence or 0.0,
                               detection_score=best.detection_score or 0.0, box=best.box)


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """The outcomes of an earlier, stopped run by photo; damaged lines, as a last one that was cut off, are left out."""
    outcomes = {}
    if path.exists():
        for line in path.read_bytes().split(b"\n")[:-1]:
            with contextlib.suppress(ValueError, TypeError, OverflowError, RecursionError):
                outcome = Outcome(**json.loads(line))
                if is_sound(outcome):
                    outcomes[outcome.image] = outcome
    return outcomes


def is_sound(outcome: Outcome) -> bool:
    """Whether texts are texts and numbers finite ones. Raises TypeError or OverflowError for some that are not."""
    texts = outcome.image, outcome.subset, outcome.state, outcome.plate, outcome.text
    box = (0, 0, 0, 0) if outcome.box is None else outcome.box
    numbers = (outcome.iou, outcome.iou_threshold, outcome.confidence, outcome.detection_score, outcome.boxes,
               outcome.detect_ms, outcome.recognise_ms, *box)
    return all(isinstance(text, str) for text in texts[:3]) \
        and all(text is None or isinstance(text, str) for text in texts[3:]) \
        and len(box) == 4 and all(map(math.isfinite, numbers))


def note_settings(path: Path, settings: dict[str, Any], restart: bool) -> None:
    """Write what the outcomes beside ``path`` are made with. Raises UserError if earlier ones were made otherwise."""
    text = json.dumps(settings) + "\n"
    if not restart and path.exists() and path.read_bytes() != text.encode("utf-8"):
        raise UserError(f"{path.parent} holds outcomes of other settings or of other code; name another --out, or give "
                        "--restart")
    write_text(path, text)


def file_state(path: Path) -> str:
    """Differs when the file has been written since; empty where there is none."""
    with contextlib.suppress(OSError):
        state = path.stat()
        return f"{state.st_size} {state.st_mtime_ns}"
    return ""


def find_photos(folders: list[Path], leave_out: Path | None = None) -> Iterator[tuple[str, Path]]:
    """(subset, photo) for every photo, once, but for those in the folder ``leave_out``; a folder without photos of CCPD
    names of its own is searched for subsets. Two folders of one name, as of two releases, are two subsets."""
    seen = set()
    places: list[Path] = []
    for folder in map(Path, map(os.path.abspath, folders)):
        holds_subsets = folder.is_dir() and not holds_annotated(folder) and subset_folders(folder)
        places += find_subsets(folder).values() if holds_subsets else [folder]
    places = list(dict.fromkeys(place for place in places if not is_same_folder(place, leave_out)))
    for place in places:
        subset = subset_name(place, places)
        for path in walk_images(place, leave_out):
            if path not in seen:
                seen.add(path)
                yield printable(subset), path


def subset_name(folder: Path, folders: list[Path]) -> str:
    """A folder's name, behind as many of its parents' as tell it from others of that name among the ``folders``."""
    alike = [other for other in folders if other.name == folder.name]
    depth = 2 if folder.name == ALL else 1  # the report has a row of that name
    while len({other.parts[-depth:] for other in alike}) < len(alike):
        depth += 1
    return "/".join(folder.parts[-depth:])


def holds_annotated(folder: Path) -> bool:
    """Whether a photo of a CCPD name lies in the folder itself."""
    with contextlib.suppress(OSError):  # not the user's
        return any(map(has_annotation, os.listdir(folder)))
    return False


def plates_below(folder: Path) -> set[str]:
    """``plate_of`` every photo below a folder."""
    try:
        return set(map(plate_of, find_images(folder)))
    except UserError:  # nothing was split
        return set()


def not_trained_on(leave_out: Path | None = None) -> list[tuple[str, Path]]:
    """What lies below ccpd/, without photos of plates that are in the folder to train on, in whatever photo."""
    photos = list(find_photos(list(find_subsets().values()), leave_out))
    trained, chosen_by = plates_below(PHOTOS_TRAIN), plates_below(PHOTOS_VAL)
    others = [(subset, path) for subset, path in photos if plate_of(path) not in trained]
    if trained:
        print(f"left out {len(photos) - len(others)} photos of plates that are in {PHOTOS_TRAIN}; with --data DIR "
              f"they are kept. {sum(plate_of(path) in chosen_by for _, path in others)} of the other {len(others)} "
              f"show plates of {PHOTOS_VAL}, by which the weights were chosen")
    return others


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument(
        "--data",
        nargs="+",
        action=ListOf,
        type=Path,
        metavar="DIR",
        help="folders of subsets, or folders that hold them (default: what lies below ccpd/ and is not trained on)",
    )
    parser.add_argument("--out", type=Path, default=Path("evaluation"), metavar="DIR", help="for the report")
    parser.add_argument("--release", default="unstated", help="the release of CCPD, for the report: 2018, 2019, ...")
    parser.add_argument(
        "--approximate",
        type=Path,
        metavar="FILE",
        help="names of photos (one per line) with an approximate box: an IoU of 0.5 is enough to count as found",
    )
    parser.add_argument("--training_log", nargs="*", type=Path, default=[], metavar="FILE",
                        help="log.jsonl of trainings, to draw their curves")
    parser.add_argument("--aspects", nargs="+", type=float, default=ASPECTS, metavar="RATIO",
                        help="widths over heights of the pyramid's windows")
    parser.add_argument("--rounds", type=int, choices=range(4), default=ROUNDS,
                        help="rounds of ONet; with 0, PNet's proposals are the result")
    add_pyramid_arguments(parser)
    add_weights(parser)
    parser.add_argument("--restart", action="store_true", help="start anew instead of going on")
    add_device(parser)
    add_seed(parser, "accepted by every script; the bootstrap's is fixed")
    return parser.parse_args()


def add_weights(parser: argparse.ArgumentParser) -> None:
    """The flags of the four nets' weights."""
    for net, path in WEIGHTS.items():
        parser.add_argument(f"--{net}", type=Path, default=path, metavar="FILE", help="weights")


def weights_of(args: argparse.Namespace) -> dict[str, Any]:
    """The files that these flags name, by net."""
    return {net: getattr(args, net) for net in WEIGHTS}


def evaluate(photos: Iterable[tuple[str, Path]], reader: PlateReader, log: Path, done: dict[str, Outcome],
             approximate: set[str]) -> tuple[list[Outcome], list[str]]:
    """The outcomes of all (subset, photo), and what was wrong with the others.

    Each goes to the ``log`` at once; those in ``done`` are taken over, where the photo is still the same file. The
    first one is read twice, since the first time takes longer.
    """
    outcomes, problems, warm = [], [], False
    # without a line that was cut off
    write_bytes(log, b"".join(json_line(dataclasses.asdict(outcome)) for outcome in done.values()))
    with open(log, "ab") as stream:
        for subset, path in tqdm(photos, unit="photo"):
            threshold = APPROXIMATE_IOU if path.name in approximate else IOU_THRESHOLD
            state = file_state(path)
            if (earlier := done.get(str(path))) and earlier.state == state:
                outcomes.append(dataclasses.replace(earlier, iou_threshold=threshold, subset=subset))
                continue
            try:
                if not warm:
                    evaluate_photo(reader, path, subset, threshold)
                    warm = True
                outcome = dataclasses.replace(evaluate_photo(reader, path, subset, threshold), state=state)
            except UserError as error:
                problems.append(str(error))
                continue
            outcomes.append(outcome)
            stream.write(json_line(dataclasses.asdict(outcome)))
            stream.flush()
    return outcomes, problems


def main() -> int:
    args = parse_arguments()
    logs = {log: read_training(log) for log in args.training_log}
    approximate = listed_names(args.approximate) if args.approximate else set()
    photos = list(find_photos(args.data, args.out)) if args.data else not_trained_on(args.out)
    weights = weights_of(args)
    reader = PlateReader(args.device, args.mini_lp, args.scale, rounds=args.rounds, aspects=args.aspects, **weights,
                         doubtful=args.rounds == 0)  # the limits are of ONet's scores
    with writing(args.out):
        args.out.mkdir(parents=True, exist_ok=True)
    settings = {"rounds of ONet": args.rounds, "aspects": list(args.aspects),
                "smallest plate": list(args.mini_lp), "scale": args.scale,
                "weights": {net: file_fingerprint(path) for net, path in weights.items()},
                "device": f"{reader.detector.device}, {torch.get_num_threads()} threads", "revision": code_revision()}
    with alone(args.out):
        note_settings(args.out / "settings.json", settings, args.restart)
        log = args.out / "outcomes.jsonl"
        done = {} if args.restart else read_outcomes(log)
        outcomes, problems = evaluate(photos, reader, log, done, approximate)
    if not outcomes:
        others = f", and so on for {len(problems) - 1} others" if problems[1:] else ""
        raise UserError("no photo could be evaluated: " + (f"{problems[0]}{others}" if problems else
                                                           "name folders of photos with CCPD names, and another --out"))
    facts = {"release": args.release, "folders": printable(", ".join(map(str, args.data or ["ccpd"]))),
             "photos": len(outcomes), "unreadable or wrongly named": len(problems),
             "of an approximate box": sum(outcome.iou_threshold == APPROXIMATE_IOU for outcome in outcomes), **settings}
    if approximate and not facts["of an approximate box"]:
        print(f"none of the {len(approximate)} names in {args.approximate} is of a photo here, such as "
              f"{min(approximate)}", file=sys.stderr)
    write_reports(args.out, outcomes, facts)
    draw_figures(args.out, outcomes, reader, logs)
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    print((args.out / "report.md").read_text(encoding="utf-8"))
    print(f"report, pictures and every photo's outcome (outcomes.jsonl) written to {args.out}")
    return 1 if problems else 0


if __name__ == "__main__":
    run_script(main)
