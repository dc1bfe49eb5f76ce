"""The command line that main.py, MTCNN.py and LPRNet_Test.py share: pictures in, JSON lines and pictures out."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from tqdm import tqdm

from platekit.ahead import ahead, spare_threads
from platekit.arguments import add_seed
from platekit.devices import add_device, enough_memory
from platekit.distributed import rank, wait_for_all, world
from platekit.drawing import draw_plates, hide_plates
from platekit.errors import DiskFull, UserError
from platekit.files import (
    alone,
    file_fingerprint,
    free_name,
    is_device,
    json_line,
    real_path,
    relative_name,
    replace,
    takes_files,
    tell_aside,
    writing,
)
from platekit.images import WRITABLE, read_image, write_image
from platekit.inputs import expand_inputs, expand_what_is_there, is_same_folder
from platekit.opencv import cv2
from platekit.parts import Parts
from platekit.results import PictureResult
from platekit.sharing import own_items
from platekit.tables import write_rows

ReadPicture = Callable[[np.ndarray, Path], PictureResult]  # the picture, and where it comes from
Numbered = tuple[int, Path]


@dataclass
class Input:
    """An input on its way: its number and path, then its picture and what is in it, or the error that ended it."""

    number: int
    path: Path
    image: np.ndarray | None = None  # BGR uint8 (H, W, 3); the annotated one in the end
    result: PictureResult | None = None
    error: UserError | None = None
    unwritten: UserError | None = None  # why there is no annotated picture


def add_arguments(parser: argparse.ArgumentParser, default: str | None = None, output: str = "none") -> None:
    """The flags of input, output and device. ``default`` says what is taken where no input is named, ``output`` where
    annotated pictures go where no folder is."""
    inputs = "pictures, folders, patterns, or lists: .txt files with one path per line"
    parser.add_argument("image", nargs="*", action="extend", metavar="PATH",
                        help=f"{inputs} (default: {default})" if default else inputs)
    parser.add_argument("-image", "--image", nargs="+", action="extend", metavar="PATH", help="the same")
    parser.add_argument("--json", metavar="FILE", help="write one JSON object per line; - is standard output")
    parser.add_argument("--resume", action="store_true",
                        help="keep the lines that an earlier run wrote for --json, except errors")
    parser.add_argument("--wrong", metavar="FILE", type=Path,
                        help="write a table (CSV) of what is counted as wrong, where it is known what is right")
    parser.add_argument("--output", metavar="DIR", type=Path,
                        help=f"write what is annotated there (default: {output})")
    add_device(parser)
    add_seed(parser)


@contextlib.contextmanager
def json_lines(path: str | None, keep: bool = False) -> Iterator[TextIO | None]:
    """A stream for JSON lines: standard output for ``-``, nothing for None.

    A file's lines collect in ``FILE.part`` and become ``FILE`` when the run is through, so that a file under its
    own name is always whole. Lines left by a killed run are moved aside; with ``keep``, so is an earlier finished
    file. Raises UserError when it cannot be written.
    """
    if path is None or path == "-":
        if path and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8")  # whatever the console is
        yield sys.stdout if path else None
        return
    part = Path(path + ".part")
    with writing(path):
        part.parent.mkdir(parents=True, exist_ok=True)
        if part.is_file() and part.stat().st_size:
            with alone(part):
                place = free_name(part)
                replace(part, place)
            tell_aside(place)
        with open(part, "a", encoding="utf-8") as stream, alone(part):
            yield stream
        if keep and Path(path).exists():
            place = free_name(Path(path))
            replace(Path(path), place)
            print(f"the results of an earlier run are in {place} now", file=sys.stderr)
        replace(part, Path(path))


def results_place(json_path: str | None, inputs: Iterable[object], output: Path | None = None) -> str | None:
    """Where results go: the path, or the file that a link leads to. UserError if that is a CSV table, a folder, the one
    of annotated pictures to be, a device, one of the inputs, or a file of something else."""
    if json_path and json_path.lower().endswith(".csv"):
        raise UserError(f"--json {json_path} would hold JSON lines and no CSV; name plates.jsonl, of which "
                        "MTCNN/data_set/boxes_of_results.py then makes a table")
    if json_path is None or json_path == "-":
        return json_path
    if not json_path or json_path.endswith(("/", os.sep)) or os.path.isdir(json_path):
        raise UserError(f"--json '{json_path}' is no file's name; name one, such as plates.jsonl")
    if output is not None and real_path(output) == real_path(json_path):
        raise UserError(f"--json and --output are both {json_path}; name a file and a folder")
    if os.path.islink(json_path):
        json_path = os.path.realpath(json_path)
    if not os.path.exists(json_path):
        return json_path
    if is_device(json_path):
        raise UserError(f"--json {json_path} is a device or a pipe; name a file, or - for standard output")
    if any(os.path.exists(str(entry)) and os.path.samefile(str(entry), json_path) for entry in inputs):
        raise UserError(f"--json {json_path} would replace an input; name a file of its own, such as plates.jsonl")
    with writing(json_path), open(json_path, "rb") as file:
        if file.read(9) not in (b"", b'{"image":'):
            raise UserError(f"--json {json_path} would replace a file that holds no results; name another one")
    return json_path


def check_display(show: bool) -> None:
    """UserError where no window can be opened. Another process tries it: Qt would end this one."""
    probe = [sys.executable, "-c", "import cv2; cv2.namedWindow('plates')"]
    if show and subprocess.run(probe, capture_output=True).returncode:
        raise UserError("no window can be opened here; leave out --show, or name a display in DISPLAY, and install "
                        "opencv-python, not opencv-python-headless")


def write_line(stream: TextIO | None, entry: dict[str, Any]) -> None:
    """One JSON line, at once."""
    if stream:
        stream.write(json_line(entry).decode())
        stream.flush()


class OutputFolder:
    """Annotated pictures, in subfolders as their inputs lie below the folder that all inputs share."""

    def __init__(self, folder: Path, sources: Iterable[Path]) -> None:
        """UserError when it is a file, cannot be written, or holds a source, which a result could replace."""
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise UserError(f"cannot write pictures to {folder}: it is a file; name a folder with --output")
        self.folder, self.root = folder, ""
        self.lacks_some = False  # whether a picture could not be written
        place, parent = real_path(folder), None
        if not takes_files(folder):
            raise UserError(f"cannot write pictures to {folder}: permission denied; name another folder with --output")
        for source in sources:
            linked = os.path.islink(source) and real_path(source).is_relative_to(place)
            if source.parent == parent and not linked:
                continue
            parent = source.parent
            if linked or real_path(parent).is_relative_to(place):
                raise UserError(f"{folder} holds inputs, which annotated pictures could replace; name another folder "
                                "with --output")
            try:
                self.root = os.path.commonpath([self.root or os.path.abspath(parent), os.path.abspath(parent)])
            except ValueError:
                raise UserError("the inputs are on several drives; give those of each in a run of its own") from None

    def path_for(self, source: Path, suffixes: tuple[str, ...] = WRITABLE, default: str = ".jpg") -> Path:
        """The source's own place in the folder; its name gets the default suffix behind it unless it has a good one."""
        name = source.name
        if source.suffix.lower() not in suffixes:
            name += default
            while os.path.exists(source.with_name(name)):  # that is another one's
                name += default
        return self.folder / os.path.relpath(os.path.abspath(source.parent), self.root) / name


