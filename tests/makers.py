"""What several tests need: pictures, crops, photos and samples to learn from, invented plates, and torchrun."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from ccpd.annotation import Annotation
from ccpd.plate_kinds import PlateKind
from ccpd.plate_numbers import random_text
from ccpd.plates import PlateRenderer
from MTCNN.data_preprocessing.assemble import assemble
from MTCNN.data_preprocessing.sample_store import SampleWriter
from MTCNN.train.trainer import parse_arguments
from platekit.results import PictureResult
from platekit.tables import write_rows
from tests.conftest import ROOT, make_picture, put_picture

CORNERS = ((270, 150), (104, 140), (100, 96), (266, 106))  # right-bottom, left-bottom, left-top, right-top
# The Republic of Ødemark: two letters, a dash, three digits and a letter, black on orange.
ODEMARK_SYMBOLS = "0123456789ABDEÆØÅ-"
ODEMARK = PlateKind("odemark", 420.0, tuple((15.0 + 58 * index, 45.0) for index in range(7)), 153.5,
                    colour="orange", hue=(8, 14), saturation=(150, 255), value=(150, 250), dark_text=True)
# Its plates of two rows: the letters and the dash above.
ODEMARK_DOUBLE = PlateKind("odemark2", 240.0, (*((28.0 + 66 * index, 52.0) for index in range(3)),
                                               *((10.0 + 57 * index, 50.0) for index in range(4))), 120.0,
                           colour="orange", hue=(8, 14), saturation=(150, 255), value=(150, 250), dark_text=True,
                           height_mm=165.0, upper=3, rows=((12.0, 60.0), (84.0, 70.0)))


def write_list(folder, size=(12, 47), count: int = 60, seed: int = 0):
    """A list of samples that can be learnt: positives are bright on the left, negatives dark."""
    rng = np.random.default_rng(seed)
    samples = {}
    for kind, level in (("positive", 190), ("part", 120), ("negative", 50)):
        pixels = np.clip(rng.normal(level, 25, (count, *size, 3)), 0, 255).astype(np.uint8)
        offsets = np.zeros((count, 4)) if kind == "negative" else rng.normal(0.05, 0.02, (count, 4))
        samples[kind] = (pixels, offsets)
    writer = SampleWriter(folder / "samples", size, {})
    writer.add(samples)
    writer.finish()
    target = folder / "list.txt"
    assemble([folder / "samples"], target, {"positive": 1, "part": 1, "negative": 1}, None, 0)
    return target


def options_for(recipe, folder, lists, *extra, precision=("--float32",)):
    return parse_arguments(recipe, "", ["--list_train", str(lists), "--list_val", str(lists), "--run",
                                        str(folder / "run"), "--save", str(folder / "weights"), "--device", "cpu",
                                        *precision, *map(str, extra)])


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture (H, W, 3) whose pixels have nothing to do with each other."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def photo_name(plate: str, corners=CORNERS, area: str = "025") -> str:
    points = np.array(corners)
    box = (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
    return Annotation(area, (90, 90), box, tuple(map(tuple, corners)), plate, 120, 30).file_name()


def photo(height: int = 300, width: int = 360, corners=CORNERS, seed: int = 0) -> np.ndarray:
    """A smooth picture with a blue quadrilateral that has white strokes."""
    image = make_picture(height, width, seed) // 2 + 60
    cv2.fillConvexPoly(image, np.array(corners, np.int32), (220, 60, 20))
    left, right = np.array(corners[2]), np.array(corners[0])
    for share in np.linspace(0.15, 0.85, 6):
        x, y = (left + share * (right - left)).astype(int)
        cv2.line(image, (int(x), int(y) - 8), (int(x), int(y) + 8), (255, 255, 255), 4)
    return image


def photo_folder(root, plates=("皖A12345", "苏B54321", "沪C11111"), subset: str = "ccpd_base"):
    for seed, plate in enumerate(plates):
        put_picture(root / subset / photo_name(plate), photo(seed=seed))
    return root


def draw_crops(folder: Path, count: int, seed: int) -> Path:
    rng, renderer = np.random.default_rng(seed), PlateRenderer()
    for index in range(count):
        kind = "green" if index % 4 == 3 else "blue"
        text = random_text(rng, kind)
        put_picture(folder / f"{text}_{index}.jpg", renderer.render(text, kind, rng))
    return folder


def maps(*size: int) -> torch.Tensor:
    """Random bfloat16 numbers in channels-last memory order, with a gradient."""
    random = torch.randn(size, generator=torch.Generator().manual_seed(0))
    return random.bfloat16().to(memory_format=torch.channels_last).requires_grad_()


def random_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    torch.manual_seed(0)  # so that no number comes so near to 0 that rounding puts it on the other side
    with torch.no_grad():
        norm.weight.uniform_(-1, 1.5)
        norm.bias.normal_()
    return norm


def graph(node: torch.autograd.graph.Node) -> list[torch.autograd.graph.Node]:
    """All nodes behind this one."""
    seen, todo = [], [node]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.append(node)
            todo += [after for after, _ in node.next_functions]
    return seen


def odemark_text(rng: np.random.Generator) -> str:
    letters, digits = (rng.choice(list(symbols), 3) for symbols in (ODEMARK_SYMBOLS[10:17], ODEMARK_SYMBOLS[:10]))
    return f"{letters[0]}{letters[1]}-{''.join(digits)}{letters[2]}"


def draw_odemark(folder: Path, count: int, seed: int, kinds: Sequence[PlateKind] = (ODEMARK,)) -> Path:
    """Crops of invented plates, of the kinds in turn, with names that say nothing, and the table that does."""
    rng, renderer, rows = np.random.default_rng(seed), PlateRenderer(), []
    for number in range(count):
        kind, text = kinds[number % len(kinds)], odemark_text(rng)
        put_picture(folder / "photos" / f"{number}.jpg", renderer.render(text, kind, rng))
        rows.append((f"photos/{number}.jpg", text, 1 + (kind.upper > 0)))
    write_rows(folder / "labels.csv", ("file", "text", "rows"), rows)
    return folder


def nothing(image: np.ndarray) -> PictureResult:
    return PictureResult(image.shape[1], image.shape[0], ())


def slow(read: Callable, seconds: float) -> Callable:
    """A camera takes its time for every frame."""
    def wait(*arguments: Any) -> Any:
        time.sleep(seconds)
        return read(*arguments)
    return wait


def torchrun(processes: int, *command: object) -> subprocess.Popen:
    """``torchrun``; ``--`` parts its flags from the script's, of which ``--run`` looks like one of them."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    return subprocess.Popen([sys.executable, "-m", "torch.distributed.run", "--standalone",
                             f"--nproc_per_node={processes}", "--", *map(str, command)], env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")


class Malicious:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)
