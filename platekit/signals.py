"""Ctrl-C and a polite kill, after which what runs ends where nothing is lost."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

HANG_UP = [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []  # the terminal is gone


@contextlib.contextmanager
def stop_on_signal(stop: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """The first signal calls ``stop``; a second one acts as usual. Yields what came: whoever runs has to look.

    Signals that are ignored, as of a program that a shell runs in the background, stay so.
    """
    came: list[int] = []
    previous: dict[int, Callable | int | None] = {}

    def handle(number: int, _: object) -> None:
        came.append(number)
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
