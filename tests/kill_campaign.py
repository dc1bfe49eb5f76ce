"""Kill every long-running script at random moments, run the same command again, and look at what it leaves.

    python tests/kill_campaign.py                # 7 kills of each of the 8 scripts; about ten minutes
    python tests/kill_campaign.py --kills 2 --only Train_Pnet synthesize

A script runs once without a kill, as the reference; then it is started, killed (SIGKILL) and started again, until it
has been killed often enough and has come to its end. After every kill each file with a final name must be whole, and at
the end all files must be the reference's to the bit (of checkpoints: every tensor and number except durations).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch

from platekit.arguments import add_seed

ROOT = Path(__file__).resolve().parents[1]
DURATIONS = ("seconds", "samples_per_second", "revision")
TRAINING = "--epoch 3 --device cpu --save_seconds 0"

# Script, its flags ({out} is what it writes, {name} what another stage wrote), and the stages it needs.
STAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "synthesize": ("ccpd/synthesize.py", "--out {out} --count 14 --size 240 388 "
                   "--subsets ccpd_base ccpd_tilt ccpd_np", ()),
    "split": ("MTCNN/data_set/preprocess.py", "--img_dirs {synthesize} --dir_train {out}/train --dir_val {out}/val "
              "--val_share 0.3 --copy", ("synthesize",)),
    "gen_Pnet": ("MTCNN/data_preprocessing/gen_Pnet_train_data.py", "--dir_train {split}/train --dir_val {split}/val "
                 "--out_train {out}/train --out_val {out}/val --views 14", ("split",)),
    "list_Pnet": ("MTCNN/data_preprocessing/assemble_Pnet_imglist.py", "--samples_train {gen_Pnet}/train "
                  "--samples_val {gen_Pnet}/val --list_train {out}/train.txt --list_val {out}/val.txt", ("gen_Pnet",)),
    "Train_Pnet": ("MTCNN/train/Train_Pnet.py", "--list_train {list_Pnet}/train.txt --list_val {list_Pnet}/val.txt "
                   f"--run {{out}}/run --save {{out}}/pnet --batch_size 256 {TRAINING}", ("list_Pnet",)),
    "gen_Onet": ("MTCNN/data_preprocessing/gen_Onet_train_data.py", "--dir_train {split}/train --dir_val {split}/val "
                 "--out_train {out}/train --out_val {out}/val --views 2 --views_val 1 --pnet {Train_Pnet}/pnet",
                 ("split", "Train_Pnet")),
    "list_Onet": ("MTCNN/data_preprocessing/assemble_Onet_imglist.py", "--samples_train {gen_Onet}/train "
                  "--samples_val {gen_Onet}/val --list_train {out}/train.txt --list_val {out}/val.txt", ("gen_Onet",)),
    "Train_Onet": ("MTCNN/train/Train_Onet.py", "--list_train {list_Onet}/train.txt --list_val {list_Onet}/val.txt "
                   f"--run {{out}}/run --save {{out}}/onet --batch_size 64 {TRAINING}", ("list_Onet",)),
    "crops": ("LPRNet/data/preprocess.py", "--dir_train {split}/train --dir_val {split}/val --out {out}", ("split",)),
    "LPRNet_Train": ("LPRNet/LPRNet_Train.py", "--img_dirs_train {crops}/train --img_dirs_val {crops}/val --run "
                     "{out}/run --save {out}/lprnet.pth {out}/stn.pth --workers 0 --epoch_samples 32 --batch_size 8 "
                     + TRAINING, ("crops",)),
}
KILLED = [name for name in STAGES if not name.startswith("list_")]


@dataclass
class Counts:
    """What a campaign did and found."""

    kills: int = 0
    went_on: int = 0  # runs that found files of a killed one
    files: int = 0  # with a final name, looked at after a kill or at the end
    broken: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lost = "".join(f"\n  {line}" for line in (*self.broken, *self.differing))
        return (f"kills survived: {self.kills}; runs that went on from a killed one's files: {self.went_on}; "
                f"files looked at: {self.files}, broken ones under a final name: {len(self.broken)}, "
                f"not the reference's at the end: {len(self.differing)}{lost}")


def pieces(folder: Path) -> list[Path]:
    """The files with final names below a folder: others are what a killed run left of its work."""
    return sorted(path for path in folder.rglob("*") if path.is_file()
                  and not path.name.endswith((".tmp", ".part", ".partial")) and path.name != "progress.json")


def content(path: Path) -> Any:
    """What a program would read from the file; raises when it is not whole."""
    if path.suffix == ".jsonl":
        return [without_durations(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    if path.suffix == ".json":
        return json.loads(path.read_text("utf-8"))
    if path.suffix == ".pth" or path.suffix == "":
        return without_durations(torch.load(path, weights_only=True))
    if path.suffix == ".npy":
        np.load(path)
    return path.read_bytes()


def without_durations(value: Any) -> Any:
    """Nested values that ``==`` compares, tensors to the bit, without what differs from run to run."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().numpy().tobytes()
    if isinstance(value, dict):
        return {key: without_durations(item) for key, item in value.items() if key not in DURATIONS}
    if isinstance(value, (list, tuple)):
        return [without_durations(item) for item in value]
    return value


