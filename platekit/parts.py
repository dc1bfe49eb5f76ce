"""JSON lines of a long run: written as they come, gone on with after a kill, merged in input order at the end.

During a run its lines are in ``FILE.parts/``: one file per process, each line behind the number of its input, and in
``kept`` what earlier runs have left. ``FILE`` itself appears when all inputs have their line.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from platekit.errors import UserError
from platekit.files import alone, free_name, json_line, replace, tell_aside, write_text, writing


class Parts:
    """What is there of ``FILE`` before it is whole. ``sources`` are all inputs, in the same order in every call.

    ``settings`` say what lines depend on beside the inputs: weights and flags.
    """

    def __init__(self, path: str | os.PathLike, settings: str = "") -> None:
        self.path, self.folder, self.settings = Path(path), Path(f"{path}.parts"), settings
        self._kept, self._merged, self._made_with = (self.folder / name for name in ("kept", "merged", "settings"))

    @contextlib.contextmanager
    def only_run(self) -> Iterator[None]:
        """A block around a run. Raises UserError where there is no place for the file, or another run writes it."""
        with writing(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
        with alone(self.folder):
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # there are lines in it, or something of somebody else's
                    self.folder.rmdir()

    def start(self, resume: bool, sources: Iterable[Path]) -> int:
        """Put aside what earlier runs left or, to ``resume``, keep all but errors and what is damaged; returns the
        number of lines kept.

        One process does this before any other goes on. Raises UserError when the kept lines are of other inputs, or of
        a run that was cut short and had other settings.
        """
        with writing(self.path):
            old, count = self._files(), 0
            if not resume and any(part.stat().st_size for part in old):
                place = free_name(self.folder)
                place.mkdir()
                for part in (*old, *filter(Path.exists, [self._made_with])):
                    replace(part, place / part.name)
                tell_aside(place)
                old = []
            if resume and self._made_with.exists() and self._made_with.read_bytes() != self.settings.encode("utf-8"):
                raise UserError(f"the lines in {self.folder} were made with other weights or flags; give the same, or "
                                "leave out --resume to read everything again")
            try:
                with open(self._merged, "wb") as file:
                    if resume and (old or self.path.exists()):
                        lines = [numbered_lines(part) for part in old] or [whole_lines(self.path)]
                        for number, line, error in lines_by_source(heapq.merge(*lines), sources, self.path):
                            if line and not error and is_result(line):
                                file.write(b"%d\t%b" % (number, line))
                                count += 1
            except UserError:
                self._merged.unlink()
                raise
            replace(self._merged, self._kept)  # an empty one too: else --resume would take FILE's lines
            for part in old:
                if part != self._kept:
                    part.unlink()
            write_text(self._made_with, self.settings)
        return count

    def left(self, sources: Iterable[Path]) -> Iterator[tuple[int, Path]]:
        """The inputs that have no line yet, with their numbers."""
        kept = (number for number, _ in numbered_lines(self._kept))
        next_kept = next(kept, None)
        for number, source in enumerate(sources):
            if number == next_kept:
                next_kept = next(kept, None)
            else:
                yield number, source

    @contextlib.contextmanager
    def part(self, rank: int) -> Iterator[PartFile]:
        """The file of this process; its inputs come in order."""
        with writing(self.folder):
            file = open(self.folder / str(rank), "wb")
        try:
            yield PartFile(file, self.folder)
        finally:
            with writing(self.folder):  # which a full disk may still refuse
                file.close()

    def finish(self, sources: Iterable[Path]) -> tuple[int, int]:
        """Make ``FILE`` of all parts; returns the number of lines and how many of them report an error.

        One process does this when all are through. Raises UserError when the inputs are not those that were read.
        """
        count = failed = 0
        lines = heapq.merge(*map(numbered_lines, self._files()))
        with writing(self.path):
            with open(self._merged, "wb") as file:
                for number, line, error in lines_by_source(lines, sources, self.path):
                    if not line:
                        raise changed(self.path, number, "it has come since")
                    file.write(line)
                    count, failed = count + 1, failed + error
                file.flush()
                os.fsync(file.fileno())
            replace(self._merged, self.path)
        for part in (*self._files(), self._made_with):
            part.unlink(missing_ok=True)
        return count, failed

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path == self._kept or path.name.isdigit())


class PartFile:
    """The lines of one process."""

    def __init__(self, file: BinaryIO, folder: Path) -> None:
        self._file, self._folder = file, folder

    def write(self, number: int, entry: dict[str, Any]) -> None:
        """The line of the input with this number; from now on a kill does not lose it."""
        with writing(self._folder):
            self._file.write(b"%d\t%b" % (number, json_line(entry)))
            self._file.flush()


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbers and lines of a part, without one that a kill has cut off."""
    with open(path, "rb") as file:
        for text in file:
            number, _, line = text.partition(b"\t")
            if number.isdigit() and len(number) < 19 and line.endswith(b"}\n"):  # int takes no thousands of digits
                yield int(number), line


def whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbers and lines of a file that a run has finished; an editor may have changed its line ends since."""
    with open(path, "rb") as file:
        for number, line in enumerate(filter(bytes.strip, file)):
            yield number, line.rstrip(b"\r\n") + b"\n"


def is_result(line: bytes) -> bool:
    """Whether a line says what is in a picture: one that is damaged does not."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return False
    plates = entry.get("plates") if isinstance(entry, dict) else None
    return isinstance(plates, list) and all(isinstance(plate, dict) for plate in plates)


def lines_by_source(lines: Iterable[tuple[int, bytes]], sources: Iterable[Path],
                    path: Path) -> Iterator[tuple[int, bytes | None, bool]]:
    """For every input its number, its line if there is one, and whether that reports an error.

    ``lines`` come by number; of lines with one number (a kill between merging and deleting leaves two) the first
    counts. Raises UserError when a line is not of the input with its number.
    """
    single = (next(group) for _, group in itertools.groupby(lines, key=lambda line: line[0]))
    none = (-1, b"")
    number, line = next(single, none)
    for index, source in enumerate(sources):
        if index != number:
            yield index, None, False
            continue
        start = json_line({"image": str(source)})[:-2] + b", "  # in place of the closing brace
        if not line.startswith(start):
            if (before := _input_of(line)) != str(source):
                raise changed(path, index, f"now it is {source}, before it was {before}")
            line = json_line(json.loads(line))  # another program has written it anew
        yield index, line, line.startswith(b'"error": ', len(start))
        number, line = next(single, none)
    if line:
        raise changed(path, number, "now there are fewer inputs")


def _input_of(line: bytes) -> str:
    """The input that a line is of, for a message."""
    try:
        return json.loads(line)["image"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return line.decode("utf-8", "replace").strip()[:200]


def changed(path: Path, number: int, what: str) -> UserError:
    """The error that the inputs are not those the lines were written for."""
    return UserError(f"the lines for {path} do not belong to these inputs (number {number + 1}: {what}); restore "
                     f"the inputs, and let no other run use them, for --resume to continue from {path}.parts or "
                     f"{path}, or leave --resume out to read everything again")
