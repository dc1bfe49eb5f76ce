"""Train LPRNet and its spatial transformer together.

    python LPRNet/LPRNet_Train.py                       # the crops that LPRNet/data/preprocess.py made
    python LPRNet/LPRNet_Train.py --img_dirs_train my/crops --img_dirs_val my/other_crops --epoch 40
    python LPRNet/LPRNet_Train.py --alphabet symbols.txt --max_length 9 --img_dirs_train crops --labels crops/labels.csv
    python LPRNet/LPRNet_Train.py --weights LPRNet.pth STN.pth --learning_rate 5e-4 ...   # starts from other weights

A run that was stopped goes on with the same command, without --restart. The weights record the alphabet: reading needs
no flag for it.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import math
import sys
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file: import from the repository root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from LPRNet.alphabet import CHARS, MAX_LENGTH, TIME_STEPS, Alphabet, foreign_texts, read_alphabet
from LPRNet.confidence import cool, fit_temperature, read_right
from LPRNet.data.labels import LABELS_HELP, Labels, read_labels
from LPRNet.data.load_data import LPRDataLoader, crop_box
from LPRNet.data.rendered import build_rendered
from LPRNet.data.training_plates import TrainingPlates, collate_with_corners, share_with_corners
from LPRNet.model.STN import plate_corners, straightening_loss
from LPRNet.model.training import TrainingLPRNet
from LPRNet.paths import CROPS_TRAIN, CROPS_VAL, LPRNET_WEIGHTS, RUN, STN_WEIGHTS, TRAINED
from LPRNet.recogniser import CROPS, LOOKS, Reader, fast_reader, save_reader, transforms
from LPRNet.transfer import start_from
from platekit import distributed
from platekit.arguments import HelpFormatter, ListOf, add_glyphs, check_range, command_line, flags_of, for_help
from platekit.checkpoints import load_weights
from platekit.crops import CROP_SIZE, normalise, upload
from platekit.devices import pick_device
from platekit.errors import UserError, run_script
from platekit.files import file_fingerprint, fingerprint, real_path
from platekit.inputs import find_images
from platekit.paths import must_be_there
from platekit.training import Loss, Run, Settings, add_training_arguments, check_run, seed_everything, start_weights

VIEW_SEED = 7_654_321  # of the first of the hard views that are chosen by
LEAST_TAUGHT = 0.2  # share of the samples with known corners from which on the spatial transformer is trained
LEAST_SAMPLES = 2000  # of an epoch, by default: of few crops the nets see more views of each


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--img_dirs_train", nargs="+", action=ListOf, default=[CROPS_TRAIN], metavar="DIR",
                      help=f"folders of crops named <plate>_<number>.jpg (default: {for_help(CROPS_TRAIN)})")
    data.add_argument("--img_dirs_val", nargs="+", action=ListOf, metavar="DIR",
                      help="folders of crops to choose the best weights by (default: LPRNet/data/val for the training "
                           "crops beside it, otherwise a part of the training plates is set aside)")
    data.add_argument("--labels", nargs="+", action=ListOf, metavar="FILE", default=[], help=LABELS_HELP)
    data.add_argument("--alphabet", metavar="FILE",
                      help="symbols of other plates, one per line or all in one (default: those of Chinese plates)")
    data.add_argument("--max_length", type=int, default=MAX_LENGTH, metavar="N",
                      help=f"symbols a label has at most, up to {TIME_STEPS}")
    data.add_argument("--hold_out", type=float, metavar="SHARE",
                      help="share of the training plates set aside, also to choose the best weights by (default: 0.1, "
                           "or 0 where --img_dirs_val or its default is used)")
    data.add_argument("--rendered_share", type=float, metavar="SHARE",
                      help="share of samples drawn by the generator, which draws Chinese plates (default: 0.5, and 0 "
                           "with an --alphabet that lacks a Chinese province)")
    add_glyphs(data)
    data.add_argument("--epoch_samples", type=int, metavar="N",
                      help="samples per epoch (default: the number of crops divided by the share of real samples, but "
                           f"at least {LEAST_SAMPLES})")
    nets = parser.add_argument_group("nets")
    nets.add_argument("--dropout_rate", type=float, default=0.5, help="of LPRNet")
    nets.add_argument("--straightening", type=float, default=0.2, metavar="WEIGHT",
                      help="weight of the spatial transformer's own loss")
    nets.add_argument("--without", nargs="+", choices=("stn", "sample_norm"), default=[],
                      help="ablations: stn reads crops as they are; sample_norm normalises the global context over the "
                           "batch, to measure only: no weights are written")
    nets.add_argument("--weights", nargs=2, metavar=("LPRNET", "STN"),
                      help="start from these weights, of this or another alphabet; if it has all of theirs, or both "
                           "are Chinese, the transformer finds the plates in crops whose corners are unknown")
    nets.add_argument("--save", nargs=2, type=Path, default=TRAINED, metavar=("LPRNET", "STN"),
                      help=f"where the best weights go (default: {for_help(TRAINED[0])} {for_help(TRAINED[1])})")
    add_training_arguments(parser, epochs=30, batch_size=128, learning_rate=2e-3, run=RUN, workers=1)
    return settled(parser.parse_args())


def settled(args: argparse.Namespace) -> argparse.Namespace:
    """The flags with the defaults that follow from others. UserError for what cannot be, alone or together."""
    args.plates = read_alphabet(args.alphabet, args.max_length) if args.alphabet else Alphabet(CHARS, args.max_length)
    chinese = args.plates.chinese
    if args.rendered_share is None:
        args.rendered_share = 0.5 if chinese else 0.0
    if args.rendered_share and not chinese:
        raise UserError(f"the generator draws Chinese plates; leave out --rendered_share, or name the provinces in "
                        f"{args.alphabet} too")
    if args.rendered_share and args.max_length < MAX_LENGTH:
        raise UserError(f"drawn plates have up to {MAX_LENGTH} symbols; leave out --max_length, or give "
                        "--rendered_share 0")
    if args.glyphs and not args.rendered_share:
        raise UserError("--glyphs is for drawn plates, of which there are none; leave it out, or give --rendered_share")
    if args.epoch_samples is not None:
        check_range(args, "epoch_samples", 1)
    check_run(args, args.save, args.weights or ())
    is_default = list(map(real_path, args.img_dirs_train)) == [real_path(CROPS_TRAIN)]
    if args.img_dirs_val is None and CROPS_VAL.is_dir() and is_default and chinese:
        args.img_dirs_val = [CROPS_VAL]
    if args.hold_out is None:
        args.hold_out = 0.0 if args.img_dirs_val else 0.1
    if not (0 <= args.hold_out < 1 and 0 <= args.rendered_share <= 1 and 0 <= args.dropout_rate < 1):
        raise UserError("--hold_out, --rendered_share and --dropout_rate are shares from 0 to 1, the first and last "
                        "below 1")
    check_range(args, "straightening", 0, 1000)
    if "stn" in args.without:
        args.straightening = 0.0
    if not args.hold_out and not args.img_dirs_val:
        raise UserError("there is nothing to choose the best weights by; give --img_dirs_val or --hold_out")
    if args.rendered_share == 1 and args.epoch_samples is None:
        raise UserError("--rendered_share 1 leaves the number of samples open; give --epoch_samples")
    return args


def split_by_plate(data: LPRDataLoader, share: float, aside: Set[str] = frozenset()
                   ) -> tuple[LPRDataLoader, LPRDataLoader]:
    """Augmented views of one part, and the other part plain, each picture once: the plates of ``aside`` and a ``share``
    of all.

    That share is chosen by hashes of the plates' numbers, so that with more data nearly the same plates are set aside.
    """
    plates = {crop.name.plate for crop in data.crops}
    count = max(1, round(share * len(plates))) if share else 0
    chosen = sorted(plates, key=lambda plate: hashlib.sha256(plate.encode()).digest())[:count]
    aside = aside | set(chosen)
    train = [crop for crop in data.crops if crop.name.plate not in aside]
    if share and not train:
        raise UserError(f"{len(plates)} plates are too few to set {share:.0%} aside; give --img_dirs_val")
    if not train:
        raise UserError(f"all {len(plates)} training plates are in --img_dirs_val too; give other folders")
    plain = list({real_path(crop.path): crop for crop in data.crops if crop.name.plate in aside}.values())
    return data.with_crops(train, augmented=True), data.with_crops(plain, augmented=False)


def build_data(args: argparse.Namespace, alphabet: Alphabet, labels: Labels
               ) -> tuple[TrainingPlates, LPRDataLoader, list[LPRDataLoader]]:
    """The training set, its real crops, and validation sets: crops as they are, and the same crops in hard views."""
    if args.img_dirs_train == [CROPS_TRAIN]:
        must_be_there(args.img_dirs_train, "LPRNet/data/preprocess.py")
    real = LPRDataLoader(args.img_dirs_train, alphabet, augmented=True, labels=labels)
    foreign = foreign_texts([crop.name.plate for crop in real.crops])
    if foreign and alphabet.chars == CHARS:
        raise UserError(f"{len(foreign)} of {len(real)} labels are of no Chinese plate, such as '{foreign[0]}'; list "
                        "the symbols of your plates in a file, and give it with --alphabet")
    given = real.with_crops([], augmented=False)
    if args.img_dirs_val:
        given = LPRDataLoader(args.img_dirs_val, alphabet, labels=labels)
    aside = {crop.name.plate for crop in given.crops}
    if known := sum(crop.name.plate in aside for crop in real.crops):
        print(f"{known} of {len(real)} training crops show plates of --img_dirs_val: they are not trained on, but also "
              "choose the best epoch")
    real, plain = split_by_plate(real, args.hold_out, aside)
    plain = given.joined(plain)
    hard = plain.with_crops(plain.crops, augmented=True)
    size = args.epoch_samples or max(LEAST_SAMPLES, round(len(real) / (1 - args.rendered_share)))
    rendered = build_rendered(args.glyphs, real, alphabet) if args.rendered_share > 0 else None
    return TrainingPlates(real, rendered, size, args.rendered_share), real, [plain, hard]


def reading_loss(alphabet: Alphabet, device: torch.device, straightening: float) -> Loss:
    """The loss of a batch: CTC with as many time steps as the logits have, and ``straightening`` times the STN's own.

    Samples count by their loss per symbol, those without a text as if they had one. CTC alone hardly turns the STN;
    where the corners are known (on every drawn plate) it is told what to do.
    """

    def loss(net: Callable, batch: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        images, labels, lengths, corners = batch
        logits, theta = net(images.to(device, non_blocking=True), with_theta=True)
        log_probs = logits.float().permute(2, 0, 1).log_softmax(dim=2)  # (T, N, class)
        steps = torch.full((len(lengths),), log_probs.shape[0])
        reading = functional.ctc_loss(log_probs, labels, steps, lengths, alphabet.blank, zero_infinity=True)
        turning = straightening_loss(theta, corners.to(device, non_blocking=True), CROP_SIZE)
        return reading + straightening * turning, {"ctc": reading.detach(), "straightening": turning.detach()}

    return loss


@torch.inference_mode()
def find_corners(reader: Reader, picture: np.ndarray) -> np.ndarray:
    """The corners (4, 2) of the plate in a crop, where the spatial transformer takes them to be when reading."""
    theta = transforms(reader.stn, upload(picture), np.array([crop_box(picture)]), LOOKS)
    return plate_corners(theta, picture.shape[:2])[0].numpy()


def all_crops(data: LPRDataLoader) -> torch.Tensor:
    """The crops of a whole data set, of an augmented one always the same views: uint8 (N, 3, 24, 94)."""
    crops = np.empty((len(data), *CROP_SIZE, 3), np.uint8)
    for index in tqdm(range(len(data)), desc="crops to choose by", unit="crop", leave=False):
        crops[index] = data[index, VIEW_SEED + index][0]
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


@torch.inference_mode()
def logits_of(nets: Reader, crops: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The logits (N, class_num, T) of ``all_crops``, on the CPU."""
    reader = fast_reader(nets, device) if nets.lprnet.per_sample else nets  # which is a third as fast on the CPU
    parts = crops.split(CROPS if device.type == "cpu" else 256)
    return torch.cat([reader(normalise(part.to(device))).float().cpu() for part in parts])


