"""Process groups of exchanges that nobody has any more: torch keeps a group, its threads and sockets, until it is told.

Ranks forget an exchange at different times, when their garbage collector runs, and torch calls some groups of a script
by the number of those that a rank has. So a group is destroyed where the next exchange is built, on all ranks or none.
"""

import weakref
from itertools import compress

import torch
import torch.distributed as dist

from gradvote.engines.distributed.transport import Transport
from gradvote.staging import CPU


class _Known:
    """The groups of exchanges under one WORLD, in the order in which all ranks have built them, with who uses them."""

    def __init__(self, world: dist.ProcessGroup) -> None:
        self.world = weakref.ref(world)
        self.groups: list[tuple[dist.ProcessGroup, weakref.ref[Transport]]] = []


_known: list[_Known] = []


def know(group: dist.ProcessGroup, transport: Transport) -> None:
    """A private group of all ranks that only `transport` uses; all ranks say so."""
    _of_this_world().groups.append((group, weakref.ref(transport)))


def let_go(transport: Transport) -> None:
    """Destroy the groups whose transports are gone on all ranks; all ranks ask, over a new one that they know already.

    Those of NCCL stay: their end waits for the other ranks.
    """
    groups = _of_this_world().groups
    gone = [user() is None and dist.get_backend(group) == "gloo" for group, user in groups]
    agreed = transport.gather(torch.tensor(gone, dtype=torch.uint8, device=CPU)).bool().all(0).tolist()
    for group, _ in compress(groups, agreed):
        dist.destroy_process_group(group)
    groups[:] = [pair for pair, dropped in zip(groups, agreed, strict=True) if not dropped]


def _of_this_world() -> _Known:
    world = dist.group.WORLD
    assert world is not None
    if not _known or _known[0].world() is not world:
        _known[:] = [_Known(world)]
    return _known[0]
