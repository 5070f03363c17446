"""How far a worker's own steps led: start − now, for each parameter."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.optim import Optimizer

from gradvote.staging import to_host


class Ways(NamedTuple):
    """start − now of each parameter, None where it has not moved; and the places of those that are not finite."""

    ways: list[Tensor | None]
    spoilt: list[int]


def ways_between(starts: Sequence[Tensor], nows: Sequence[Tensor]) -> Ways:
    """The ways from the starts; a card is asked once."""
    ways = [start.detach() - now.detach() for start, now in zip(starts, nows, strict=True)]
    moved = to_host([(way != 0).any() for way in ways])
    finite = to_host([way.isfinite().all() for way in ways])
    kept = [way if bool(flag) else None for way, flag in zip(ways, moved, strict=True)]
    return Ways(kept, [i for i, flag in enumerate(finite) if not bool(flag)])


def forget_spoilt(optimizers: Iterable[Optimizer], p: Tensor) -> bool:
    """Empty the state of a parameter where it is not finite, as it would stay so for ever; whether there was one."""
    found = False
    for optimizer in optimizers:
        held = [v for v in optimizer.state.get(p, {}).values() if isinstance(v, Tensor) and v.is_floating_point()]
        if not all(bool(flag) for flag in to_host([v.isfinite().all() for v in held])):
            optimizer.state.pop(p)
            found = True
    return found
