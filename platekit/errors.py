"""Errors that are the user's to mend, and how a script ends on them."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import signal
import sys
from collections.abc import Callable
from types import ModuleType


class UserError(ValueError):
    """Bad input or usage. The message is one sentence that names the file and the remedy."""


class DiskFull(UserError):
    """There is no room for what is to be written: nothing that comes after will be either."""


def reason(error: Exception) -> object:
    """Why an error is there, for a sentence that names the file itself: the system's words for it, if it has some."""
    return getattr(error, "strerror", None) or error


def need(name: str, packages: str) -> ModuleType:
    """The module of this name, which most users do without; where it is missing, UserError that names ``packages``."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"the package {name} cannot be loaded ({error}); run 'pip install {packages}'") from None


def run_script(main: Callable[[], int | None], at_once: bool = False) -> None:
    """Run a script's ``main``; a UserError becomes one line on standard error and exit status 2.

    ``at_once`` is for scripts that leave nothing behind to be put in order: the process ends without taking its
    modules down one by one, which for torch takes as much memory again as a photo, and longer than to read one.
    """
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # None: closed
    for stream in (sys.stdout, sys.stderr):  # a narrow console encoding must not stop a plate from being printed
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    if os.getpid() == 1:  # as in a container: a process with this number ignores what it does not handle
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        status = main()
        sys.stdout.flush()
    except UserError as error:
        # From a loader process the error comes inside that process's traceback; its own sentence stands last.
        print(f"error: {str(error).strip().rpartition('UserError: ')[2]}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except OSError as error:
        if not (isinstance(error, BrokenPipeError) or error.errno == errno.ENOSPC):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at exit
        status = 1  # whoever read the output has seen enough, as in '... --json - | head'
        if error.errno == errno.ENOSPC:
            print("error: cannot write the output: the disk is full; free some space", file=sys.stderr)
            status = 2
    if at_once:
        with contextlib.suppress(OSError):  # after an error or Ctrl-C, what was printed before it waits here
            sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)
    sys.exit(status or 0)