def must_name_pictures(inputs: Sequence[str | os.PathLike], leave_out: Path | None) -> None:
    """UserError, before anything is written, where no input has a picture, and for one that is an empty text."""
    problems = []
    for entry in inputs:
        try:
            next(expand_inputs([entry], leave_out))
        except UserError as error:
            if not str(entry):
                raise
            problems.append(error)
    if problems and len(problems) == len(inputs):
        raise problems[0]


class Score(Protocol):
    """Counts what a run has found; empty as a text where there was nothing to count. ``wrong`` are rows of a table with
    these ``columns``."""

    columns: tuple[str, ...]
    wrong: list[tuple[object, ...]]

    def add_entry(self, entry: dict[str, Any]) -> None:
        """Count what a line of results says."""


def check_table(table: Path, score: Score | None, json_path: str | None) -> None:
    """UserError where nothing is counted, where a table cannot be written, and where it would replace something else
    than an earlier one."""
    if score is None:
        raise UserError("--wrong needs to know what is right; name tables with --boxes")
    if json_path not in (None, "-") and real_path(table) == real_path(str(json_path)):
        raise UserError(f"--wrong and --json are both {table}; name two files")
    if is_device(table) or not takes_files(table.parent):
        raise UserError(f"--wrong {table} cannot be written; name a file in a folder where you may write")
    if not os.path.exists(table):
        return
    head = ",".join(score.columns)
    with writing(table), open(table, encoding="utf-8-sig", errors="replace") as file:
        if file.read(len(head)) not in ("", head):
            raise UserError(f"--wrong {table} would replace a file that is no such table; name another one")


