"""Items shared by the processes that torchrun started, on one machine or many."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

from torch.distributed import rendezvous

from platekit.distributed import world

Item = TypeVar("Item")
TAKEN = 4  # items that a process takes at a time
_walks = itertools.count()  # every one has a counter of its own


def own_items(items: Iterable[Item]) -> Iterator[Item]:
    """Those of the items that this process takes; all processes go through the same items in the same order.

    Whoever is free takes the next few, by a counter that all share: nobody waits for the one with the largest pictures.
    """
    if world() == 1:
        yield from items
        return
    counter, key = next(rendezvous("env://"))[0], f"items taken in walk {next(_walks)}"
    first = -TAKEN
    for number, item in enumerate(items):
        if number == first + TAKEN:
            first = counter.add(key, TAKEN) - TAKEN
        if number >= first:
            yield item
