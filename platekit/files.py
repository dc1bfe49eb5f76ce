"""Files that are written whole or not at all, and what else writing and naming files takes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from platekit.errors import DiskFull, UserError, reason

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

FULL = (errno.ENOSPC, errno.EDQUOT)  # what a disk says that is full
REPLACE_TRIES, REPLACE_SECONDS = 20, 0.1
_held: set[int] = set()  # handles of what this process is ``alone`` at


def _let_go() -> None:
    """In a forked process: a lock lasts as long as its last handle, though who asked for it is killed."""
    for handle in _held:
        os.close(handle)
    _held.clear()


if fcntl is not None:
    os.register_at_fork(after_in_child=_let_go)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block ends without an error.

    Raises UserError when the folder cannot be made or written to (read-only, disk full); nothing is left behind.
    """
    path = Path(path)
    if is_device(path):
        raise UserError(f"cannot write {path}: it is a device or a pipe; name a file")
    # A long name has no room for more than its beginning; threads may write files of one beginning at the same time.
    temporary = path.with_name(f".{path.name[:40]}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        replace(temporary, path)
    except OSError as error:
        kind = DiskFull if error.errno in FULL else UserError
        raise kind(f"cannot write {path}: {error.strerror or error}; free some space or choose another folder") \
            from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def stripped_lines(path: str | os.PathLike) -> list[str]:
    """The lines of a small text file, stripped, without empty ones. Raises UserError.

    Lists of inputs are read by ``platekit.inputs.read_lines``: they may be long, and of names in any encoding.
    """
    try:
        return list(filter(None, map(str.strip, Path(path).read_text(encoding="utf-8-sig").split("\n"))))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the list {path}: {reason(error)}; check the path") from None


def replace(source: Path, target: Path) -> None:
    """``os.replace``, which on Windows fails for as long as another program looks at the target, as a virus scanner."""
    for _ in range(REPLACE_TRIES if os.name == "nt" else 0):
        with contextlib.suppress(PermissionError):
            os.replace(source, target)
            return
        time.sleep(REPLACE_SECONDS)
    os.replace(source, target)


def free_name(path: Path) -> Path:
    """A new name beside the path."""
    return next(name for number in itertools.count(1) if not (name := Path(f"{path}{number}")).exists())


def tell_aside(place: Path) -> None:
    """Say where what a run that was cut short had left has been moved to."""
    print(f"the lines of a run that was cut short are in {place} now", file=sys.stderr)


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """An OSError becomes the UserError that ``path`` cannot be written."""
    try:
        yield
    except BrokenPipeError:  # standard output's, not the file's
        raise
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(f"cannot write {path}: {error.strerror}; free some space") from None
        raise UserError(f"cannot write {path}: {error.strerror}; name a place where you may write") from None


@contextlib.contextmanager
def alone(place: str | os.PathLike) -> Iterator[None]:
    """A block that one process at a time is in, for each file or folder. Raises UserError where another one is.

    The system lets go of the place when a process is killed. Not on Windows, nor on file systems without locks.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(place, os.O_RDONLY)
    _held.add(handle)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another run is writing to {place}; wait for it, or name another place") from None
        except OSError:  # there are no locks
            pass
        yield
    finally:
        if handle in _held:
            _held.remove(handle)
            os.close(handle)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """``alone`` at a folder that is made for it; what stays empty of it and above is removed again."""
    made = [place for place in (folder, *folder.parents) if not os.path.exists(place)]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with alone(folder):
            yield
    finally:
        with contextlib.suppress(OSError):
            for place in made:
                place.rmdir()


def printable(text: str) -> str:
    """The text with the bytes of a file name that are no UTF-8 as escapes, which JSON reads as what they were."""
    return text.encode("utf-8", "backslashreplace").decode()


def json_line(entry: dict[str, Any]) -> bytes:
    """One JSON line in UTF-8."""
    return (printable(json.dumps(entry, ensure_ascii=False)) + "\n").encode()


def write_bytes(path: str | os.PathLike, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all. Raises UserError for a name in it that is no UTF-8."""
    write_bytes(path, as_utf8(text, path))


def as_utf8(text: str, path: str | os.PathLike) -> bytes:
    """What ``text`` is in UTF-8; UserError for a name in it that is none, and cannot be written to ``path``."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        line = text[text.rfind("\n", 0, error.start) + 1:].partition("\n")[0]
        raise UserError(f"cannot write {path}: the name in its line {line!r} is no UTF-8; rename that file") from None


def is_device(path: str | os.PathLike) -> bool:
    """Whether the path is a device or a pipe, such as /dev/null, which writing a file there would destroy."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def real_path(path: str | os.PathLike) -> Path:
    """The path without links, as Path.resolve gives it, which raises where links go round in a circle."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # the system's encoding has no such name: opening it reports that
        return Path(os.path.abspath(path))


def takes_files(folder: Path) -> bool:
    """Whether files can be made in a folder, which may have to be made first."""
    place = real_path(folder)
    nearest = next(filter(os.path.exists, (place, *place.parents)), "")  # none on a drive that is not there
    return os.path.isdir(nearest) and os.access(nearest, os.W_OK)


def relative_name(path: Path, folder: Path) -> str:
    """What a file in ``folder`` calls ``path``: with links followed as the system does, whole from another drive."""
    place = real_path(path.parent)
    with contextlib.suppress(ValueError):
        place = Path(os.path.relpath(place, real_path(folder)))
    return (place / path.name).as_posix()


def file_fingerprint(path: str | os.PathLike | None) -> str:
    """The ``fingerprint`` of a file's content; of no file an empty text. Raises UserError."""
    try:
        return fingerprint(Path(path).read_bytes()) if path else ""
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from None


def fingerprint(*parts: str | bytes) -> str:
    """Twelve hexadecimal digits that differ where the texts or contents do, or their order: of a SHA-256."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:12]