def name_in(folder: Path, path: object) -> str:
    """What a table in a folder calls a picture, as far as UTF-8 can."""
    return os.fsencode(relative_name(Path(str(path)), folder)).decode("utf-8", "replace")


def run_pictures(inputs: Iterable[str | os.PathLike], read: ReadPicture, json_path: str | None = None,
                 output: Path | None = None, *, show: bool = False, resume: bool = False,
                 settings: Sequence[object] = (), score: Score | None = None, wrong: Path | None = None,
                 hide: bool = False, leave_out: Path | None = None) -> int:
    """Read every input and report it, and print the ``score`` of all, whose table of what is ``wrong`` goes into that
    file; an input that cannot be read is reported and the run goes on.

    Without ``json_path`` one line per plate is printed. With a file there the processes that torchrun started share the
    inputs, and ``resume`` keeps the lines of a run that was cut short, if its ``settings`` were the same: what results
    depend on, files of weights among it as paths. Annotated pictures have the plates blotted out if ``hide``.
    ``leave_out`` is a folder that is no input, by default ``output``.
    Returns the exit status: 0, or 1 when some inputs failed or an annotated picture could not be written.
    """
    # The pattern * names what a run before has written too.
    named, leave_out = list(inputs), leave_out or output
    inputs = [entry for entry in named if not is_same_folder(entry, leave_out)] or named
    must_name_pictures(inputs, leave_out)
    sources = functools.partial(expand_what_is_there, inputs, leave_out)  # anew for every walk: they're never all held
    json_path = results_place(json_path, inputs, output)
    if wrong:
        check_table(wrong, score, json_path)
    check_display(show)
    folder = OutputFolder(output, sources()) if output else None
    if json_path is not None and json_path != "-":
        read_inputs = functools.partial(read_all, read=read, folder=folder, show=show, hide=hide)
        failed = run_shared(sources, read_inputs, json_path, resume, settings, output)
        if score and rank() == 0:  # with what other processes, or a run before, have found
            with open(json_path, encoding="utf-8") as lines:
                for line in lines:
                    score.add_entry(json.loads(line))
    else:
        if resume or world() > 1:
            raise UserError("--resume and torchrun need a file for the results; name one with --json FILE")
        failed = False
        with json_lines(json_path) as stream:
            for _, entry in read_all(enumerate(sources()), read, folder, show, hide, speak=stream is None):
                failed |= "error" in entry
                write_line(stream, entry)
                if score:
                    score.add_entry(entry)
    if score and rank() == 0:
        tell_score(score, wrong, sys.stderr if json_path == "-" else sys.stdout)
    wait_for_all()  # torchrun ends the others when one has failed
    return int(failed or (folder is not None and folder.lacks_some))


def tell_score(score: Score, wrong: Path | None, out: TextIO) -> None:
    """Print what a run has found, and write the table of what is wrong."""
    if str(score):
        print(score, file=out)
    if wrong:
        write_rows(wrong, score.columns, ((name_in(wrong.parent, path), *rest) for path, *rest in score.wrong))
        print(f"{len(score.wrong)} rows of what is wrong are in {wrong}", file=sys.stderr)


