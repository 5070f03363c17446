"""Checkpoints for another number of ranks, or another placement. Nothing unsent is lost.

What leaving worker i has not sent is taken over by worker i mod M', as the algorithm's parts say (`Part.merge`): error
memories are added, in units of the latter's learning rate. Joining workers begin with empty memories; momenta stay with
their workers and are dropped with them. The server's memories belong to blocks and move with them.
"""

from collections.abc import Sequence
from typing import Any

from gradvote import recipes
from gradvote.core import Algorithm
from gradvote.engines.common.placement import PLACEMENTS, Placement
from gradvote.engines.distributed.states import (
    JOINED,
    Saved,
    StateRows,
    flat_rows,
    owners_of,
    rows_from,
    saved_by_size,
    states_by_size,
)
from gradvote.errors import unknown

Checkpoint = dict[str, Any]


def resize(
    states: Sequence[Checkpoint],
    num_ranks: int,
    placement: Placement | None = None,
    algorithm: Algorithm | None = None,
) -> list[Checkpoint]:
    """The `state_dict`s of all ranks as those of `num_ranks` ranks, which resume at the same step.

    What all workers together have not sent stays the same. `placement` changes the placement too. `algorithm`, that of
    the run, is needed only where workers leave and its parts are of another package that is not imported.

    Raises:
        ValueError: the states are not those of all ranks of one run at one step, or not those of `algorithm`; or the
            number changes and the server adds up what each worker sent (`Part.mirrored`).
    """
    old = _complete(states)
    if num_ranks < 1:
        raise ValueError(f"There must be at least one rank; got {num_ranks}.")
    if placement is not None and placement not in PLACEMENTS:
        raise unknown("placement", placement, PLACEMENTS)
    sizes = old[0]["block_sizes"].tolist()
    workers: list[Saved] = [s["worker"] for s in old[:num_ranks]] + [{}] * (num_ranks - len(old))
    _check_mirrors(old, num_ranks, algorithm)
    if num_ranks < len(old):
        known = _algorithm_of(old[0]["recipe"], algorithm)
        for i, leaving in enumerate(old[num_ranks:], start=num_ranks):
            workers[i % num_ranks] = _absorbed(known, workers[i % num_ranks], leaving["worker"], sizes)
    server = _united([s["server"] for s in old], sizes)
    place = placement or old[0]["placement"]
    common = {**old[0], "num_ranks": num_ranks, "placement": place, "server": server}
    new = [{**common, "rank": rank, "worker": worker} for rank, worker in enumerate(workers)]
    for i, own in enumerate(new):
        own.pop(JOINED, None)
        if not own["worker"] and (i >= len(old) or JOINED in old[i]):
            own[JOINED] = True
    return new


def _check_mirrors(old: list[Checkpoint], num_ranks: int, given: Algorithm | None) -> None:
    """Refuse another number of workers where the server's sum is of these. What cannot be read can only grow."""
    if num_ranks == len(old):
        return
    try:
        known = given or recipes.first_of(old[0]["recipe"])
    except ValueError:
        return
    if known.mirrors:
        raise ValueError(
            f"{known.up} keeps an estimate that the server adds up, too, so its {len(old)} workers cannot become "
            f"{num_ranks}: the sum would be of other workers. Resume with {len(old)} ranks, or begin a new run."
        )


def _complete(states: Sequence[Checkpoint]) -> list[Checkpoint]:
    for i, state in enumerate(states):
        if not {"rank", "recipe", "step", "num_ranks", "placement"} <= set(state):
            raise ValueError(
                f"Item {i} of the states is no state_dict() of an Exchange or of a DDP vote. Give those of all ranks "
                "of one run; where a file holds the model's, too, take the vote's out of it."
            )
    if not states:
        raise ValueError("No states were given; resize takes the state_dict() of every rank of one run.")
    ordered = sorted(states, key=lambda s: int(s["rank"]))
    facts = {(s["recipe"], s["step"], s["num_ranks"], s["placement"]) for s in ordered}
    if len(facts) != 1 or [s["rank"] for s in ordered] != list(range(int(ordered[0]["num_ranks"]))):
        raise ValueError(
            f"These are {len(ordered)} checkpoints of ranks {[s['rank'] for s in ordered]}; the checkpoints of all "
            "ranks of one run, saved at the same step, are needed."
        )
    return ordered


def _algorithm_of(recipe: str, given: Algorithm | None) -> Algorithm:
    """The algorithm of a run, read from its recipe, the text of (algorithm, ...), where it is not given."""
    if given is None:
        try:
            return recipes.first_of(recipe)
        except ValueError as error:
            raise ValueError(f"{error} Or give resize the run's algorithm: resize(..., algorithm=...).") from error
    if not recipe.startswith(f"({given!r}, "):
        raise ValueError(f"These checkpoints are of another algorithm than {given!r}: they have recipe {recipe}.")
    return given


def _absorbed(algorithm: Algorithm, own: Saved, leaving: Saved, sizes: list[int]) -> Saved:
    owners = owners_of(own) | owners_of(leaving)
    mine, theirs = (states_by_size(algorithm.up, side, sizes, owners) for side in (own, leaving))
    merged = [(blocks, algorithm.merge(a, b)) for (blocks, a), (_, b) in zip(mine, theirs, strict=True)]
    return saved_by_size(merged, owners)


def _united(parts: Sequence[Saved], sizes: list[int]) -> Saved:
    united: dict[str, StateRows] = {}
    for part in parts:
        for param, tensors in part.items():
            into = united.setdefault(param, {})
            for name, rows in rows_from({param: tensors}, sizes).items():
                into.setdefault(name, {}).update(rows)
    return {param: flat_rows(rows) for param, rows in united.items()}
