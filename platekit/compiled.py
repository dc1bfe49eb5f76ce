"""Loops over numbers as machine code: numba makes it at the first call and keeps it on disk, beside the module.

Without numba the short loops are left to Python, and for the others torch's own functions are taken: with the same
answers, in more time.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any, ParamSpec, TypeVar

import torch

try:
    import numba
except ImportError:  # not installed, or not made for this Python or numpy yet
    numba = None  # type: ignore[assignment]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
COMPILES = numba is not None
Task = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A decorator: the function in machine code, which other threads need not wait for; without numba as it is."""
    if not COMPILES:
        return function
    njit = partial(numba.njit, nogil=True, error_model="numpy", fastmath={"contract", "nsz"})
    try:
        made = njit(cache=True)(function)
    except RuntimeError:  # there is no folder that can be written to
        return njit()(function)
    if hasattr(made, "_cache"):  # NUMBA_DISABLE_JIT gives the function itself
        made._cache = Cache(made._cache)
    return made


class Cache:
    """numba's cache of one function; with a full disk or a damaged file the code is made anew."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        if name == "_cache":  # of a copy that has none yet
            raise AttributeError(name)
        return getattr(self._cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        try:
            return self._cache.load_overload(*arguments)
        except Exception:  # of many kinds, for a damaged file
            with contextlib.suppress(OSError):
                self._cache.flush()
            return None

    def save_overload(self, *arguments: Any) -> None:
        with contextlib.suppress(Exception):
            self._cache.save_overload(*arguments)


def in_threads(function: Callable, count: int, least: int, *arguments: object) -> None:
    """``function(*arguments, first, last)`` for parts of ``range(count)``, on as many threads as torch computes on.

    A part has ``least`` numbers or more.
    """
    number = max(1, min(torch.get_num_threads(), count // least))
    bounds = [count * part // number for part in range(number + 1)]
    parts = pairwise(bounds)  # one for all threads: taking the next part is one step under Python's lock
    errors: list[BaseException] = []

    def work(_: object = None) -> None:
        try:
            for first, last in parts:
                function(*arguments, first, last)
        except BaseException as error:  # not even Ctrl-C gets out of a function that C calls
            errors.append(error)

    if number == 1:
        work()
    elif openmp:
        openmp.GOMP_parallel(Task(work), None, number, 0)
    else:
        with ThreadPoolExecutor(number) as pool:
            list(pool.map(work, range(number)))
    if errors:
        raise errors[0]


def _loaded_openmp() -> ctypes.CDLL | None:
    """The OpenMP library that torch computes with, where it is GNU's.

    Its threads stay awake for milliseconds after each piece of work: others would wait for them.
    """
    try:
        return ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except (OSError, AttributeError):
        return None


openmp = _loaded_openmp()


@cache
def survive_forks() -> None:
    """Have processes forked from now on compute on one thread.

    They have no other than the one that forked, and GNU's library would wait for the others for ever.
    """
    if openmp:
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
