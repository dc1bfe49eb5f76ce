"""What a user names: files, folders, patterns and lists of pictures or videos."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from platekit.errors import UserError
from platekit.files import is_device, real_path
from platekit.opencv import image_types

# Suffixes of what is looked for in folders; a phone's .heic, which nothing here decodes, so that it is reported.
FOUND = (*image_types, ".jfif", ".webp", ".gif", ".avif", ".jp2", ".heic", ".heif")


def find_images(folder: str | os.PathLike) -> list[Path]:
    """All pictures below a folder, sorted. Raises UserError when the folder is missing or holds none."""
    return list(walk_images(folder))


def walk_images(folder: str | os.PathLike, leave_out: Path | None = None, suffixes: tuple[str, ...] = FOUND
                ) -> Iterator[Path]:
    """The pictures below a folder, sorted within each, one by one and without the subfolder ``leave_out``.

    Hidden ones are left out too: they hold previews, and what macOS keeps beside a photo. Of one folder at a time the
    names are held. Raises UserError as ``find_images``.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # Path.is_dir raises where a name is too long or its folder may not be entered
        raise UserError(f"{folder} is not a folder; check the path")
    found = _files_below(folder, leave_out and real_path(leave_out), suffixes)
    first = next(found, None)
    if first is None:
        raise UserError(f"{folder} holds no {_kind(suffixes)} ({', '.join(suffixes)}); name a folder that does")
    yield first
    yield from found


def _kind(suffixes: tuple[str, ...]) -> str:
    return "pictures" if suffixes == FOUND else "videos"


def _files_below(folder: Path, leave_out: Path | None, suffixes: tuple[str, ...]) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries
                           if not (entry.name.startswith(".")
                                   or (entry.is_symlink() and os.path.isdir(entry.path))))  # it can go round in circles
    except OSError:
        yield folder  # reading it reports why
        return
    for name, is_folder in names:
        path = folder / name
        if is_folder:
            if leave_out is None or path.resolve() != leave_out:
                yield from _files_below(path, leave_out, suffixes)
        elif name.lower().endswith(suffixes):
            yield path


def is_same_folder(path: str | os.PathLike, folder: Path | None) -> bool:
    """Whether ``path`` is that folder, by any name."""
    return folder is not None and os.path.isdir(path) and os.path.isdir(folder) and os.path.samefile(path, folder)


def expand_inputs(inputs: Iterable[str | os.PathLike], leave_out: Path | None = None,
                  suffixes: tuple[str, ...] = FOUND) -> Iterator[Path]:
    """Files, folders (searched through for ``suffixes``, but for ``leave_out``), lists and patterns, as paths in the
    order given.

    A list is a text file ``.txt`` with one path per line. Folders and lists are read as paths are asked for. A plain
    path that does not exist is passed on, so that reading it reports it beside the others. Raises UserError for a
    folder or list without pictures and a pattern that matches nothing.
    """
    for entry in inputs:
        if not str(entry):  # a variable of the shell that is not set
            raise UserError("an input is an empty text; name a picture or a folder, '.' for this one")
        path = Path(entry)
        if os.path.isdir(path):
            yield from walk_images(path, leave_out, suffixes)
        elif path.suffix.lower() == ".txt" and os.path.exists(path):
            yield from map(Path, read_lines(path))
        elif os.path.exists(path) or not glob.has_magic(str(entry)):
            yield path
        else:
            matches = _matches(str(entry))
            if not matches:
                raise UserError(f"the pattern {entry} matches no file; check it, and quote it for the shell")
            place = leave_out and real_path(leave_out)
            if place:
                matches = [match for match in matches if not real_path(match).is_relative_to(place)] or matches
            folders = {match for match in matches if os.path.isdir(match)}
            # The pattern ** names a folder and, once more, all that is below it.
            found = chain.from_iterable(_files_below(match, place, suffixes) if match in folders else [match]
                                        for match in matches if folders.isdisjoint(match.parents))
            first = next(found, None)
            if first is None:
                raise UserError(f"the pattern {entry} matches no {_kind(suffixes)}, but folders without any; check it")
            yield first
            yield from found


def expand_what_is_there(inputs: Iterable[str | os.PathLike], leave_out: Path | None = None) -> Iterator[Path]:
    """``expand_inputs``, but an input without pictures is passed on as it is: reading it reports it beside the others.
    """
    for entry in inputs:
        try:
            yield from expand_inputs([entry], leave_out)
        except UserError:
            yield Path(entry)


def _matches(pattern: str) -> list[Path]:
    """What a pattern matches, in order. ** does not go through links to folders, which can go round in circles."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return [Path(path) for path in sorted(glob.glob(pattern))]
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    try:
        found = set(Path(*parts[:fixed]).glob(str(Path(*parts[fixed:]))))
    except ValueError:
        raise UserError(f"the pattern {pattern} has ** within a name; write * there") from None
    hidden = any(part.startswith(".") for part in parts[fixed:])  # are meant where the pattern has a dot, as for glob
    return sorted(path for path in found if hidden or not any(part.startswith(".") for part in path.parts[fixed:]))


def read_lines(path: str | os.PathLike) -> Iterator[str]:
    """The lines of a list, but for empty ones. Raises UserError for a file that cannot be read or names nothing."""
    if is_device(path):  # opening a pipe would wait for ever, and /dev/zero has one endless line
        raise UserError(f"cannot read the list {path}: it is a pipe or a device; name a file")
    empty = True
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="\n") as lines:
            for line in lines:
                if empty and line.startswith(("\udcff\udcfe", "\udcfe\udcff")):
                    raise UserError(f"the list {path} is in UTF-16; save it in UTF-8")
                if name := line.rstrip("\r\n"):
                    empty = False
                    yield name
    except OSError as error:
        raise UserError(f"cannot read the list {path}: {error.strerror}; check the path") from None
    if empty:
        raise UserError(f"the list {path} names nothing; write one path per line into it")
