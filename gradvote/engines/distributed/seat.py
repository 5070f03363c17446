"""A part, and what this rank remembers of it: as a worker of all, as a server of its shard."""

from dataclasses import dataclass

import torch

from gradvote.engines.common.part import Part
from gradvote.engines.distributed.slices import Slices, States, slices_of
from gradvote.engines.distributed.states import StateRows, forget, leaves, rows_of, states_of


@dataclass
class Half:
    """The worker's or the server's half of a part, and its states, slice by slice."""

    slices: Slices
    states: States

    def rows(self, into: StateRows) -> None:
        """Add the rows (views) of the states to `into`."""
        for own, states in zip(self.slices.protocols, self.states, strict=True):
            rows_of(own.layout, states, into)

    @property
    def remembers(self) -> bool:
        """Whether there is any state."""
        return any(next(leaves(state), None) is not None for states in self.states for state in states)


@dataclass
class Seat:
    """Both halves of this rank."""

    part: Part
    worker: Half
    server: Half


def seat_of(
    part: Part,
    rank: int,
    home: torch.device,
    server: torch.device,
    loose: tuple[StateRows, StateRows],
    whole: bool = False,
) -> Seat:
    """The seat of gradients at `home` and votes that are counted on `server`.

    States are those that `loose` holds, which are forgotten there; others are those before the first step. `whole`:
    nothing is cut into slices.
    """
    ours, mine, algorithm = part.protocol, part.shards[rank].protocol, part.protocol.algorithm
    worker, serving = slices_of(ours, algorithm.up, home, whole), slices_of(mine, algorithm.down, server)
    return Seat(part, _half(worker, "worker", home, loose[0]), _half(serving, "server", server, loose[1]))


def _half(slices: Slices, verb: str, device: torch.device, rows: StateRows) -> Half:
    """Slice by slice, so that what is copied need not be there twice."""
    states: States = []
    for own in slices.protocols:
        zeros = torch.zeros(own.layout.size, device=device, dtype=torch.float32)
        fresh = own.init_worker(zeros) if verb == "worker" else own.init_server(zeros)
        states.append(states_of(own.layout, fresh, rows))
        forget(own.layout, rows)
    return Half(slices, states)
