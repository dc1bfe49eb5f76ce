"""Processes beside the main one that make samples: whether they can be started, and how they end."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable

from torch.utils.data import Dataset

from platekit.devices import local_processes
from platekit.errors import UserError
from platekit.signals import HANG_UP


def ignore_signals(_: int) -> None:
    """For loader processes: what reaches all of a group is for the one that trains, and ends them in its time."""
    for number in (signal.SIGINT, signal.SIGTERM, *HANG_UP):
        signal.signal(number, signal.SIG_IGN)


def check_workers(workers: int) -> None:
    """UserError where no loader process can be started."""
    if not workers or not os.path.isdir("/dev/shm"):
        return
    try:
        multiprocessing.Semaphore()
    except OSError as error:
        raise UserError(f"no loader process can be started here ({error.strerror}); give --workers 0") from None


def check_shared_memory(workers: int, data: Dataset, collate: Callable, batch_size: int) -> None:
    """UserError where loader processes would wait for ever for memory to hand batches over in."""
    if not workers or not os.path.isdir("/dev/shm"):
        return
    sample = sum(part.nbytes for part in collate([data[0, 0]]))
    of_all = 1.05 * (2 * workers + 1) * local_processes()  # batches, of torchrun's too
    needed, room = of_all * batch_size * sample / 1e6, shutil.disk_usage("/dev/shm").free / 1e6
    if needed > room:
        raise UserError(f"{workers} loader processes hand over up to {needed:.0f} MB in /dev/shm, which has room for "
                        f"{room:.0f} MB; give fewer --workers, or the container more (--shm-size)")