def build_nets(args: argparse.Namespace, alphabet: Alphabet, real: LPRDataLoader) -> Reader:
    """The nets to train: new ones, or with the weights that ``--weights`` names.

    Where those weights know no symbol that the alphabet lacks, or both alphabets are Chinese, plates of both are taken
    to be laid out alike: the loaded transformer then finds the corners in the ``real`` crops, and two rows stay
    readable.

    Where hardly any sample tells a plate's corners, or none counts, the spatial transformer is not trained: what it
    learns from the readings alone serves one look, but leads astray over three (of 200 plates 3 were read then, at one
    look all 200).
    """
    reader = Reader(len(alphabet), args.dropout_rate, TrainingLPRNet).to(memory_format=torch.channels_last)
    taught = args.rendered_share + (1 - args.rendered_share) * share_with_corners(real)
    if not args.straightening or taught < LEAST_TAUGHT:  # a new one is the identity
        reader.stn.requires_grad_(False)
    reader.lprnet.per_sample = "sample_norm" not in args.without
    if args.weights:
        theirs = start_from(reader.lprnet, alphabet, args.weights[0])
        alike = set(theirs.symbols) <= set(alphabet.symbols) or (theirs.chinese and alphabet.chinese)
        if alike:
            alphabet.rows = max(alphabet.rows, theirs.rows)
        known = sum(symbol in theirs for symbol in alphabet.symbols)
        print(f"starting from {args.weights[0]}, which knows {known} of {len(alphabet) - 1} symbols", flush=True)
        if "stn" not in args.without:
            load_weights(reader.stn, args.weights[1], "stn")
            if alike:
                real.find_corners(functools.partial(find_corners, reader))
    return reader


