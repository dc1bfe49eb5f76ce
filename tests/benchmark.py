"""How fast everything is, beside a plain implementation and beside what the machine could do at best.

    python tests/benchmark.py                                 # all sections, a table each, and benchmark.json
    python tests/benchmark.py --sections stages --threads 2   # one section with 2 threads

The floor of a figure is its multiply-adds over the rate of a large float32 matrix product with the same threads, or the
bytes it must read and write over the bandwidth of a copy where that is longer; both are measured in the same section.
Tasks are run in turns, and a figure is the median over the rounds, the first excepted. Needs no data.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ccpd.annotation import parse
from ccpd.plates import PlateRenderer
from ccpd.scenes import render_photo
from ccpd.views import POSES
from LPRNet.alphabet import Alphabet
from LPRNet.data.load_data import LPRDataLoader
from LPRNet.data.rendered import RenderedPlates, Scene
from LPRNet.data.training_plates import collate_with_corners
from LPRNet.LPRNet_Train import reading_loss
from LPRNet.model.training import TrainingLPRNet
from LPRNet.recogniser import Reader
from MTCNN.data_preprocessing.choosers import ONetWindows, PNetWindows
from MTCNN.data_preprocessing.generate import ViewSamples
from MTCNN.data_preprocessing.photos import read_photos
from MTCNN.data_preprocessing.windows import Counts
from MTCNN.model.MTCNN_nets import ONET_SIZE, PNET_SIZE
from MTCNN.paths import PNET_WEIGHTS
from MTCNN.pyramid import make_sheets, plan_levels
from MTCNN.train import Train_Onet, Train_Pnet
from MTCNN.train.dataset import Batch
from MTCNN.train.trainer import sample_loss
from platekit.drawing import draw_plates
from platekit.images import read_image, write_image
from platekit.opencv import cv2
from platekit.paths import ROOT, SAMPLES
from platekit.pipeline import PlateReader
from platekit.training import Run, Settings
from tests.plain import PlainReader, with_published_pools

Rows = list[dict[str, str | float | None]]
CPU = torch.device("cpu")
PHOTOS = sorted(SAMPLES.glob("*.jpg"))


def medians(tasks: dict[Hashable, Callable[[], object]], seconds: float, rounds: int = 4) -> dict[Hashable, float]:
    """Milliseconds of each task: all in turns, ``rounds`` times at least and until the time is over."""
    times: dict[Hashable, list[float]] = {key: [] for key in tasks}
    end, number = time.perf_counter() + seconds, 0
    while number < rounds or time.perf_counter() < end:
        for key, task in tasks.items():
            start = time.perf_counter()
            task()
            times[key].append((time.perf_counter() - start) * 1000)
        number += 1
    return {key: statistics.median(values[1:]) for key, values in times.items()}


def multiply_adds(function: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() / 2


class Floor:
    """The machine's best, measured as two more tasks of a section."""

    def __init__(self) -> None:
        square, source = torch.rand(1500, 1500), torch.rand(12_000_000)
        target = torch.empty_like(source)
        self.tasks = {"matrix product": lambda: square @ square, "copy": lambda: target.copy_(source)}

    def milliseconds(self, measured: dict[Hashable, float], adds: float = 0, size: float = 0) -> float:
        """Of ``adds`` multiply-adds and ``size`` bytes read and written."""
        return max(adds / 1500**3 * measured["matrix product"], size / (2 * 4 * 12_000_000) * measured["copy"])

    def rows(self, measured: dict[Hashable, float]) -> Rows:
        return [{"what": f"{1500**3 / measured['matrix product'] / 1e6:.0f} G multiply-adds and "
                         f"{96 / measured['copy']:.0f} GB a second"}]


def row(what: str, fast: float, plain: float | None = None, floor: float | None = None, **more: float) -> dict:
    return {"what": what, "ms": fast, "plain ms": plain, "times faster": plain and plain / fast, "floor ms": floor,
            "times the floor": floor and fast / floor, **more}