def state_of(folder: Path) -> frozenset:
    """Names, sizes and times below a folder; it changes whenever something is written."""
    found = []
    for path in folder.rglob("*"):
        try:
            facts = path.stat()
        except OSError:
            continue
        found.append((str(path), facts.st_size, facts.st_mtime_ns))
    return frozenset(found)


class Campaign:
    """One campaign in a folder of its own: ``reference`` and ``killed`` outputs of every stage."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.folder, self.random, self.counts = folder, random.Random(seed), Counts()

    def place(self, stage: str, kind: str = "reference") -> Path:
        return self.folder / kind / stage

    def start(self, stage: str, kind: str) -> subprocess.Popen:
        """The stage's command; inputs are always the reference's."""
        script, flags, _ = STAGES[stage]
        out = self.place(stage, kind)
        out.mkdir(parents=True, exist_ok=True)
        places = {name: self.place(name) for name in STAGES} | {"out": out}
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        with open(self.folder / "output.txt", "wb") as output:
            return subprocess.Popen([sys.executable, ROOT / script, *flags.format(**places).split()], env=env,
                                    stdout=output, stderr=subprocess.STDOUT, start_new_session=True)

    def watch(self, process: subprocess.Popen, folder: Path) -> Iterator[tuple[float, int]]:
        """Seconds since the start, and changes of the folder so far, until the process ends."""
        started, changes, state = time.monotonic(), 0, state_of(folder)
        while process.poll() is None:
            now = state_of(folder)
            changes, state = changes + (now != state), now
            yield time.monotonic() - started, changes
            time.sleep(0.003)
        said = (self.folder / "output.txt").read_text("utf-8", "replace")
        if process.returncode not in (0, -signal.SIGKILL):
            raise SystemExit(f"the command failed with status {process.returncode}:\n{said[-2000:]}")

    def reference(self, stage: str) -> tuple[float, int]:
        """Run a stage and those it needs without a kill, once; how long it takes and how often its files change."""
        for needed in STAGES[stage][2]:
            if not self.place(needed).exists():
                self.reference(needed)
        return list(self.watch(self.start(stage, "reference"), self.place(stage)))[-1]

    def survive(self, stage: str, kills: int) -> None:
        """Kill a stage ``kills`` times, let it come to its end, and compare."""
        seconds, changes = self.reference(stage)
        out, killed, fresh = self.place(stage, "killed"), 0, True
        while True:
            # By the clock or by what was written: some scripts do all their work in the last tenth of their time.
            limit = self.random.uniform(0.1, 1) * seconds if self.random.random() < 0.3 else float("inf")
            change = self.random.randint(1, max(1, changes)) if limit == float("inf") else sys.maxsize
            process = self.start(stage, "killed")
            for after, seen in self.watch(process, out):
                if killed < kills and (after >= limit or seen >= change):
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    break
            self.counts.went_on += not fresh
            fresh = not pieces(out)
            if process.returncode == -signal.SIGKILL:
                killed += 1
                self.counts.kills += 1
                self.look(out)
                continue
            self.compare(stage)
            if killed >= kills:
                return
            shutil.rmtree(out)
            fresh = True

    def look(self, out: Path) -> None:
        """Every file with a final name must be whole."""
        for path in pieces(out):
            self.counts.files += 1
            try:
                whole = content(path)
                if path.suffix in (".jpg", ".npy", ".txt") and whole != content(self.matching(path)):
                    raise ValueError("it is not the reference's")
            except Exception as error:  # whatever reading a broken file raises
                self.counts.broken.append(f"{path.relative_to(self.folder)}: {error}")

    def matching(self, path: Path) -> Path:
        return self.folder / "reference" / path.relative_to(self.folder / "killed")

    def compare(self, stage: str) -> None:
        """At its end a killed stage must have the reference's files."""
        places = [self.place(stage, kind) for kind in ("reference", "killed")]
        names = [[path.relative_to(place) for path in pieces(place)] for place in places]
        self.counts.differing += [f"{stage}: {name} is there once only" for name in set(names[0]) ^ set(names[1])]
        for name in set(names[0]) & set(names[1]):
            self.counts.files += 1
            if content(places[0] / name) != content(places[1] / name):
                self.counts.differing.append(f"{stage}: {name} differs")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=7, help="of each script (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=KILLED, default=KILLED, metavar="NAME", help=", ".join(KILLED))
    add_seed(parser, "of all that is random")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), options.seed)
        for stage in options.only:
            campaign.survive(stage, options.kills)
            print(f"{stage}: {campaign.counts}", flush=True)
    return int(bool(campaign.counts.broken or campaign.counts.differing))


if __name__ == "__main__":
    sys.exit(main())
