"""The training loop of PNet, ONet and LPRNet: schedule, mixed precision, weight averaging, logs and exact resume.

Everything random in a run follows from the seed and the step: the order of an epoch, each sample's augmentation
(the data set gets a seed with every index) and dropout. A run that was killed and goes on from its last checkpoint
therefore ends with the same weights as one that was not (on the CPU, by one thread: several sum in any order). Several
processes (platekit/distributed.py) train as one does, up to rounding and what is drawn for a share and not for a
sample: dropout, and a detector batch's colours.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import dataclasses
import json
import math
import random
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from platekit import distributed
from platekit.arguments import add_seed, check_range
from platekit.checkpoints import check_save, read_content, save_checkpoint
from platekit.devices import add_device, trains_in_bfloat16
from platekit.errors import UserError
from platekit.files import alone_in, file_fingerprint, real_path, write_text
from platekit.loaders import check_shared_memory, check_workers, ignore_signals
from platekit.memory import keep_freed_memory
from platekit.muon import Muon, is_inner
from platekit.revision import code_revision
from platekit.signals import stop_on_signal

LAST, BEST = "last.pth", "best.pth"  # in a run's folder: to go on from, and of the best epoch so far
SAVE_SECONDS = 120  # between two checkpoints inside an epoch
Net = TypeVar("Net", bound=nn.Module)
Key = tuple[int, int]  # what a data set is indexed with: the sample's index, and the seed of its augmentation
Loss = Callable[[Callable[..., Any], Any], tuple[torch.Tensor, Mapping[str, torch.Tensor | float]]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the outcome of a run, beside the data; kept in its checkpoints."""

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 1e-4
    warmup_steps: int = 300
    clip_norm: float = 5.0
    average_decay: float = 0.999  # of the running average of the weights that is evaluated and kept
    bfloat16: bool = True  # autocast to it, where the device gains by it
    seed: int = 0

    def learning_rate_at(self, step: int, steps: int) -> float:
        """Linear warm-up, then a half cosine down to 0 at ``steps``, and 0 ever after."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = min(1.0, (step - self.warmup_steps) / max(1, steps - self.warmup_steps))
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


class EpochBatches(Sampler[list[Key]]):
    """Batches of one epoch's keys: every index once, in an order and with seeds that depend on (seed, epoch) alone.

    Of ``world`` processes each takes every ``world``-th key of a batch; one that would have none takes the first.
    """

    def __init__(self, size: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        self.size, self.batch_size, self.seed, self.rank, self.world = size, batch_size, seed, rank, world
        self.epoch, self.first = 0, 0

    def __len__(self) -> int:
        return math.ceil(self.size / self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        keys = np.stack([rng.permutation(self.size), rng.integers(2**62, size=self.size)], axis=1)
        for batch in range(self.first, len(self)):
            whole = keys[batch * self.batch_size:(batch + 1) * self.batch_size].tolist()
            yield [tuple(key) for key in whole[self.rank::self.world] or whole[:1]]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def add_training_arguments(parser: argparse.ArgumentParser, epochs: int, batch_size: int, learning_rate: float,
                           run: Path, workers: int) -> None:
    """The flags that these trainings have, with their defaults; ``check_run`` looks at them."""
    learning = parser.add_argument_group("learning")
    learning.add_argument("--epoch", type=int, default=epochs, help="epochs")
    learning.add_argument("--batch_size", type=int, default=batch_size, help="samples of a step")
    learning.add_argument("--learning_rate", type=float, default=learning_rate, help="at its peak")
    learning.add_argument("--float32", action="store_true", help="no mixed precision; it is used only if faster")
    add_seed(learning, "of all that is random")
    running = parser.add_argument_group("running")
    running.add_argument("--run", type=Path, default=run, metavar="DIR",
                         help="folder of checkpoints and logs")
    running.add_argument("--restart", action="store_true", help="start anew; without it a run that was stopped goes on")
    running.add_argument("--save_seconds", type=float, default=SAVE_SECONDS, metavar="N",
                         help="seconds between checkpoints within an epoch; one is written after every epoch anyway")
    running.add_argument("--workers", type=int, default=workers, help="loader processes")
    add_device(running)


def check_run(args: argparse.Namespace, save: Sequence[Path], weights: Iterable[str | Path] = ()) -> None:
    """Before a training from these weights: UserError for values with which nothing can be trained, for weights that
    the run replaces, and as ``check_save``."""
    for flag in ("epoch", "batch_size"):
        check_range(args, flag, 1)
    if not 0 < args.learning_rate < math.inf:
        raise UserError(f"--learning_rate must be above 0, not {args.learning_rate}")
    for flag in ("workers", "save_seconds"):
        check_range(args, flag, 0)
    for path in weights:
        if real_path(path) in [real_path(args.run / name) for name in (LAST, BEST)]:
            raise UserError(f"--weights {path} is a file that this training replaces; copy it elsewhere first, or name "
                            "another --run")
    check_save(save)


def start_weights(weights: Iterable[str | Path], save: Iterable[str | Path]) -> str:
    """The fingerprints of the weights a run started from, for its facts. Files that ``save`` replaces are left out: at
    the end of the run they have another content."""
    replaced = [Path(path).resolve() for path in save]
    return " ".join(file_fingerprint(path) for path in weights if Path(path).resolve() not in replaced)


def stopped(signals: list[int]) -> BaseException:
    """What ends a training after a signal, when its checkpoint is written."""
    return KeyboardInterrupt() if signals[0] == signal.SIGINT else SystemExit(128 + signals[0])


def optimizers_of(net: nn.Module, settings: Settings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of inner layers, AdamW for all other weights."""
    inner = [weight for weight in net.parameters() if is_inner(weight)]
    others = [weight for weight in net.parameters() if not is_inner(weight)]
    rate, decay = settings.learning_rate, settings.weight_decay
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(others, rate, weight_decay=decay, fused=True)]
    if inner:
        optimizers.append(Muon(inner, rate, decay))
    return optimizers


