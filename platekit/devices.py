"""The device to compute on."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from platekit.errors import UserError

DEVICE_HELP = "auto (a CUDA GPU where there is one, else the CPU), cpu, cuda or cuda:N"


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The torch device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; UserError when it is not there.

    A device of torch's is taken by its name. On a GPU convolutions of float32 numbers are exact from then on: else they
    use TF32, with the precision of float16, in which boxes move by some pixels.
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
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device '{name}' is not there ({torch.cuda.device_count()} CUDA devices found); "
                        "use --device cpu")
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    return device


def without_autocast(method: Callable) -> Callable:
    """A decorator for methods of what has a ``device``: mixed precision that the caller switched on ends there."""

    @functools.wraps(method)
    def call(self, *arguments, **named):
        with torch.autocast(self.device.type, enabled=False):
            return method(self, *arguments, **named)

    return call


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
