"""Threads that work ahead: pictures are decoded and written while the networks compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from platekit.devices import cores, local_processes

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(items: Iterable[Item], work: Callable[[Item], Result], threads: int) -> Iterator[Result]:
    """``work`` of every item, in their order; threads are at the next ones while the caller is at the one before.

    Items are asked for in the caller's thread, as few as keep the threads busy: ``threads`` + 2 results exist at most.
    What ``work`` raises is raised here, in its turn. OpenCV lets go of Python's lock while it decodes and encodes.
    """
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def spare_threads() -> int:
    """How many threads to work ahead with: the cores, divided among torchrun's processes, and four at most."""
    return max(1, min(4, cores() // local_processes()))
