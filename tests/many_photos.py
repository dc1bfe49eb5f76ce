"""Many photos shared by processes: not one line lost or doubled, kills in between, and the rate beside one process.

    python tests/many_photos.py                   # 20,000 photos, 10 kills, the rate on the first 1,500
    python tests/many_photos.py --kills 0         # the rate alone

Draws small photos (a few large ones among them, in a heap, so that equal shares would be unequal work). Reads the first
of them with main.py by one process with one thread, on one core, and by torchrun, to compare the rates; then all of
them by torchrun, killed at random moments and resumed. Ends with status 1 unless each file has exactly a line an input,
in their order, with the same plates.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from tqdm import tqdm  # noqa: E402

from ccpd.plate_numbers import random_text  # noqa: E402
from ccpd.plates import PlateRenderer  # noqa: E402
from platekit.arguments import add_seed  # noqa: E402
from platekit.opencv import cv2  # noqa: E402
from platekit.parts import numbered_lines  # noqa: E402


def draw_photos(folder: Path, count: int) -> list[Path]:
    """Distinct photos below the folder; every fifth shows a plate."""
    rng, renderer, paths = np.random.default_rng(0), PlateRenderer(), []
    for number in tqdm(range(count), desc="drawing", unit="photo", leave=False, disable=None):
        width, height = (960, 720) if number % 1000 < 10 else (160, 120)
        photo = cv2.resize(rng.integers(0, 200, (6, 8, 3), dtype=np.uint8), (width, height))
        if number % 5 == 0:
            plate = renderer.render(random_text(rng, "blue"), "blue", rng, pixels_per_mm=width / 640)
            top, left = (int(rng.integers(room)) for room in np.subtract(photo.shape[:2], plate.shape[:2]))
            photo[top:top + plate.shape[0], left:left + plate.shape[1]] = plate
        path = folder / f"{number // 1000:03}" / f"{number:07}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imencode(".jpg", photo)[1].tofile(path)
        paths.append(path)
    return paths


def write_list(path: Path, photos: list[Path]) -> Path:
    path.write_text("".join(f"{photo}\n" for photo in photos), "utf-8")
    return path


def command(photos: Path, target: Path, processes: int, *flags: str) -> list[str]:
    """main.py over the list, by so many processes."""
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    return [sys.executable, *start, str(ROOT / "main.py"), "--image", str(photos), "--json", str(target), "--device",
            "cpu", *flags]


def run(photos: Path, target: Path, processes: int, *flags: str, core: int | None = None) -> float:
    """Run to the end, on one core where one is given; the photos a second that main.py reports."""
    done = subprocess.run(command(photos, target, processes, *flags), env=environment(), stdout=subprocess.PIPE,
                          encoding="utf-8", check=True,
                          preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, [core]))
    return float(re.search(r"([\d.]+) a second", done.stdout)[1])


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}


def run_and_kill(photos: Path, target: Path, processes: int, lines: int, everything: bool) -> int:
    """Resume until so many lines more are there, then SIGKILL all processes, or one that reads; the lines there were.

    A killed process takes the others with it: torchrun ends them.
    """
    parts = Path(f"{target}.parts")
    before = count_lines(parts)
    torchrun = subprocess.Popen(command(photos, target, processes, "--resume"), env=environment(),
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while torchrun.poll() is None and count_lines(parts) < before + lines:
        time.sleep(0.01)
    readers = children(torchrun.pid)
    if everything:
        torchrun.kill()
    for reader in readers if everything else random.sample(readers, min(1, len(readers))):
        with contextlib.suppress(ProcessLookupError):  # it may have ended by itself
            os.kill(reader, signal.SIGKILL)
    torchrun.wait()
    return count_lines(parts)


def children(process: int) -> list[int]:
    """The processes that a process has started (Linux)."""
    return [int(child) for thread in Path(f"/proc/{process}/task").glob("*") for child in
            (thread / "children").read_text().split()]


def count_lines(parts: Path) -> int:
    """How many inputs have their line in the parts of a run, whose files come and go meanwhile."""
    numbers = set()
    for path in parts.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            numbers.update(number for number, _ in numbered_lines(path))
    return len(numbers)


def plates_of(target: Path, photos: Path) -> list[list]:
    """The plates of every line; raises AssertionError unless there is exactly a line an input, in order."""
    inputs = photos.read_text("utf-8").splitlines()
    lines = [json.loads(line) for line in target.read_text("utf-8").splitlines()]
    found = [line["image"] for line in lines]
    lost, doubled = len(set(inputs) - set(found)), len(found) - len(set(found))
    print(f"{target.name}: {len(found)} lines for {len(inputs)} photos, {lost} lost, {doubled} doubled, "
          f"{'in order' if found == inputs else 'NOT in order'}, {sum(len(line['plates']) for line in lines)} plates")
    assert found == inputs and not Path(f"{target}.parts").exists()
    return [line["plates"] for line in lines]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="photos (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=1500, help="photos to compare rates on (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2, help="processes of torchrun (default: %(default)s)")
    parser.add_argument("--kills", type=int, default=10, help="kills in between (default: %(default)s)")
    add_seed(parser, "of the moments of the kills (default: %(default)s)")
    args = parser.parse_args()
    random.seed(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = draw_photos(folder, args.count)
        photos, first = write_list(folder / "all.txt", drawn), write_list(folder / "first.txt", drawn[:args.rate])
        one = run(first, folder / "one.jsonl", 1, core=min(os.sched_getaffinity(0)))
        shared = run(first, folder / "shared.jsonl", args.processes)
        print(f"one process with one thread: {one:.1f} photos a second; {args.processes} processes: {shared:.1f}, "
              f"{shared / one:.2f} x")
        plates = plates_of(folder / "one.jsonl", first)
        same = plates_of(folder / "shared.jsonl", first) == plates
        target = folder / "killed.jsonl"
        for kill in range(args.kills):
            lines = random.randint(1, max(1, args.count // (args.kills + 1)))
            there = run_and_kill(photos, target, args.processes, lines, everything=kill % 2 == 0)
            print(f"kill {kill + 1}, of {'all processes' if kill % 2 == 0 else 'one process'}: {there} lines are there")
        if args.kills:
            run(photos, target, args.processes, "--resume")
            same = plates_of(target, photos)[:len(plates)] == plates and same
        print(f"the same plates in all files: {'yes' if same else 'NO'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
