"""Checkpoints for another number of ranks, or another placement. Nothing unsent is lost.

The error memories of leaving worker i are added to those of worker i mod M', in units of the latter's learning rate;
joining workers begin with empty memories; momenta stay with their workers and are dropped with them. The server's
memories belong to blocks and move with them.
"""

from collections.abc import Sequence
from typing import Any

import torch

from gradvote.engines.distributed.placement import PLACEMENTS, Placement
from gradvote.engines.distributed.states import Rows, Saved, flat_rows, rows_from
from gradvote.errors import unknown

Checkpoint = dict[str, Any]


def resize(states: Sequence[Checkpoint], num_ranks: int, placement: Placement | None = None) -> list[Checkpoint]:
    """The `state_dict`s of all ranks as those of `num_ranks` ranks, which resume at the same step.

    Σ_i e_i over the workers stays the same. `placement` changes the placement too.

    Raises:
        ValueError: the states are not those of all ranks of one run at one step.
    """
    old = _complete(states)
    if num_ranks < 1:
        raise ValueError(f"There must be at least one rank; got {num_ranks}.")
    if placement is not None and placement not in PLACEMENTS:
        raise unknown("placement", placement, PLACEMENTS)
    workers: list[Saved] = [s["worker"] for s in old[:num_ranks]] + [{}] * (num_ranks - len(old))
    for i, leaving in enumerate(old[num_ranks:], start=num_ranks):
        workers[i % num_ranks] = _absorbed(workers[i % num_ranks], leaving["worker"], old[0]["block_sizes"].tolist())
    server = _united([s["server"] for s in old], old[0]["block_sizes"].tolist())
    place = placement or old[0]["placement"]
    common = {**old[0], "num_ranks": num_ranks, "placement": place, "server": server}
    return [{**common, "rank": rank, "worker": worker} for rank, worker in enumerate(workers)]


def _complete(states: Sequence[Checkpoint]) -> list[Checkpoint]:
    ordered = sorted(states, key=lambda s: int(s["rank"]))
    facts = {(s["recipe"], s["step"], s["num_ranks"], s["placement"]) for s in ordered}
    if len(facts) != 1 or [s["rank"] for s in ordered] != list(range(int(ordered[0]["num_ranks"]))):
        raise ValueError(
            f"These are {len(ordered)} checkpoints of ranks {[s['rank'] for s in ordered]}; the checkpoints of all "
            "ranks of one run, saved at the same step, are needed."
        )
    return ordered


def _absorbed(own: Saved, leaving: Saved, sizes: list[int]) -> Saved:
    merged: Saved = {}
    for param, tensors in own.items():
        mine, theirs = (rows_from({param: side}, sizes) for side in (tensors, leaving[param]))
        for name in mine:
            if name.split(".")[-1] == "memory":
                _add(mine, theirs, name)
        merged[param] = flat_rows(mine)
    return merged


def _add(mine: Rows, theirs: Rows, name: str) -> None:
    rates = name.removesuffix("memory") + "lr"
    for block, memory in mine[name].items():
        own, other = mine[rates][block], theirs[rates][block]
        known = (own > 0) & (other > 0)
        ratio = torch.where(known, other / torch.where(known, own, 1.0), 1.0)
        mine[name][block] = memory + theirs[name][block] * ratio
        mine[rates][block] = torch.where(own > 0, own, other)


def _united(parts: Sequence[Saved], sizes: list[int]) -> Saved:
    united: dict[str, Rows] = {}
    for part in parts:
        for param, tensors in part.items():
            into = united.setdefault(param, {})
            for name, rows in rows_from({param: tensors}, sizes).items():
                into.setdefault(name, {}).update(rows)
    return {param: flat_rows(rows) for param, rows in united.items()}