def stages(threads: int) -> Rows:
    """Every stage, on the bundled photos of 720 x 1160 pixels one at a time; the mean over the photos."""
    reader, plain, published, floor = PlateReader("cpu"), PlainReader(), PlainReader(published=True), Floor()
    detector, recogniser = reader.detector, reader.recogniser
    limits = detector.thresholds.pnet_score, detector.thresholds.pnet_low, detector.thresholds.few
    tasks: dict[Hashable, Callable[[], object]] = dict(floor.tasks)
    work: dict[str, list[tuple[float, float]]] = {}  # stage -> multiply-adds and bytes for each photo

    def add(stage: str, photo: Path, fast: Callable, slow: Callable | None = None, adds: float | None = None,
            size: float = 0) -> None:
        tasks[stage, photo, "fast"] = fast
        if slow:
            tasks[stage, photo, "plain"] = slow
        work.setdefault(stage, []).append((multiply_adds(slow) if adds is None else adds, size))

    for photo in PHOTOS:
        image = read_image(photo)
        pixels, levels = detector.upload(image), plan_levels(*image.shape[:2])
        sheets, plain_levels = list(make_sheets(pixels, levels)), plain.pyramid(image)
        found, plain_found = detector.scan(pixels), plain.scan(image, plain_levels)
        proposals, plain_proposals = detector.choose(*found), plain.suppress(*plain_found)
        boxes = detector.find(pixels).boxes
        crop = recogniser.look(pixels, boxes)[:1]
        logits = recogniser.first_reader(crop)
        result = reader.read(image)
        level_bytes = 3 * sum(level.width * level.height for level in levels)
        add("decode", photo, partial(read_image, photo), partial(cv2.imread, str(photo)), 0, image.nbytes)
        add("pyramid", photo, lambda p=pixels, n=levels: list(make_sheets(p, n)), partial(plain.pyramid, image), 0,
            image.nbytes + level_bytes)
        add("PNet", photo, lambda s=sheets: detector.scanner.scan(s, 1160, 720, *limits),
            partial(plain.scan, image, plain_levels))
        add("suppression", photo, partial(detector.choose, *found), partial(plain.suppress, *plain_found), 0,
            20 * len(found[2]))
        add("ONet, its crops", photo, lambda p=pixels, c=proposals: detector.finish(*detector.refine(p, *c), 1160, 720),
            partial(plain.refine, image, plain_proposals))
        add("crops, all looks", photo, partial(recogniser.look, pixels, boxes),
            lambda i=image, found=boxes: [plain.look(i, box) for box in found])
        add("STN + LPRNet", photo, partial(recogniser.first_reader, crop), partial(plain.logits, crop))
        add("decode of text", photo, partial(recogniser.alphabet.decode, logits), partial(plain.decode, logits[0]), 0,
            logits.nbytes)
        add("drawing", photo, partial(draw_plates, image.copy(), result.plates), None, 0, 2 * image.nbytes)
        add("picture in, texts out", photo, partial(reader.read, image), partial(plain, image))
        tasks["picture in, texts out", photo, "published"] = partial(published, image)
    with torch.inference_mode():
        measured = medians(tasks, 25)

    def mean(stage: str, kind: str) -> float | None:
        values = [measured[key] for key in tasks if isinstance(key, tuple) and (key[0], key[2]) == (stage, kind)]
        return statistics.mean(values) if values else None

    rows = floor.rows(measured)
    for stage, needs in work.items():
        least = statistics.mean(floor.milliseconds(measured, *need) for need in needs)
        rows.append(row(stage, mean(stage, "fast"), mean(stage, "plain"), least))
    whole = "picture in, texts out"
    rows.append(row("the same, plain: published pyramid of one aspect", mean(whole, "fast"), mean(whole, "published")))
    return rows


