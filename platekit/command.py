"""The command line that main.py, MTCNN.py and LPRNet_Test.py share: pictures in, JSON lines and pictures out."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from platekit.devices import DEVICE_HELP
from platekit.drawing import draw_plates
from platekit.errors import UserError
from platekit.images import WRITABLE, expand_inputs, read_image, write_image
from platekit.opencv import cv2
from platekit.results import PictureResult

ReadPicture = Callable[[np.ndarray, Path], PictureResult]  # the picture, and where it comes from


def add_arguments(parser: argparse.ArgumentParser, **image_options: Any) -> None:
    """The flags of input, output and device. ``image_options`` go to the flag ``--image``."""
    parser.add_argument("-image", "--image", nargs="+", metavar="PATH",
                        **{"help": "pictures, folders or patterns", **image_options})
    parser.add_argument("--json", metavar="FILE", help="write one JSON object a line; - is standard output")
    parser.add_argument("--output", metavar="DIR", type=Path, help="write annotated pictures there")
    parser.add_argument("--device", default="auto", help=f"{DEVICE_HELP} (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="accepted by every script; nothing is random here")


@contextlib.contextmanager
def json_lines(path: str | None) -> Iterator[TextIO | None]:
    """A stream for JSON lines: standard output for ``-``, nothing for None.

    A file's lines collect in ``FILE.part`` and become ``FILE`` when the run is through, so that a file under its
    own name is always whole. Raises UserError when it cannot be written.
    """
    # JSON is UTF-8 whatever the console is; a file name that is no UTF-8 becomes a JSON escape.
    text = {"encoding": "utf-8", "errors": "backslashreplace"}
    if path is None or path == "-":
        if path and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(**text)
        yield sys.stdout if path else None
        return
    part = Path(path + ".part")
    try:
        if Path(path).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        part.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "w", **text) as stream:
            yield stream
        os.replace(part, path)
    except BrokenPipeError:  # standard output's, not the file's
        raise
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; name a file in a folder you may write to") from None


class OutputFolder:
    """Annotated pictures under the names of their inputs; a number keeps inputs of one name apart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.taken: set[str] = set()

    def path_for(self, source: Path) -> Path:
        """A name in the folder that no other input of this run has taken."""
        suffix = source.suffix if source.suffix.lower() in WRITABLE else ".jpg"
        name, number = f"{source.stem}{suffix}", 1
        while name in self.taken:
            number += 1
            name = f"{source.stem}-{number}{suffix}"
        self.taken.add(name)
        return self.folder / name

    def check(self, sources: Iterable[Path]) -> None:
        """UserError when results would land beside an input, where they could replace it."""
        folder = self.folder.resolve()
        for parent in {source.parent for source in sources}:
            if parent.resolve() == folder:
                raise UserError(f"{self.folder} holds inputs, which annotated pictures could replace; name another "
                                "folder with --output")


def run_pictures(inputs: Iterable[str | os.PathLike], read: ReadPicture, json_path: str | None = None,
                 output: Path | None = None, show: bool = False) -> int:
    """Read every input and report it; an input that cannot be read is reported and the run goes on.

    Without ``json_path`` a line a plate is printed. Returns the exit status: 0, or 1 when some inputs failed.
    """
    failed = False
    folder = OutputFolder(output) if output else None
    paths = list(expand_inputs(inputs))  # all of them first: wrong usage shows before anything is written
    if folder:
        folder.check(paths)
    with json_lines(json_path) as stream:
        for path in paths:
            entry: dict[str, Any] = {"image": str(path)}
            try:
                image = read_image(path)
            except UserError as error:
                failed = True
                entry["error"] = str(error)
                print(f"error: {error}", file=sys.stderr)
            else:
                result = read(image, path)
                entry.update(result.to_dict())
                report(path, image, result, folder, show, quiet=stream is not None)
            if stream:
                stream.write(json.dumps(entry, ensure_ascii=False) + "\n")
                stream.flush()
    if json_path not in (None, "-"):
        print(f"results written to {json_path}")
    return int(failed)


def report(path: Path, image: np.ndarray, result: PictureResult, folder: OutputFolder | None, show: bool,
           quiet: bool) -> None:
    """Print a line a plate, write the annotated picture, open a window: whatever was asked for."""
    if not quiet:
        for plate in result.plates:
            print(f"{path}: {plate}")
        if not result.plates:
            print(f"{path}: no plate found")
    if not folder and not show:
        return
    drawn = draw_plates(image, result.plates)
    if folder:
        target = folder.path_for(path)
        write_image(target, drawn)
        if not quiet:
            print(f"{path}: annotated picture in {target}")
    if show:
        cv2.imshow("plates (any key goes on)", drawn)
        cv2.waitKey(0)
