"""Several processes, started by torchrun, for one training or to read pictures: gloo on the CPU, NCCL on GPUs.

    torchrun --nproc_per_node=2 -- LPRNet/LPRNet_Train.py --run runs/two

The ``--`` keeps torchrun from taking ``--run`` for an option of its own. On several machines that folder must be on a
disk that they share, to go on from there.
Each process loads its share of every batch and runs the net on it; outputs and labels are then gathered, so that every
process has the loss of the whole batch, and the gradients are added up. Hard-example mining, means over samples that
have a box, and batch norm see the whole batch as in one process. Started without torchrun nothing here does anything.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from platekit.errors import UserError


def join(device: torch.device) -> torch.device:
    """Join the processes that torchrun started, if it did; the device of this one. Only process 0 prints."""
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        if device.type == "cuda" and device.index:
            torch.cuda.set_device(device)  # threads of torch's own would use the first one
        return device
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UserError(f"there are {torch.cuda.device_count()} GPUs; give torchrun that --nproc_per_node, or "
                            "the script --device cpu")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # Optimisers import this. Its functions' defaults would keep the group, and gloo's threads, to the very end.
    importlib.import_module("torch.distributed.nn.functional")
    # Two backends: labels are gathered on the CPU. The others wait while process 0 evaluates, which may take long.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                            timeout=datetime.timedelta(days=1))
    atexit.register(dist.destroy_process_group)  # threads that outlive the interpreter may abort the exit
    if rank():
        sys.stdout = open(os.devnull, "w")
    return device


def rank() -> int:
    """The number of this process; process 0 evaluates, writes and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait_for_all() -> None:
    """Return when every process has come here."""
    if world() > 1:
        dist.all_reduce(torch.zeros(1))  # by gloo: NCCL's barrier would guess which GPU this process has


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A block in which processes depend on each other: UserError when another one is lost."""
    try:
        yield
    except RuntimeError as error:
        if world() == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise
        raise UserError(f"process {rank()} lost another process of this training, whose own message says why; the same "
                        "command, without --restart, goes on from the last checkpoint") from None


def total(share: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over all processes, which takes its place; without a gradient."""
    if world() > 1:
        dist.all_reduce(share)
    return share


def gather(share: torch.Tensor) -> torch.Tensor:
    """The rows of all processes in one tensor (N, ...), in the order of processes; the gradient goes to one's own."""
    if world() == 1:
        return share
    sizes = torch.zeros(world(), dtype=torch.long)
    sizes[rank()] = len(share)
    dist.all_reduce(sizes)
    first = int(sizes[:rank()].sum())
    whole = share.new_zeros(int(sizes.sum()), *share.shape[1:])
    whole[first:first + len(share)] = share.detach()
    dist.all_reduce(whole)  # zeros elsewhere: backends that gather tensors of one size only can do this
    return torch.cat([whole[:first], share, whole[first + len(share):]])


def gather_labels(batch: Any) -> Any:
    """A batch (a tuple of tensors, the net's input first) with the labels of all processes and one's own input."""
    if world() == 1:
        return batch
    parts = batch[0], *map(gather, batch[1:])
    return type(batch)(*parts) if hasattr(batch, "_fields") else parts


def whole_batch(net: nn.Module) -> Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]:
    """The net as a function that takes this process's share of a batch and gives the outputs of the whole batch."""
    if world() == 1:
        return net

    def call(*arguments: Any, **named: Any) -> torch.Tensor | tuple[torch.Tensor, ...]:
        outputs = net(*arguments, **named)
        return tuple(map(gather, outputs)) if isinstance(outputs, tuple) else gather(outputs)

    return call


def sum_gradients(net: nn.Module) -> None:
    """Add up the gradients of all processes, each of which has those of its own share of the batch."""
    if world() == 1:
        return
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    for gradient, summed in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(summed.view_as(gradient))


class Total(torch.autograd.Function):
    """The sum of a tensor over all processes, and the same for its gradient."""

    @staticmethod
    def forward(context: Any, share: torch.Tensor) -> torch.Tensor:
        return total(share.clone())

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return Total.forward(context, gradient.contiguous())


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the samples of all processes, on any device (torch's own SyncBatchNorm needs a GPU)."""

    momentum: float  # torch allows for None here and below; the nets have all four
    num_batches_tracked: torch.Tensor
    running_mean: torch.Tensor
    running_var: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        axes, values = (0, 2, 3), x.to(torch.promote_types(x.dtype, torch.float32))
        count = Total.apply(values.new_tensor(x.numel() / x.shape[1]))
        mean = Total.apply(values.sum(axes)) / count
        centred = values - mean[:, None, None]
        variance = Total.apply(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def share_batch_norm(net: nn.Module) -> None:
    """Let every batch norm of the net see the samples of all processes."""
    for module in net.modules() if world() > 1 else ():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm  # the same parameters and buffers, computed with in another way