def plates(threads: int) -> Rows:
    """STN + LPRNet, and the whole reading, for 1 to 64 plates at a time."""
    reader, plain, floor = PlateReader("cpu"), PlainReader(), Floor()
    pixels = reader.detector.upload(read_image(PHOTOS[3]))
    box = reader.detector.find(pixels).boxes[:1]
    recogniser, crop = reader.recogniser, reader.recogniser.look(pixels, box)
    adds = multiply_adds(lambda: plain.logits(crop))
    counts = (1, 4, 16, 64)
    tasks = dict(floor.tasks)
    for count in counts:
        tasks["nets", count] = lambda crops=[crop] * count: [recogniser.first_reader(part) for part in
                                                             torch.cat(crops).split(recogniser.batch_size)]
        tasks["all", count] = partial(recogniser.read, pixels, box.repeat(count, axis=0))
    tasks["plain"] = lambda: plain.logits(crop)
    with torch.inference_mode():
        measured = medians(tasks, 8)
    rows = floor.rows(measured)
    for count in counts:
        rows.append(row(f"STN + LPRNet, {count} plates", measured["nets", count], count * measured["plain"],
                        floor.milliseconds(measured, count * adds)))
    return rows + [row(f"boxes in, texts out, {count} plates", measured["all", count]) for count in counts]


def sizes(threads: int) -> Rows:
    """Pictures of 0.3 to 24 megapixels, and ten photos as a list."""
    reader, floor, image = PlateReader("cpu"), Floor(), read_image(PHOTOS[3])
    pictures = {}
    for megapixels in (0.3, 0.8, 2, 6, 12, 24):
        factor = (megapixels * 1e6 / image.shape[0] / image.shape[1]) ** 0.5
        pictures[megapixels] = cv2.resize(image, None, fx=factor, fy=factor)
    tasks = {**floor.tasks, **{size: lambda i=picture: reader.read(i) for size, picture in pictures.items()},
             "list": lambda: reader([image] * 10)}
    measured = medians(tasks, 20)
    return floor.rows(measured) + [row(f"{size} megapixels", measured[size], megapixels=size,
                                       ms_per_megapixel=measured[size] / size) for size in pictures] \
        + [row("10 photos of 0.8 megapixels, each", measured["list"] / 10)]


# Runs a command, then prints its peak memory in MB. A process of its own, since a command's peak is never less than
# that of the process that starts it: this one's is that of all it imports.
PEAK = """import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"""


def peak_memory(command: Sequence[str], threads: int) -> float:
    """The most memory in MB that a command needs at once."""
    output = subprocess.run([sys.executable, "-S", "-c", PEAK, *command], check=True, capture_output=True,
                            env={**os.environ, "OMP_NUM_THREADS": str(threads)}).stdout
    return float(output.splitlines()[-1])


def main_command(*arguments: str | Path) -> list[str]:
    return [sys.executable, str(ROOT / "main.py"), "--device", "cpu", "--json", "-", *map(str, arguments)]


def seconds_to_first_result(threads: int) -> float:
    """From ``python main.py`` to the first line of its JSON."""
    start = time.perf_counter()
    with subprocess.Popen(main_command("--image", PHOTOS[3]), stdout=subprocess.PIPE,
                          env={**os.environ, "OMP_NUM_THREADS": str(threads)}) as main:
        main.stdout.readline()
        return time.perf_counter() - start


def start(threads: int) -> Rows:
    """From ``python main.py`` to its first result, and what importing other packages takes of it."""
    others = "import cv2, imutils.paths, numpy, torch, tqdm"

    def imports() -> None:
        subprocess.run([sys.executable, "-c", f"{others}; import os; os._exit(0)"], check=True)

    measured = medians({"all": lambda: None, "imports": imports}, 0)
    seconds = statistics.median(seconds_to_first_result(threads) for _ in range(3))
    return [row("main.py to its first result", seconds * 1000), row(f"{others}", measured["imports"]),
            row("the difference: this project's own code", seconds * 1000 - measured["imports"])]


