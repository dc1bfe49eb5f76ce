"""The one trainer of both detector nets; Train_Pnet.py and Train_Onet.py differ in their configuration alone."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from MTCNN import paths
from MTCNN.train.augment import prepare
from MTCNN.train.dataset import Batch, SampleList
from MTCNN.train.losses import box_loss, box_overlaps, class_loss
from platekit import distributed
from platekit.arguments import HelpFormatter, command_line, flags_of
from platekit.checkpoints import load_weights, save_weights
from platekit.devices import pick_device
from platekit.errors import UserError
from platekit.files import file_fingerprint
from platekit.training import Run, Settings, add_training_arguments, check_run, seed_everything, start_weights


@dataclass(frozen=True)
class Recipe:
    """What distinguishes the training of one net from the other's."""

    name: str  # "pnet" or "onet"
    net: Callable[[], nn.Module]
    size: tuple[int, int]  # height, width of the input
    weights: Path  # where the trained weights go
    epochs: int
    batch_size: int
    learning_rate: float
    box_weight: float  # of the box loss against the class loss
    next_step: str  # {weights} stands for the flag that names the new weights
    own_next_step: str  # the same after lists of a table's photos; {photos}: those validated on


def sample_loss(net: Callable, batch: Batch, device: torch.device, recipe: Recipe, box: str,
                batch_size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of a batch and its parts; a short batch counts by its samples, not like a full one."""
    batch = batch.to(device)
    pixels = prepare(batch.pixels) if batch.pixels.dtype == torch.uint8 else batch.pixels
    offsets, logits = net(pixels.contiguous(memory_format=torch.channels_last))
    offsets, logits = offsets.flatten(1), logits.flatten(1)  # PNet answers with maps of 1x1
    classes = class_loss(logits, batch.labels)
    boxes = box_loss(offsets, batch.offsets, batch.labels, box)
    share = len(batch.labels) / batch_size
    return (classes + recipe.box_weight * boxes) * share, {"class_loss": classes.detach(), "box_loss": boxes.detach()}


@torch.inference_mode()
def evaluate(net: nn.Module, data: SampleList, device: torch.device, chunk: int = 1024) -> dict[str, float]:
    """Figures of a net in evaluation mode over a list.

    ``precision``: the average precision of positives among negatives; ``recall_99``: the share of positives that score
    above 99 % of the negatives; ``iou``: the mean overlap after correction of positives and parts; ``score``:
    precision + iou, which chooses the best epoch.
    """
    probabilities, overlaps = [], []
    for indices in np.array_split(np.arange(len(data)), max(1, len(data) // chunk)):
        batch = data.collate([(index, 0) for index in indices.tolist()]).to(device)
        offsets, scores = net(batch.pixels.contiguous(memory_format=torch.channels_last))
        offsets, scores = offsets.flatten(1), scores.flatten(1)[:, 1]
        probabilities.append(scores.cpu())
        boxed = batch.labels != 0
        overlaps.append(box_overlaps(offsets[boxed], batch.offsets[boxed]).cpu())
    scores, labels = torch.cat(probabilities), data.labels
    positives, negatives = scores[labels == 1], scores[labels == 0]
    figures = {"precision": average_precision(positives, negatives), "iou": torch.cat(overlaps).mean().item()}
    if len(negatives):
        limit = negatives.sort(descending=True).values[len(negatives) // 100]
        figures["recall_99"] = (positives > limit).float().mean().item()
    return {**figures, "score": figures["precision"] + figures["iou"]}


def average_precision(positives: torch.Tensor, negatives: torch.Tensor) -> float:
    """Area under the precision-recall curve of scores (N,) and (M,); ties count against the net."""
    if not len(positives):
        return 0.0
    order = positives.sort(descending=True).values
    above = len(negatives) - torch.searchsorted(negatives.sort().values, order)  # negatives at least as high
    rank = torch.arange(1, len(order) + 1)
    return (rank / (rank + above)).mean().item()


def parse_arguments(recipe: Recipe, description: str, arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line of both training scripts."""
    parser = argparse.ArgumentParser(description=description, formatter_class=HelpFormatter)
    data = parser.add_argument_group("data")
    data.add_argument("--list_train", type=Path, default=paths.list_file(recipe.name, "train"), metavar="FILE",
                      help="the samples to train on")
    data.add_argument("--list_val", type=Path, default=paths.list_file(recipe.name, "val"), metavar="FILE",
                      help="chooses the best epoch")
    net = parser.add_argument_group("net")
    net.add_argument("--box_loss", choices=("l1", "ends"), default="l1",
                     help="ends: an end that is cut off counts more")
    net.add_argument("--weights", type=Path, metavar="FILE", help="start from these weights")
    net.add_argument("--save", type=Path, default=recipe.weights, metavar="FILE", help="where the best weights go")
    add_training_arguments(parser, recipe.epochs, recipe.batch_size, recipe.learning_rate, paths.RUNS / recipe.name, 0)
    args = parser.parse_args(arguments)
    check_run(args, [args.save], [args.weights] if args.weights else [])
    return args


def train(recipe: Recipe, args: argparse.Namespace) -> nn.Module:
    """Train by the recipe and the options of ``parse_arguments``; write and return the best epoch's averaged net."""
    seed_everything(args.seed)
    device = distributed.join(pick_device(args.device))
    training = SampleList(args.list_train, augment=True, size=recipe.size, raw=device.type == "cuda")
    validation = SampleList(args.list_val, augment=False, size=recipe.size)
    for data in (training, validation):
        if not (data.labels == 1).any():
            raise UserError(f"{data.path} has no positive samples; assemble it of photos with plates")
    if shared := training.photos & validation.photos:
        raise UserError(f"{args.list_train} and {args.list_val} share {len(shared)} photos, such as {min(shared)}; "
                        "assemble one of them of other photos, since the best epoch is chosen by them")
    print(f"{len(training)} training samples from {args.list_train}, {len(validation)} to validate on")
    net = recipe.net()
    if args.weights:
        load_weights(net, args.weights)
    steps = math.ceil(len(training) / args.batch_size) * args.epoch
    settings = Settings(epochs=args.epoch, batch_size=args.batch_size, learning_rate=args.learning_rate,
                        warmup_steps=min(200, steps // 10), average_decay=0.998,
                        bfloat16=not args.float32, seed=args.seed)
    run = Run(args.run, net.to(memory_format=torch.channels_last), settings, device,
              facts={"box_loss": args.box_loss, "samples": len(training),
                     "list of samples": file_fingerprint(args.list_train),
                     "list of validation samples": file_fingerprint(args.list_val),
                     "start weights": start_weights([args.weights] if args.weights else [], [args.save])},
              save_seconds=args.save_seconds)
    if run.resume(args.restart):
        print(f"going on from step {run.step} of {run.last}")
    loss = partial(sample_loss, device=device, recipe=recipe, box=args.box_loss, batch_size=args.batch_size)
    best = run.train(training, training.collate, loss, partial(evaluate, data=validation, device=device),
                     workers=args.workers, trained=args.weights is not None)
    if distributed.rank():
        return best
    save_weights(args.save, best, {"epochs": args.epoch, "samples": len(training), "seed": args.seed})
    weights = " ".join(["", *flags_of({f"--{recipe.name}": (args.save, recipe.weights)})])
    photos = command_line(validation.photo_lists) or "PHOTOS"
    step = recipe.own_next_step if training.are_of_a_table else recipe.next_step
    next_step = step.format(weights=weights, photos=photos)
    print(f"wrote {args.save} (score {run.best:.4f})\nnext: {next_step}")
    return best
