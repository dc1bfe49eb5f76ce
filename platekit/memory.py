"""What the process holds of memory. Of use on Linux only; elsewhere nothing happens here."""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
from collections.abc import Iterator

C_LIBRARY = ctypes.CDLL(None) if sys.platform == "linux" else None
MADV_DONTNEED = 4
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # glibc's malloc.h
MAPPING = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r-.p \S+ \S+ [1-9].*\n((?:[A-Z].*\n)*)", re.MULTILINE)  # of a file
UNCHANGED = re.compile(r"^(?:Anonymous|Swap): +0 kB$", re.MULTILINE)


def keep_freed_memory(most: int | None = None) -> None:
    """Let the C library hold on to freed memory, where it is glibc, for as long as the process lasts.

    ``most`` is how many bytes it may keep, of pieces of a quarter of that at most; without it, all. Otherwise tensors
    get fresh pages at every step, and having these zeroed took a sixth of a training step and an eighth of a photo.
    """
    mallopt = getattr(C_LIBRARY, "mallopt", None)
    if mallopt and most is not None:
        mallopt(M_MMAP_THRESHOLD, most // 4)  # larger allocations by mapping
        mallopt(M_TRIM_THRESHOLD, most)
    elif mallopt:
        mallopt(M_MMAP_MAX, 0)  # no allocation by mapping
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # the heap's end is not given back


def hand_back_files() -> None:
    """Hand back what the process holds of its libraries' files, for once everything is loaded.

    Loading a torch that can use CUDA touches 0.3 GB of them, most of it never again. What is needed after all comes
    back from the system's cache.
    """
    madvise = getattr(C_LIBRARY, "madvise", None)
    if madvise:
        with contextlib.suppress(OSError), open("/proc/self/smaps") as maps:
            for first, last in unchanged_files(maps.read()):
                madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), MADV_DONTNEED)


def unchanged_files(maps: str) -> Iterator[tuple[int, int]]:
    """The addresses, first and last, at which files are mapped that cannot be written into there and never were.

    ``maps`` is the text of /proc/PID/smaps (man 5 proc_pid_smaps). A page that was written into, as the loader does
    before it takes that right away, counts as anonymous or as swapped out: it would not come back as it was.
    """
    for first, last, facts in MAPPING.findall(maps):
        if len(UNCHANGED.findall(facts)) == 2:
            yield int(first, 16), int(last, 16)
