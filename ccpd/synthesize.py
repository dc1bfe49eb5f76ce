"""Draw a synthetic stand-in for CCPD: photos with true CCPD names in CCPD folders, without any download.

    python ccpd/synthesize.py --count 60

Photo i of a subset depends on the seed, the subset and i alone: a run that was interrupted goes on where it stopped,
and a larger ``--count`` adds to what is there.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import contextlib
import functools
import json
import multiprocessing
import zlib

import numpy as np
from tqdm import tqdm

from ccpd.dataset import PHOTO_SIZE, SUBSETS, SYNTHETIC_FOLDER, holds_photo
from ccpd.geometry import TABLES
from ccpd.plate_kinds import KINDS
from ccpd.plates import PlateRenderer
from ccpd.scenes import render_photo
from platekit.arguments import HelpFormatter, add_glyphs, add_seed, flags_of
from platekit.errors import UserError, run_script
from platekit.files import file_fingerprint, fingerprint, write_bytes, write_text
from platekit.opencv import cv2

DRAWING = tuple(f"ccpd.{name}" for name in (
    "annotation", "camera", "cars", "dataset", "geometry", "layout", "plate_kinds", "plate_numbers", "plates", "scenes",
    "street", "symbols", "textures", "tones")) + ("platekit.corners",)  # modules that decide what photos show
INDEX = "index.json"  # in each subset folder: which photo number became which file


def photo_file(subset: str, index: int, seed: int, renderer: PlateRenderer, kinds: list[str] | None = None,
               size: tuple[int, int] = PHOTO_SIZE) -> tuple[str, bytes]:
    """Name and JPEG bytes of photo ``index`` of a subset; ``size`` is (width, height)."""
    rng = np.random.default_rng([seed, zlib.crc32(subset.encode()), index])
    photo, annotation = render_photo(subset, renderer, rng, kinds, size)
    quality = int(rng.integers(35, 96))
    _, data = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return annotation.file_name() if annotation else f"np_{index + 1:05d}.jpg", data.tobytes()


def _numbered_photo(index: int, subset: str, seed: int, glyphs: Path | None, kinds: list[str] | None,
                    size: tuple[int, int]) -> tuple[int, str, bytes]:
    """``photo_file`` behind its index, for a worker process, which reads the glyphs once."""
    return index, *photo_file(subset, index, seed, _renderer(glyphs), kinds, size)


_renderer = functools.cache(PlateRenderer)


def synthesize(out: Path, subset: str, count: int, seed: int = 0, glyphs: Path | None = None,
               kinds: list[str] | None = None, size: tuple[int, int] = PHOTO_SIZE, workers: int = 1) -> int:
    """Write the first ``count`` photos of a subset to ``out/subset``, those that are there excepted; return how many.

    Raises UserError when the folder holds photos of another seed, kind or size, or cannot be written.
    """
    folder = out / subset
    settings = {"seed": seed, "kinds": kinds, "size": list(size), "drawn by": drawn_by(glyphs)}
    index = _read_index(folder, settings)
    missing = [i for i in range(count) if not (str(i) in index and (folder / index[str(i)]).is_file())]
    if not missing:
        return 0
    _write_index(folder, settings, index)  # first, so that photos of other settings cannot be mixed in
    draw = functools.partial(_numbered_photo, subset=subset, seed=seed, glyphs=glyphs, kinds=kinds, size=size)
    with contextlib.ExitStack() as stack:
        if workers > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(workers))
            photos = pool.imap(draw, missing)
        else:
            photos = map(draw, missing)
        progress = tqdm(photos, desc=subset, total=len(missing), unit="photo", leave=False, disable=None)
        for i, name, data in progress:
            write_bytes(folder / name, data)
            index[str(i)] = name
            if len(index) % 500 == 0:
                _write_index(folder, settings, index)
    _write_index(folder, settings, index)
    return len(missing)


def drawn_by(glyphs: Path | None) -> str:
    """Differs when the generator does, or the pictures of the typeface."""
    root = Path(__file__).parents[1]
    files = [*(root / f"{name.replace('.', '/')}.py" for name in DRAWING), TABLES]
    files += sorted(glyphs.iterdir()) if glyphs and glyphs.is_dir() else []
    return fingerprint(*(path.name + file_fingerprint(path) for path in files if path.is_file()))


def _write_index(folder: Path, settings: dict, index: dict[str, str]) -> None:
    write_text(folder / INDEX, json.dumps({"settings": settings, "photos": index}))


def _read_index(folder: Path, settings: dict) -> dict[str, str]:
    path = folder / INDEX
    if not path.is_file():
        if holds_photo(folder):
            raise UserError(f"{folder} holds photos that were not drawn by this script; choose another --out")
        return {}
    try:
        content = json.loads(path.read_text("utf-8"))
        if content["settings"] != settings:
            raise UserError(f"{folder} holds photos made with {content['settings']}; choose another --out or delete it")
        photos = dict(content["photos"])
        if not all(name.endswith(".jpg") and Path(name).name == name for name in photos.values()):
            raise ValueError("these are no names of photos in this folder")
        return photos
    except UserError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"cannot read {path}; delete the folder and draw it again") from None


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draw a synthetic stand-in for the CCPD data set.",
                                     formatter_class=HelpFormatter)
    parser.add_argument("--out", type=Path, default=SYNTHETIC_FOLDER, metavar="DIR",
                        help="folder for the subset folders")
    parser.add_argument("--count", type=int, default=60, metavar="N", help="photos in each subset")
    parser.add_argument("--subsets", nargs="+", default=list(SUBSETS), choices=list(SUBSETS), metavar="NAME",
                        help="subsets to draw")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), metavar="KIND",
                        help=f"draw these plates only, of {', '.join(KINDS)}; the default is each subset's own mixture")
    add_glyphs(parser)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that draw")
    add_seed(parser, "same seed, same photos")
    parser.add_argument("-size", "--size", type=int, nargs=2, default=PHOTO_SIZE, metavar=("WIDTH", "HEIGHT"),
                        help="size of a photo, which shows more or less of the scene where its shape is another")
    args = parser.parse_args(arguments)
    if min(args.count, args.workers) < 1 or min(args.size) < 64:
        raise UserError("--count and --workers must be at least 1 and --size at least 64 64")
    return args


def main(arguments: list[str] | None = None) -> int:
    """Draw every subset asked for."""
    args = parse_arguments(arguments)
    _renderer(args.glyphs)  # complain about the glyphs before anything is written
    print(f"read glyphs from {args.glyphs}" if args.glyphs else "no --glyphs given: drawn with the built-in font")
    size = tuple(args.size)
    for subset in args.subsets:
        written = synthesize(args.out, subset, args.count, args.seed, args.glyphs, args.kinds, size,
                             args.workers)
        print(f"wrote {written} photos to {args.out / subset} ({args.count - written} were there)")
    print("next: python MTCNN/data_set/preprocess.py", *flags_of({"--img_dirs": (args.out, SYNTHETIC_FOLDER)}))
    return 0


if __name__ == "__main__":
    run_script(main)