def save(reader: Reader, alphabet: Alphabet, args: argparse.Namespace) -> None:
    """Write the trained nets, and print the command that reads crops with them."""
    save_reader(reader, alphabet, *args.save)
    flags = flags_of({"--lprnet": (args.save[0], LPRNET_WEIGHTS), "--stn": (args.save[1], STN_WEIGHTS)})
    if args.img_dirs_val != [CROPS_VAL]:
        flags += [command_line(["--image", *(args.img_dirs_val or ["OTHER_CROPS"])])]
    if args.labels:
        flags += [command_line(["--labels", *args.labels])]
    print(f"wrote {args.save[0]} and {args.save[1]}; next: python LPRNet/LPRNet_Test.py", *flags)


def run_facts(args: argparse.Namespace, alphabet: Alphabet, train: TrainingPlates, real: LPRDataLoader,
              plain: LPRDataLoader) -> dict[str, Any]:
    """What a training that goes on must find as it was, beside its ``Settings``."""
    glyphs = find_images(args.glyphs) if args.glyphs else []
    return {**alphabet.facts, "straightening": args.straightening, "dropout_rate": args.dropout_rate,
            "without": sorted(args.without), "rendered_share": args.rendered_share,
            "number of samples": len(train), "set of glyphs": fingerprint(*map(file_fingerprint, glyphs)),
            "set of crops": fingerprint(*map(str, real.crops)),
            "set of validation crops": fingerprint(*map(str, plain.crops)),
            "start weights": start_weights(args.weights or (), args.save)}