def memory(threads: int) -> Rows:
    """Peak memory of main.py on large photos, many photos and long videos, beside that of importing torch alone."""
    rows: Rows = []

    def measure(what: str, *command: str) -> None:
        rows.append({"what": what, "MB": peak_memory(command, threads)})

    measure("import torch alone", sys.executable, "-c", "import torch")
    image = read_image(PHOTOS[3])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for megapixels in (0.8, 6, 12, 24):
            factor = (megapixels * 1e6 / image.shape[0] / image.shape[1]) ** 0.5
            write_image(folder / "large.jpg", cv2.resize(image, None, fx=factor, fy=factor))
            measure(f"a photo of {megapixels} megapixels",
                    *main_command("--image", folder / "large.jpg", "--output", folder / "out"))
        small = cv2.resize(image, (240, 320), interpolation=cv2.INTER_AREA)
        video = cv2.VideoWriter(str(folder / "s.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (240, 320))
        (folder / "many").mkdir()
        for count, before in ((200, 0), (2000, 200)):
            for index in range(before, count):
                write_image(folder / "many" / f"{index}.jpg", small)
            measure(f"{count} photos of 240 x 320", *main_command("--image", folder / "many"))
        for index in range(2000):
            video.write(small)
            if index == 199:
                video.release()
                measure("a video of 200 frames", *main_command("--video", folder / "s.avi"))
                video.open(str(folder / "s.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 25, (240, 320))
        video.release()
        measure("a video of 2000 frames", *main_command("--video", folder / "s.avi"))
    return rows


def plain_training(net: nn.Module, loss: Callable, batch: object) -> Callable[[], None]:
    """A step in float32, in PyTorch's own memory order."""
    optimizer = torch.optim.AdamW(net.train().parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss(net, batch)[0].backward()
        optimizer.step()

    return step


def training(threads: int) -> Rows:
    """Training steps of all three nets, in samples a second."""
    floor, rows = Floor(), []
    tasks: dict[Hashable, Callable[[], object]] = dict(floor.tasks)
    alphabet, random, sizes, adds = Alphabet(), torch.Generator().manual_seed(0), {}, {}
    plates = RenderedPlates([(PlateRenderer(), 1.0)], alphabet)
    batch = collate_with_corners([plates.view(seed) for seed in range(64)])
    cases = {"LPRNet + STN": (lambda: Reader(len(alphabet), lprnet=TrainingLPRNet), batch,
                              reading_loss(alphabet, CPU, 0.2), 64)}
    for recipe, size in ((Train_Pnet.RECIPE, PNET_SIZE), (Train_Onet.RECIPE, ONET_SIZE)):
        count = recipe.batch_size
        samples = Batch(torch.randn(count, 3, *size, generator=random), torch.arange(count) % 3 - 1,
                        torch.randn(count, 4, generator=random) / 10)
        loss = partial(sample_loss, device=CPU, recipe=recipe, box="l1", batch_size=count)
        cases[recipe.net.__name__] = (recipe.net, samples, loss, count)
    with tempfile.TemporaryDirectory() as folder:
        for name, (make, batch, loss, count) in cases.items():
            run = Run(folder, make().train().to(memory_format=torch.channels_last), Settings(1, count, 1e-3), CPU)
            plain = make()
            if isinstance(plain, Reader):
                plain = Reader(len(alphabet))
                with_published_pools(plain.lprnet)
            sizes[name], adds[name] = count, 3 * multiply_adds(lambda n=plain, b=batch: n(b[0]))
            tasks[name, "fast"] = lambda r=run, b=batch, f=loss: r.train_step(b, f, 1e-3)
            tasks[name, "plain"] = plain_training(plain, loss, batch)
        measured = medians(tasks, 20)
    rows = floor.rows(measured)
    for name, count in sizes.items():
        fast, plain = measured[name, "fast"], measured[name, "plain"]
        rows.append(row(f"{name}, {count} a step", fast, plain, floor.milliseconds(measured, adds[name]),
                        samples_per_second=count / fast * 1000, plain_samples_per_second=count / plain * 1000))
    return rows


def data(threads: int) -> Rows:
    """Data generation in one process with one thread, in samples a second."""
    torch.set_num_threads(1)
    renderer, counter = PlateRenderer(), iter(range(10**9))
    scenes = [Scene(read_image(path), np.array(parse(path).vertices, np.float32), parse(path).plate)
              for path in PHOTOS]
    plates = RenderedPlates([(renderer, 1.0)], Alphabet(), [scenes[0][0]], scenes)
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(PHOTOS):
            write_image(Path(folder) / f"{parse(path).plate}_{number}.jpg", read_image(path)[400:600, 200:520])
        real = LPRDataLoader(folder, augmented=True)
        photos = read_photos([SAMPLES])
        views = {name: ViewSamples(photos, 10**6, list(POSES), 0, size, choose) for name, size, choose in (
            ("PNet", PNET_SIZE, PNetWindows(Counts(10, 10, 10, 10))),
            ("ONet", ONET_SIZE, ONetWindows(Counts(10, 10, 10, 10), PNET_WEIGHTS)))}
        made = dict.fromkeys(views, 0)
        calls = dict.fromkeys(views, 0)

        def view(name: str) -> None:
            calls[name] += 1
            made[name] += sum(len(pixels) for pixels, _ in views[name][len(photos) + next(counter)].values())

        tasks: dict[Hashable, Callable[[], object]] = {
            "photo": lambda: render_photo("ccpd_base", renderer, np.random.default_rng(next(counter))),
            "LPRNet, drawn": lambda: [plates.view(next(counter)) for _ in range(20)],
            "LPRNet, crops": lambda: [real.view(number % 5, next(counter)) for number in range(20)],
            **{name: lambda n=name: view(n) for name in views}}
        measured = medians(tasks, 20)
    samples = {"photo": 1, "LPRNet, drawn": 20, "LPRNet, crops": 20,
               **{name: made[name] / calls[name] for name in views}}
    return [row(f"{name}, {samples[name]:.0f} samples", measured[name],
                samples_per_second=samples[name] / measured[name] * 1000) for name in tasks]


SECTIONS = {function.__name__: function for function in (stages, plates, sizes, start, memory, training, data)}


def table(title: str, rows: Rows) -> str:
    """A Markdown table."""
    names = list(dict.fromkeys(name for entry in rows for name in entry))
    names = [name for name in names if name == "what" or any(entry.get(name) is not None for entry in rows)]
    lines = [names, ["---"] * len(names)]
    for entry in rows:
        values = [entry.get(name) for name in names]
        lines.append(["" if value is None else value if isinstance(value, str) else f"{value:.3g}" if value < 100 else
                      f"{value:.0f}" for value in values])
    return f"\n## {title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS),
                        help="what is measured (default: everything)")
    parser.add_argument("--threads", nargs="+", type=int, default=[2, 1], help="of torch, one after the other")
    parser.add_argument("--json", type=Path, default=Path("benchmark.json"), metavar="FILE", help="for the figures")
    options = parser.parse_args()
    if min(options.threads) < 1:
        parser.error("--threads must be at least 1")
    results = {}
    for threads in options.threads:
        for name in options.sections:
            if threads != options.threads[0] and name in ("start", "memory", "data"):
                continue  # these don't depend on it, or state their own
            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
            results[f"{name}, {threads} threads"] = SECTIONS[name](threads)
            summary = SECTIONS[name].__doc__.partition("\n")[0]
            print(table(f"{name}, {threads} threads: {summary}", results[f"{name}, {threads} threads"]), flush=True)
    options.json.write_text(json.dumps({"torch": torch.__version__, "results": results}, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
