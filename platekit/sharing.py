"""Items shared by the processes that torchrun started, on one machine or many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from torch.distributed import rendezvous

from platekit.distributed import world

Item = TypeVar("Item")
TAKEN = 4  # items that a process takes at a time


def own_items(items: Iterable[Item]) -> Iterator[Item]:
    """Those of the items that this process takes; all processes go through the same items in the same order.

    Whoever is free takes the next few, by a counter that all share: nobody waits for the one with the largest pictures.
    """
    if world() == 1:
        yield from items
        return
    counter, _, _ = next(rendezvous("env://"))
    first = -TAKEN
    for number, item in enumerate(items):
        if number == first + TAKEN:
            first = counter.add("items taken", TAKEN) - TAKEN
        if number >= first:
            yield item
