"""Feed the three reading scripts folders of bad files, and look for lost lines, lost photos and lost memory.

    python tests/hostile_inputs.py                  # 10,000 files; about ten minutes
    python tests/hostile_inputs.py --count 500

Folders of 1,000 generated files, with good photos among them, go by turns to main.py, MTCNN.py and LPRNet_Test.py. Each
file must get its line, a picture or one sentence; the good photos must be read as without the others. What is not
random (each kind of bad file there is a name for) lies in the first folder of each script.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
from PIL import Image

from platekit import MAX_PIXELS
from platekit.arguments import add_seed
from platekit.opencv import cv2

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = sorted((ROOT / "ccpd" / "samples").glob("*.jpg"))[:2]
SCRIPTS = ("main.py", "MTCNN/MTCNN.py", "LPRNet/LPRNet_Test.py")
FORMATS = (".jpg", ".png", ".bmp", ".tif", ".webp", ".gif")
NAMES = ("京A12345", "🚗 plate", "two  spaces", "-rf", "%s%n", "quote'\"", "line\nbreak", "semi;colon", "a" * 200, "ελ")
MEMORY = 4.0  # GiB that a script may take: a few pictures of MAX_PIXELS, one of them as floating-point numbers


def encode(image: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def with_size(data: bytes, suffix: str, width: int, height: int) -> bytes:
    """The file with another size in its header, and whatever the header needs to be believed."""
    data = bytearray(data)
    if suffix == ".png":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif suffix == ".bmp":
        data[18:26] = struct.pack("<ii", width, height)
    elif suffix == ".gif":
        data[6:10] = struct.pack("<HH", min(width, 65535), min(height, 65535))
    elif suffix == ".jpg":
        frame = data.find(b"\xff\xc0")
        data[frame + 5:frame + 9] = struct.pack(">HH", min(height, 65535), min(width, 65535))
    elif suffix == ".tif":
        directory = struct.unpack("<I", data[4:8])[0]
        for entry in range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", data, directory)[0], 12):
            tag = struct.unpack_from("<H", data, entry)[0]
            if tag in (256, 257):
                data[entry:entry + 12] = struct.pack("<HHII", tag, 4, 1, width if tag == 256 else height)
    return bytes(data)


def save(path: Path, image: Image.Image, **options: object) -> None:
    with open(path, "wb") as file:
        image.save(file, **options)


def put_named(folder: Path, truncations: int = 1) -> set[str]:
    """One file of every kind that has a name, below ``folder``; returns the names of those that can be read.

    Of the photo's truncations, one a kilobyte, only every ``truncations``-th is written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    photo = PHOTOS[0].read_bytes()
    for size in range(0, len(photo), 1024 * truncations):
        (folder / f"truncated_{size // 1024}k.jpg").write_bytes(photo[:size])
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "zeros.jpg").write_bytes(bytes(5000))
    (folder / "text.jpg").write_text("this is no picture\n" * 100)
    (folder / "page.png").write_text("<html><script>alert(1)</script></html>")
    small = picture(60, 160)
    for suffix in FORMATS:
        if suffix != ".webp":  # whose header is coded, and which has no sizes beyond 16383
            (folder / f"bomb{suffix}").write_bytes(with_size(encode(small, suffix), suffix, 60_000, 60_000))
    (folder / "bomb_just_above.png").write_bytes(with_size(encode(small, ".png"), ".png", MAX_PIXELS // 1000 + 1, 1000))
    with contextlib.suppress(OSError):
        (folder / "dangling.jpg").symlink_to(folder / "nowhere")
        (folder / "circle.jpg").symlink_to("circle.jpg")
        os.mkfifo(folder / "pipe.jpg")
        (folder / "device.jpg").symlink_to("/dev/zero")
        (folder / "unreadable.jpg").symlink_to("/proc/self/mem")  # even for root
    with open(folder / "sparse.jpg", "wb") as file:  # as large as two films, and on the disk nothing
        file.truncate(10 * 8 * MAX_PIXELS)
    readable = {
        "1x1.png": encode(picture(60, 160)[:1, :1], ".png"),
        "1x10000.png": encode(np.zeros((10_000, 1, 3), np.uint8), ".png"),
        "10000x1.jpg": encode(np.zeros((1, 10_000, 3), np.uint8), ".jpg"),
        "grey.jpg": encode(small[:, :, 0], ".jpg"),
        "alpha.png": encode(np.dstack([small, small[:, :, :1]]), ".png"),
        "16bit.png": encode(small.astype(np.uint16) * 257, ".png"),
        "16bit.tif": encode(small.astype(np.uint16) * 257, ".tif"),
        "good.webp": encode(small, ".webp"),
        **{f"{name}.jpg": encode(small, ".jpg") for name in NAMES},
        "deep/folder named.jpg/inside.jpg": encode(small, ".jpg"),
    }
    for name, data in readable.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    image, turned = Image.fromarray(small[:, :, ::-1]), Image.Exif()
    turned[0x0112] = 6
    save(folder / "cmyk.jpg", image.convert("CMYK"), format="JPEG")
    save(folder / "turned.jpg", image, format="JPEG", exif=turned)
    more = [image.rotate(10), image.rotate(20)]
    for name in ("animated.gif", "animated.png", "animated.webp"):
        save(folder / name, image, format=name[-4:].strip(".").upper(), save_all=True, append_images=more)
    return {*readable, "cmyk.jpg", "turned.jpg", "animated.gif", "animated.png", "animated.webp"}


def truncate(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[:rng.randrange(len(data))])


def flip(data: bytearray, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 3, 30))):
        data[rng.randrange(rng.choice((40, len(data))) if len(data) > 40 else len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def overwrite(data: bytearray, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(data)), rng.randrange(1, 64)
    data[start:start + length] = rng.choice((bytes(length), b"\xff" * length, rng.randbytes(length)))
    return bytes(data)


def drop(data: bytearray, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    del data[start:start + rng.randrange(1, 64)]
    return bytes(data)


def repeat(data: bytearray, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return bytes(data[:start] + data[max(0, start - rng.randrange(1, 400)):])


def only_noise(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[:rng.choice((0, 2, 4, 12, 26))]) + rng.randbytes(rng.randrange(2000))


Mutation = Callable[[bytearray, random.Random], bytes]
MUTATIONS: tuple[Mutation, ...] = (truncate, flip, overwrite, drop, repeat, only_noise)


def bad_files(seed: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of one bad file after another, without end; a few can still be decoded."""
    rng = random.Random(seed)
    whole = {suffix: [encode(picture(60, 160, index), suffix) for index in range(3)] for suffix in FORMATS}
    number = 0
    while True:
        suffix = rng.choice(FORMATS)
        data = bytearray(rng.choice(whole[suffix]))
        if rng.random() < 0.1:
            sizes = (0, 1, 2**15 - 1, 2**16 - 1, 2**31 - 1, rng.randrange(2**20, 2**31))
            bad = with_size(bytes(data), suffix, rng.choice(sizes), rng.choice(sizes))
        elif rng.random() < 0.1:
            other = rng.choice(whole[rng.choice(FORMATS)])
            bad = bytes(data[:rng.randrange(len(data))]) + other[rng.randrange(len(other)):]
        else:
            bad = rng.choice(MUTATIONS)(data, rng)
        name = f"{number:06d} {rng.choice(NAMES)[:60]}{rng.choice(FORMATS) if rng.random() < 0.2 else suffix}"
        yield name, bad
        number += 1


@dataclass
class Counts:
    """What was tried and what came of it."""

    tried: int = 0
    refused: int = 0
    lost: list[str] = field(default_factory=list)  # files without their one line, or with a line of another kind
    photos: int = 0
    otherwise: list[str] = field(default_factory=list)  # good photos read otherwise than alone
    memory: float = 0.0  # GiB at most

    def __str__(self) -> str:
        return (f"bad inputs tried: {self.tried} (refused in one sentence: {self.refused}, decoded all the same: "
                f"{self.tried - self.refused}); lines lost: {len(self.lost)}; good photos among them: {self.photos}, "
                f"read otherwise than alone: {len(self.otherwise)}; memory at most {self.memory:.2f} GiB")


def read_folder(script: str, folder: Path, *flags: str) -> tuple[list[dict], float]:
    """The JSON lines of a script over a folder, and the most memory it took, in GiB."""
    lines = folder.with_name(f"{folder.name}.jsonl")
    smallest = () if "LPRNet" in script else ("--mini_lp", "100", "30")
    process = subprocess.Popen(
        [sys.executable, ROOT / script, "--image", folder, "--json", lines, "--device", "cpu", *smallest, *flags],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1) or b"Traceback" in said:
        raise SystemExit(f"{script} ended with status {process.returncode}:\n{said[-3000:].decode('utf-8', 'replace')}")
    return [json.loads(line) for line in lines.read_text("utf-8").splitlines()], usage.ru_maxrss / 2**20


def plain(line: dict) -> dict:
    """A line without what differs from run to run and from place to place."""
    return {key: value for key, value in line.items() if key not in ("image", "ms")}


def judge(folder: Path, lines: list[dict], alone: dict[str, dict], counts: Counts,
          readable: set[str] = frozenset()) -> None:
    """Compare the lines with the files: one each, an error in one sentence or a picture; good photos as alone."""
    expected = sorted(str(path) for path in folder.rglob("*") if not path.is_dir())
    counts.lost += set(expected) ^ {line["image"] for line in lines}
    if len(lines) != len(expected):
        counts.lost.append(f"{len(lines)} lines for {len(expected)} files in {folder}")
    for line in lines:
        path = Path(line["image"])
        if path.name in alone:
            counts.photos += 1
            if plain(line) != alone[path.name]:
                counts.otherwise.append(str(path))
            continue
        counts.tried += 1
        counts.refused += "error" in line
        sound = isinstance(line.get("error"), str) and str(path) in line["error"] if "error" in line \
            else line["width"] * line["height"] <= MAX_PIXELS
        named = str(path.relative_to(folder)) in readable
        if not sound or (readable and named == ("error" in line)):
            counts.lost.append(f"{path}: {line}")


def run(count: int, folder: Path, seed: int = 0, chunk: int = 1000, scripts: tuple[str, ...] = SCRIPTS,
        truncations: int = 1) -> Counts:
    """Try ``count`` random bad files and, with each script, those that have a name."""
    counts, files, left = Counts(), bad_files(seed), count
    alone = {}
    for script in scripts:
        place = folder / "alone"
        place.mkdir(exist_ok=True)
        for photo in PHOTOS:
            shutil.copy(photo, place)
        alone[script] = {Path(line["image"]).name: plain(line) for line in read_folder(script, place)[0]}
    turn = 0
    while left > 0 or turn < len(scripts):
        script, place = scripts[turn % len(scripts)], folder / f"folder_{turn}"
        readable = put_named(place / "named", truncations) if turn < len(scripts) else set()
        (place / "random").mkdir(parents=True)
        for _, (name, data) in zip(range(min(chunk, left)), files):
            (place / "random" / name).write_bytes(data)
        left -= chunk
        for index, photo in enumerate(PHOTOS):
            shutil.copy(photo, place / ("random" if index else "named" if readable else "."))
        lines, memory = read_folder(script, place)
        if readable:  # of a random file nobody knows whether it can be read
            named = [line for line in lines if Path(line["image"]).is_relative_to(place / "named")]
            judge(place / "named", named, alone[script], counts, readable)
            lines = [line for line in lines if line not in named]
            judge(place / "random", lines, alone[script], counts)
        else:
            judge(place, lines, alone[script], counts)
        counts.memory = max(counts.memory, memory)
        shutil.rmtree(place)
        print(f"{script}: {counts}", flush=True)
        turn += 1
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="random bad files (default: %(default)s)")
    add_seed(parser, "of all that is random")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counts = run(options.count, Path(folder), options.seed)
    for line in (*counts.lost, *counts.otherwise):
        print(line)
    return int(bool(counts.lost or counts.otherwise) or counts.memory > MEMORY)


if __name__ == "__main__":
    sys.exit(main())
