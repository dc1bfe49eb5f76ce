"""The device to compute on, and how many of a processor's cores there are for it."""

from __future__ import annotations

import argparse
import contextlib
import functools
import math
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch

from platekit.errors import UserError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
# As torch, OpenCV, onnxruntime and C++ say it, in errors of no kind of their own.
_NO_MEMORY = re.compile(r"allocate (?:memory|\d)|not enough memory|bad_?\s?alloc|out of memory", re.IGNORECASE)
DEVICE_HELP = "auto (a CUDA GPU where there is one, else the CPU), cpu, cuda or cuda:N"


def add_device(parser: argparse._ActionsContainer) -> None:
    """The flag ``--device``, for a parser or a group of one."""
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)


def local_processes() -> int:
    """How many processes torchrun has started on this machine; 1 without it."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The torch device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; UserError when it is not there.

    From then on torch's threads are limited to ``cores()``, unless OMP_NUM_THREADS is set, because more would wait for
    each other; on a GPU convolutions of float32 numbers are exact, because with TF32 (the precision of float16) boxes
    move by some pixels.
    """
    name = str(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise UserError(f"unknown device '{name}'; use {DEVICE_HELP}")
    if device.type == "cuda":
        if (device.index or 0) >= torch.cuda.device_count():
            raise UserError(f"device '{name}' is not there ({torch.cuda.device_count()} CUDA devices found); "
                            "use --device cpu")
        torch.backends.cudnn.allow_tf32 = False
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > cores():
        torch.set_num_threads(cores())
    return device


@functools.cache
def cores() -> int:
    """How many cores this process may use: those it is bound to, or as many as its container may keep busy."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(bound, cpu_quota())))


def cpu_quota(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """How many cores Linux lets this process's container keep busy; inf without a limit.

    ``own`` names its control groups, of either version, and their limits lie below ``groups``; see cgroups(7).
    """
    quotas = [math.inf]
    try:
        for line in own.read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            if not kinds or "cpu" in kinds.split(","):
                top = groups / "cpu" if kinds else groups
                group = top / path.lstrip("/")  # a container may not see where it lies, but sees its own as the top
                quotas += [_quota_of(place) for place in (group, *group.parents) if place.is_relative_to(top)]
    except (OSError, ValueError):
        pass
    return min(quotas)


def _quota_of(group: Path) -> float:
    try:
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else math.inf  # -1: no limit
    except (OSError, ValueError):  # "max": no limit
        return math.inf


def without_autocast(method: Callable[Concatenate[Any, Arguments], Result]
                     ) -> Callable[Concatenate[Any, Arguments], Result]:
    """A decorator for methods of what has a ``device``: mixed precision that the caller switched on ends there."""

    @functools.wraps(method)
    def call(self: Any, *arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        with torch.autocast(self.device.type, enabled=False):
            return method(self, *arguments, **named)

    return call


def lacks_memory(error: Exception) -> bool:
    """Whether this is an error because there is too little memory, the GPU's or the machine's."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return not isinstance(error, (UserError, OSError)) and _NO_MEMORY.search(str(error)) is not None


@contextlib.contextmanager
def enough_memory(name: object) -> Iterator[None]:
    """UserError instead of the libraries' own where memory is too small for what is called ``name``."""
    try:
        yield
    except Exception as error:
        if not lacks_memory(error):
            raise
        if isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()
            raise UserError(f"cannot read {name}: the GPU's memory is too small for it; use --device cpu") from None
        raise UserError(f"there is too little memory for {name}; make it smaller, or end other programs") from None


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device is a processor that multiplies bfloat16 numbers itself: others take longer for them."""
    able = torch.cpu.get_capabilities()
    return device.type == "cpu" and torch.backends.mkldnn.is_available() \
        and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def trains_in_bfloat16(device: torch.device) -> bool:
    """Whether mixed precision makes a training faster: a processor that lacks it takes up to 16 times as long."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # from Ampere on
    return multiplies_bfloat16(device)