def main() -> None:
    args = parse_arguments()
    seed_everything(args.seed)
    device = distributed.join(pick_device(args.device))
    if "sample_norm" in args.without and distributed.world() > 1:  # each process would have a part of the batch
        raise UserError("--without sample_norm measures in one process; start it without torchrun")
    labels = read_labels(args.labels)
    alphabet = args.plates
    if labels.double:
        alphabet.rows = 2
    train, real, (plain, hard) = build_data(args, alphabet, labels)
    print(f"training on {len(train)} samples an epoch ({train.rendered_count} drawn, the others views of "
          f"{len(real)} crops), choosing by {len(plain)} crops, on {device}", flush=True)
    if named := [crop for crop in real.crops if real_path(crop.path) not in labels]:
        print(f"labels of {len(named)} crops come from file names, such as '{named[0].name.plate}' for "
              f"{named[0].path.name}", flush=True)

    reader = build_nets(args, alphabet, real)
    steps = math.ceil(len(train) / args.batch_size) * args.epoch
    settings = Settings(epochs=args.epoch, batch_size=args.batch_size, learning_rate=args.learning_rate,
                        warmup_steps=min(300, steps // 10), bfloat16=not args.float32, seed=args.seed)
    run = Run(args.run, reader, settings, device, run_facts(args, alphabet, train, real, plain), args.save_seconds)
    if run.resume(args.restart):
        print(f"going on from {run.last}, step {run.step}", flush=True)

    crops_of = functools.cache(all_crops)  # they are the same in every epoch

    def evaluate(net: Reader) -> dict[str, float]:
        figures = {}
        for name, data in (("accuracy", plain), ("accuracy_hard_views", hard)):
            logits = logits_of(net, crops_of(data), device)
            figures[name] = float(read_right(alphabet.classes(logits), data.labels).mean())
        return {**figures, "score": sum(figures.values()) / 2}

    if not distributed.rank():
        for data in (plain, hard):  # one that cannot be read is said now
            crops_of(data)
    loss = reading_loss(alphabet, device, args.straightening)
    best = run.train(train, collate_with_corners, loss, evaluate, args.workers, trained=bool(args.weights))
    if distributed.rank():
        return
    if "sample_norm" in args.without:
        print(f"wrote no weights, since readers normalise per sample; the figures are in {args.run / 'log.jsonl'}")
        return
    temperature = fit_temperature(logits_of(best, crops_of(plain), device), plain.labels, alphabet)
    cool(best.lprnet, temperature)
    print(f"confidence fitted to the validation crops: logits divided by {temperature:.2f}")
    save(best, alphabet, args)
    if not run.best:
        print("these weights read no crop yet: train longer (--epoch, --epoch_samples)")


if __name__ == "__main__":
    run_script(main)