def run_shared(sources: Callable[[], Iterator[Path]], read_inputs: Callable[..., Iterator[tuple[int, dict[str, Any]]]],
               json_path: str, resume: bool, settings: Sequence[object], output: Path | None) -> bool:
    """``run_pictures`` into a file, by one process or by all that torchrun started; ``sources()`` gives all inputs.
    Whether some failed, which the first process knows."""
    made_with = [file_fingerprint(value) if isinstance(value, Path) else value for value in settings]
    parts, kept, failed = Parts(json_path, json.dumps(made_with)), 0, 0
    with parts.only_run() if rank() == 0 else contextlib.nullcontext():
        if rank() == 0:
            kept = parts.start(resume, sources())
            if kept and output:
                print(f"{kept} lines are kept, whose pictures are not drawn again; without --resume all are")
        wait_for_all()
        start = time.perf_counter()
        shown = rank() == 0 and sys.stderr.isatty()  # to count the inputs walks through all of them
        total = math.ceil(sum(1 for _ in parts.left(sources())) / world()) if shown else None  # about
        try:
            with parts.part(rank()) as part:
                for number, entry in tqdm(read_inputs(own_items(parts.left(sources()))), total=total, unit="picture",
                                          leave=False, disable=not shown):
                    part.write(number, entry)
        except KeyboardInterrupt:
            if rank() == 0:
                print(f"what was read is in {parts.folder}; the same command goes on with --resume", file=sys.stderr)
            raise
        wait_for_all()
        seconds = time.perf_counter() - start
        if rank() == 0:
            count, failed = parts.finish(sources())
            print(f"results written to {json_path}: {count} pictures, {failed} of them failed; "
                  f"{count - kept} read now, {(count - kept) / seconds:.1f} a second")
    return failed > 0


def read_all(numbered: Iterable[Numbered], read: ReadPicture, folder: OutputFolder | None, show: bool,
             hide: bool, speak: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """The JSON entry of every input with its number, in order, after its annotated picture is written or shown.

    Threads decode the next pictures and write the ones before during this one. ``speak``: print a line per plate.
    """
    def load(item: Numbered) -> Input:
        one = Input(*item)
        try:
            with enough_memory(one.path):
                one.image = read_image(one.path)
        except UserError as error:
            one.error = error
            try:
                next(expand_inputs([one.path]))
            except UserError as better:  # of an input that names no picture
                one.error = better
        return one

    def compute() -> Iterator[Input]:
        for one in ahead(numbered, load, threads):
            if one.image is not None:
                try:
                    with enough_memory(one.path):
                        one.result = read(one.image, one.path)
                except UserError as error:
                    one.error = error
            yield one

    def annotate(one: Input) -> Input:
        if one.image is not None and one.result is not None:
            one.image = (hide_plates if hide else draw_plates)(one.image, one.result.plates)
            if folder:
                try:
                    with enough_memory(folder.path_for(one.path)):
                        write_image(folder.path_for(one.path), one.image)
                except DiskFull:
                    raise
                except UserError as error:
                    one.unwritten = error
        return one

    threads = spare_threads()
    for one in ahead(compute(), annotate, threads) if folder or show else compute():
        if one.error or one.image is None or one.result is None:
            tqdm.write(f"error: {one.error}", file=sys.stderr)
            yield one.number, {"image": str(one.path), "error": str(one.error)}
            continue
        if one.unwritten and folder:
            tqdm.write(f"error: {one.unwritten}", file=sys.stderr)
            folder.lacks_some = True
        if speak:
            report(one.path, one.result, None if one.unwritten else folder)
        if show:
            cv2.imshow("plates (any key goes on)", one.image)
            cv2.waitKey(0)
        yield one.number, {"image": str(one.path), **one.result.to_dict()}


def report(path: Path, result: PictureResult, folder: OutputFolder | None) -> None:
    """Print one line per plate, and where the annotated picture is."""
    for plate in result.plates:
        print(f"{path}: {plate}")
    if not result.plates:
        print(f"{path}: no plate found")
    if folder:
        print(f"{path}: annotated picture in {folder.path_for(path)}")