class Run(Generic[Net]):
    """One training in its folder: ``last.pth`` to go on from, ``best.pth``, ``log.jsonl``.

    ``loss(net, batch)`` returns the scalar to minimise and figures to log; ``evaluate(net)`` returns figures of the
    averaged net, of which ``score`` (higher is better) chooses the best. ``data[index, seed]`` gives a sample, and
    ``collate`` makes a batch of a list of them: a tuple of tensors, the net's input first.
    """

    def __init__(self, folder: str | Path, net: Net, settings: Settings, device: torch.device,
                 facts: dict[str, Any] | None = None, save_seconds: float = SAVE_SECONDS) -> None:
        self.folder, self.net, self.settings, self.device = Path(folder), net.to(device), settings, device
        self.last, self.best_path = self.folder / LAST, self.folder / BEST
        keep_freed_memory()
        distributed.share_batch_norm(net)
        self.facts = facts or {}
        self.revision = code_revision()  # now: the files may be others before the first epoch ends
        self.restarted = False
        self.save_seconds = save_seconds
        self.bfloat16 = settings.bfloat16 and trains_in_bfloat16(device)
        self.optimizers = optimizers_of(net, settings)
        self.average = copy.deepcopy(self.net)
        self.step, self.best, self.saved = 0, -math.inf, 0.0
        self.log: list[dict[str, Any]] = []
        self.sums: dict[str, float] = {}

    @property
    def best_so_far(self) -> str:
        """Where the best weights so far are, behind an error."""
        return f" ({self.best_path} has the best weights so far)" if self.best_path.exists() else ""

    def resume(self, restart: bool = False) -> bool:
        """Go on from ``last.pth`` where there is one; UserError when it belongs to another training."""
        self.restarted = restart
        if restart or not self.last.exists():
            return False
        try:
            state = read_content(self.last)
        except UserError as error:
            raise UserError(f"{error}, or start anew with --restart") from None
        # facts first: settings follow from them
        for name, ours in (("facts", self.facts), ("settings", dataclasses.asdict(self.settings))):
            theirs = state.get(name, {})
            if "half" in theirs:  # as it was called at first
                theirs = {"bfloat16": theirs["half"], **theirs}
            # What is not there was not noted yet when the training began.
            differing = [f"{key} ({str(theirs[key])[:20]}, now {str(value)[:20]})" for key, value in ours.items()
                         if key in theirs and theirs[key] != value]
            if differing:
                raise UserError(f"{self.last} comes from a training with another {' and '.join(differing)}; name "
                                f"another folder (--weights {self.best_path} goes on from its weights), or start anew "
                                "with --restart")
        try:
            self.net.load_state_dict(state["net"])
            self.average.load_state_dict(state["average"])
            for optimizer, its_state in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(its_state)
            self.step, self.best, self.log, self.sums = (state[key] for key in ("step", "best", "log", "sums"))
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(f"{self.last} does not fit this network ({str(error).splitlines()[0]}); name another "
                            "folder, or start anew with --restart") from None
        if self.log and not self.best_path.exists():  # which is read at the end of the training
            raise UserError(f"{self.best_path} is missing, the best weights so far; put it back beside {self.last}, or "
                            "start anew with --restart")
        return True

    def state(self) -> dict[str, Any]:
        """All that is needed to go on."""
        return {"net": self.net.state_dict(), "average": self.average.state_dict(), "best": self.best,
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers], "step": self.step,
                "log": self.log, "sums": self.sums, "settings": dataclasses.asdict(self.settings), "facts": self.facts}

    def save(self) -> None:
        """Write the checkpoint to go on from."""
        save_checkpoint(self.last, self.state())
        self.saved = time.monotonic()

    def train(self, data: Dataset, collate: Callable, loss: Loss, evaluate: Callable[[Net], dict[str, float]],
              workers: int = 0, trained: bool = False) -> Net:
        """Train to the end of the last epoch; return the averaged net of the best epoch, in process 0.

        A net that is ``trained`` already is one to choose from too: what it was before the first epoch.
        """
        only_run = alone_in(self.folder) if distributed.rank() == 0 else contextlib.nullcontext()
        with only_run, distributed.together(), stop_on_signal() as signals:
            if int(distributed.total(torch.tensor(self.step))) != self.step * distributed.world():
                raise UserError(f"process {distributed.rank()} would go on from step {self.step}, others from another; "
                                "give all machines the same --run folder, on a disk that they share")
            begins = not self.step and not self.log and distributed.rank() == 0
            if begins and self.last.exists():
                self.save()  # a kill from here on must not bring back the training that this one replaces
                self.best_path.unlink(missing_ok=True)
            if begins and trained:
                figures = evaluate(self.average.eval())
                if figures["score"] > 0:  # there is something to keep
                    self.finish_epoch({"epoch": 0, "step": 0, **figures, "revision": self.revision})
            try:
                self.train_epochs(data, collate, loss, evaluate, workers, signals)
            except RuntimeError:  # of another process that is lost
                if signals:
                    raise stopped(signals) from None
                raise
            distributed.wait_for_all()  # for process 0 to have written the last epoch
        if distributed.rank():  # which may be on another machine
            return self.average.eval()
        best = read_content(self.best_path)
        self.average.load_state_dict(best["net"])
        if best["epoch"] == 0:
            print(f"no epoch was better than the weights it began with (score {self.best:.4f}), which are kept; "
                  "a lower --learning_rate may do better")
        return self.average.eval()

    def train_epochs(self, data: Dataset, collate: Callable, loss: Loss,
                     evaluate: Callable[[Net], dict[str, float]], workers: int, signals: list[int]) -> None:
        """All epochs that are left; process 0 evaluates and writes. After one of ``signals`` the step is the last, and
        ends the training, unless it is that of all epochs."""
        rank = distributed.rank()
        size = len(data)  # type: ignore[arg-type]  # torch's Dataset says nothing of it
        batches = EpochBatches(size, self.settings.batch_size, self.settings.seed, rank, distributed.world())
        loader = DataLoader(data, batch_sampler=batches, collate_fn=collate, num_workers=workers,
                            persistent_workers=workers > 0, pin_memory=self.device.type == "cuda",
                            worker_init_fn=ignore_signals)
        steps = len(batches) * self.settings.epochs
        if self.step < steps:
            check_workers(workers)
            check_shared_memory(workers, data, collate, math.ceil(self.settings.batch_size / distributed.world()))
            distributed.wait_for_all()  # before anybody's loader takes some of that memory
        elif rank == 0:
            print(f"{self.last} is the end of this training; --restart trains anew", flush=True)
        self.saved = time.monotonic()
        while self.step < steps:
            batches.epoch, batches.first = divmod(self.step, len(batches))
            started, first = time.monotonic(), batches.first
            self.train_epoch(loader, batches, steps, loss, signals)
            if rank:
                continue
            seconds = max(time.monotonic() - started, 1e-9)
            row = {"epoch": batches.epoch + 1, "step": self.step,
                   "learning_rate": self.settings.learning_rate_at(self.step - 1, steps),
                   **{name: value / len(batches) for name, value in self.sums.items()},
                   **evaluate(self.average.eval()),
                   "samples_per_second": (len(batches) - first) * self.settings.batch_size / seconds,
                   "seconds": seconds, "revision": self.revision}
            self.finish_epoch(row)
            if signals and self.step == steps:
                tqdm.write("all steps are done: the weights are written before this ends", file=sys.stderr)
            elif signals:
                self.tell_stopped(steps)
                raise stopped(signals)

    def train_epoch(self, loader: DataLoader, batches: EpochBatches, steps: int, loss: Loss,
                    signals: list[int]) -> None:
        """The steps of ``batches`` that are left; process 0 saves every ``save_seconds``, and after one of
        ``signals``."""
        rank = distributed.rank()
        self.net.train()
        with tqdm(loader, total=len(batches), initial=batches.first, unit="batch", leave=False, disable=rank > 0,
                  desc=f"epoch {batches.epoch + 1}/{self.settings.epochs}") as progress:
            for batch in progress:
                figures = self.train_step(batch, loss, self.settings.learning_rate_at(self.step, steps))
                for name, value in figures.items():
                    self.sums[name] = self.sums.get(name, 0.0) + value
                self.step += 1
                progress.set_postfix(loss=f"{figures['loss']:.3f}", refresh=False)
                if rank or self.step % len(batches) == 0:  # the end of an epoch is saved with its figures
                    continue
                if signals or time.monotonic() - self.saved >= self.save_seconds:
                    self.save()
                if signals:  # the other processes end with this one: they may be a step behind
                    self.tell_stopped(steps)
                    raise stopped(signals)

    def tell_stopped(self, steps: int) -> None:
        """Say that the checkpoint is written, and what goes on from it."""
        again = "the same command, without --restart," if self.restarted else "the same command"
        tqdm.write(f"stopped and saved after {self.step} of {steps} steps; {again} goes on", file=sys.stderr)

    def train_step(self, batch: Any, loss: Loss, learning_rate: float) -> dict[str, float]:
        """One step of the optimiser; UserError when loss or gradient are not finite, or a GPU's memory is too small:
        the last checkpoint stays as it is."""
        # Dropout depends on the step alone, and differs between processes.
        torch.manual_seed((self.settings.seed * 1_000_003 + self.step + (distributed.rank() << 40)) % 2**63)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate
        try:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                value, figures = loss(distributed.whole_batch(self.net), distributed.gather_labels(batch))
            self.net.zero_grad(set_to_none=True)
            value.backward()
        except torch.OutOfMemoryError:
            raise UserError(f"the GPU's memory is too small at step {self.step}; start anew with another --run and a "
                            f"smaller --batch_size{self.best_so_far}") from None
        distributed.sum_gradients(self.net)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip_norm)
        measured = dict(zip(("loss", "gradient"), torch.stack([value.detach(), norm]).tolist()))  # waits for a GPU once
        for name, number in measured.items():
            if not math.isfinite(number):  # a step would make every weight NaN, and the checkpoint after it
                raise UserError(f"the {name} is {number} at step {self.step}; start anew with another --run and a "
                                f"lower --learning_rate{self.best_so_far}")
        for optimizer in self.optimizers:
            optimizer.step()
        self.update_average()
        return {"loss": measured["loss"], **{name: float(figure) for name, figure in figures.items()}}

    @torch.no_grad()
    def update_average(self) -> None:
        """Move the average to the weights: its memory is short at first, and grows to ``average_decay``."""
        weight = 1 - min(self.settings.average_decay, (1 + self.step) / (10 + self.step)) if self.step else 1.0
        pairs = list(zip(self.average.state_dict().values(), self.net.state_dict().values()))
        averages, currents = zip(*(pair for pair in pairs if pair[0].is_floating_point()))
        torch._foreach_lerp_(averages, currents, weight)
        for average, current in pairs:
            if not average.is_floating_point():
                average.copy_(current)

    def finish_epoch(self, row: dict[str, Any]) -> None:
        """Log the epoch, keep its averaged weights when they are the best so far, then write the checkpoint."""
        self.log.append(row)
        self.sums = {}
        tqdm.write("  ".join(f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                             for name, value in row.items() if name != "revision"))
        # In a draw the later epoch is kept, but never in place of the weights that the training began with.
        start = self.log[0]["score"] if self.log[0]["epoch"] == 0 else -math.inf
        if row["score"] >= self.best and (row["score"] > start or row is self.log[0]):
            self.best = row["score"]
            save_checkpoint(self.best_path, {"net": self.average.state_dict(), "facts": self.facts,
                                             "epoch": row["epoch"], "score": self.best})
        write_text(self.folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in self.log))
        self.save()
