"""Who holds which shard (placement `sharded`): its server, and a buddy with a copy of the server's memory.

A shard stays with those who have its memory; what is missing is given to those who hold the least.
"""

import struct
from collections.abc import Iterable, Sequence

COPIES = 2
SHARD = struct.Struct("<H")
"""The number of a shard in a frame."""
Holders = tuple[tuple[int, ...], ...]
"""For each shard the tickets of the processes that hold it, its server first."""
Moves = tuple[tuple[int, int], ...]
"""(shard, ticket): who holds a shard from now on without its memory, and must be given it."""


def arranged(valid: Sequence[Iterable[int]], members: Iterable[int]) -> tuple[Holders, Moves]:
    """Holders of all shards among `members`; `valid[s]` are those that have the memory of shard s now.

    Loads differ by at most one where that can be had without moving the last copy. Who gives a shard away keeps its
    copy as long as there are fewer than two others: until members are chosen anew.
    """
    able = [set(own) for own in valid]
    loads = dict.fromkeys(sorted(members), 0)
    chosen: list[list[int]] = []
    for candidates in able:
        chosen.append([])
        _add(chosen[-1], candidates & loads.keys(), loads)
    for own in chosen:
        _add(own, loads.keys(), loads)
    before = [list(own) for own in chosen]
    _balance(chosen, able, loads)
    for own, was, having in zip(chosen, before, able, strict=True):
        own.extend([t for t in was if t in having and t not in own][: COPIES - len(having & {*own})])
    serving = dict.fromkeys(loads, 0)
    holders = tuple(_ordered(own, able[s], serving) for s, own in enumerate(chosen))
    return holders, tuple((s, t) for s, own in enumerate(holders) for t in own if t not in able[s])


def sources(holders: Holders, moves: Moves) -> tuple[int | None, ...]:
    """For each shard the process whose copy of the memory the new holders get; None where all copies were lost."""
    return tuple(next((t for t in own if (s, t) not in moves), None) for s, own in enumerate(holders))


def held_by(holders: Holders, ticket: int) -> tuple[int, ...]:
    """The shards that a process holds."""
    return tuple(s for s, own in enumerate(holders) if ticket in own)


def _add(own: list[int], candidates: Iterable[int], loads: dict[int, int]) -> None:
    """Fill up the holders of a shard, those with the least first."""
    for ticket in sorted(set(candidates) - set(own), key=lambda t: (loads[t], t))[: COPIES - len(own)]:
        own.append(ticket)
        loads[ticket] += 1


def _balance(chosen: list[list[int]], able: Sequence[set[int]], loads: dict[int, int]) -> None:
    while move := _better(chosen, able, loads):
        shard, giver, taker = move
        chosen[shard] = [taker if t == giver else t for t in chosen[shard]]
        loads[giver] -= 1
        loads[taker] += 1


def _better(chosen: list[list[int]], able: Sequence[set[int]], loads: dict[int, int]) -> tuple[int, int, int] | None:
    """A shard that should go from one process to another; a memory that the taker has is moved for nothing."""
    found = []
    order = sorted(loads, key=lambda t: (loads[t], t))
    for shard, own in enumerate(chosen):
        for giver in own:
            taker = _taker(own, able[shard], order, loads)
            enough = taker is not None and loads[giver] - loads[taker] > 1
            if taker is not None and enough and (not able[shard] & {*own} or able[shard] & ({taker, *own} - {giver})):
                found.append((taker not in able[shard], -loads[giver], loads[taker], shard, giver, taker))
    return min(found)[3:] if found else None


def _taker(own: list[int], able: set[int], order: list[int], loads: dict[int, int]) -> int | None:
    """Who has the least of those that do not hold a shard yet; rather one that has its memory."""
    others = [t for t in order[: len(own) + len(able) + 1] if t not in own]
    least = [t for t in others if loads[t] == loads[others[0]]] if others else []
    return next((t for t in least if t in able), least[0] if least else None)


def _ordered(own: list[int], able: set[int], serving: dict[int, int]) -> tuple[int, ...]:
    """The server first: who has the memory, and serves the fewest shards."""
    order = tuple(sorted(own, key=lambda t: (t not in able, serving[t], t)))
    if order:
        serving[order[0]] += 1
    return order
