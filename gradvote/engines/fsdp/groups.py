"""Whether the groups across replicas and within them are what the votes of a sharded model need."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d
from torch.distributed.device_mesh import DeviceMesh

from gradvote.core import Algorithm
from gradvote.engines.common.arguments import in_words
from gradvote.engines.distributed.transport import Transport
from gradvote.engines.fsdp.local import MEND
from gradvote.engines.fsdp.replica import ShardRanks
from gradvote.staging import CPU


def group_of(given: Any) -> dist.ProcessGroup:
    """The group across replicas, of which a mesh may be given.

    Raises:
        TypeError: neither of both.
        ValueError: a mesh of several dimensions.
    """
    if isinstance(given, DeviceMesh):
        if given.ndim == 1:
            return given.get_group()
        raise ValueError(f"group= takes a mesh of one dimension, that across replicas; got {given}. {MEND}")
    if given is dist.GroupMember.NON_GROUP_MEMBER or not isinstance(given, dist.ProcessGroup):
        raise TypeError(
            f"group= takes the process group of the ranks that have the same shard, one of each replica; got "
            f"{in_words(given)}. {MEND}"
        )
    return given


def check_rule(algorithm: Algorithm) -> None:
    """Raise ValueError for a rule that needs whole vectors."""
    if not algorithm.aggregate.separable:
        raise ValueError(
            f"{algorithm.aggregate} needs every worker's whole vector at once, but each rank of a replica has a shard "
            "of it. Use a rule for each coordinate alone (a vote, a median, a trimmed mean)."
        )


def check_same_replica(shards: ShardRanks, transport: Transport) -> None:
    """Raise ValueError where the shards of this replica take it for different workers."""
    numbers = shards.gather([transport.rank, transport.num_ranks])
    own = transport.gather(torch.tensor([shards.shard], device=CPU))
    if bool((numbers != numbers[0]).any()) or bool((own != own[0]).any()):
        raise ValueError(
            f"The groups do not fit: the ranks of this replica are workers {numbers[:, 0].tolist()} of "
            f"{numbers[:, 1].tolist()}, and the ranks of this group have the shards {own[:, 0].tolist()}. {MEND}"
        )


def move_apart(shards: Transport, replicas: Transport) -> None:
    """Let both speak over groups of their own, so that others may use those of the mesh meanwhile; all ranks ask.

    They stay until the process ends: torch names groups of some ranks by these ranks and by how many there are, so the
    next one after one that was destroyed would find the addresses of that.

    Raises:
        ValueError: the new groups would not meet, as torch names them by the number of those that a rank has.
    """
    number = len(distributed_c10d._world.pg_names)
    counts = [transport.gather(torch.tensor([number], device=CPU)) for transport in (shards, replicas)]
    unlike = any(bool((own != own[0]).any()) for own in counts)
    if replicas.any(shards.any(unlike)):
        raise ValueError(
            f"With a delay a vote needs process groups of its own, which torch names by the number of groups that a "
            f"rank has: {number} here, on other ranks others. Attach before groups are made of some ranks only, or "
            "leave delay= out."
        )
    for transport in (shards, replicas):
        ranks, backend = dist.get_process_group_ranks(transport.group), dist.get_backend(transport.group)
        wait = timedelta(seconds=transport.timeout)
        transport.group = dist.new_group(ranks, timeout=wait, backend=backend, use_local_synchronization=True)


@contextmanager
def on_all_ranks(shards: ShardRanks, transport: Transport) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Comparisons of groups that cross: all are made, and afterwards all ranks go on, or none.

    Raises:
        Exception: the first that was raised here.
        RuntimeError: ranks elsewhere were given different things.
    """
    errors: list[Exception] = []

    def check(compare: Callable[[], None]) -> None:
        try:
            compare()
        except Exception as error:
            errors.append(error)

    yield check
    elsewhere = transport.any(shards.transport.any(bool(errors)))
    if errors:
        raise errors[0]
    if elsewhere:
        raise RuntimeError(
            "The vote was attached on no rank, as other ranks were given different things: their errors say what."
        )
