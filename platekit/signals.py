"""Ctrl-C and a polite kill, after which what runs ends where nothing is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Iterator

HANG_UP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []  # the terminal is gone


def leave_terminal() -> None:
    """Of a terminal that is gone: what goes there would be an error."""
    for output in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(output).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), output)


@contextlib.contextmanager
def stop_on_signal(stop: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """The first signal calls ``stop``; a second one acts as usual. Yields what came: whoever runs has to look.

    Signals that are ignored, as of a program that a shell runs in the background, stay so.
    """
    came: list[int] = []
    previous: dict[int, Callable | int | None] = {}

    def handle(number: int, _: object) -> None:
        came.append(number)
        if number in HANG_UP:
            leave_terminal()
        stop()
        signal.signal(number, previous[number])

    for number in (signal.SIGINT, signal.SIGTERM, *HANG_UP):
        if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: something else than Python's
            with contextlib.suppress(ValueError):  # outside the main thread signals are somebody else's
                previous[number] = signal.signal(number, handle)
    try:
        yield came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
