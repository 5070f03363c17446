"""What exchange and hook share: one rank's states, its step and its counts, over parts that may change."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from gradvote.core import Algorithm, State
from gradvote.engines.common.parameters import Parameters
from gradvote.engines.common.part import Part, part_of
from gradvote.engines.common.placement import Placement, block_sizes, served
from gradvote.engines.common.protocol import Protocol, protocol_for
from gradvote.engines.common.recipe import check_saved
from gradvote.engines.distributed.alike import check_alike
from gradvote.engines.distributed.part_round import PartRound, RankRound
from gradvote.engines.distributed.states import StateRows, rows_from, rows_of, saved_of, states_of
from gradvote.engines.distributed.stats import ExchangeStats, from_rows
from gradvote.engines.distributed.transport import Delivered, Transport
from gradvote.faults import Faulty
from gradvote.layout import Layout
from gradvote.staging import CPU

VERSION = 2
ADVICE = "Load the file of this rank; for another number of ranks or another placement see gradvote.distributed.resize."


@dataclass
class Seat:
    """A part and this rank's states for it."""

    part: Part
    worker: Sequence[State]
    server: Sequence[State]


class Session:
    """Parts, states, step and counts of one rank. States change in `commit` only."""

    def __init__(
        self,
        parameters: Parameters,
        algorithm: Algorithm,
        placement: Placement,
        transport: Transport,
        seed: int,
        secret: bytes | None,
        faults: Sequence[Faulty],
    ) -> None:
        self.protocol = protocol_for(parameters.tensors, algorithm, seed, parameters.names)
        self.names, self.transport, self.placement = tuple(parameters.names), transport, placement
        transport.settle(parameters.device)
        self.served = served(self.protocol.layout, placement, transport.num_ranks)
        for faulty in faults:
            faulty.check_real(transport.num_ranks)
        self.secret, self.faults, self.step = secret, tuple(faults), 0
        self.owners = _owners(self.protocol.layout)
        self.seats: dict[Hashable, Seat] = {}
        self.loose: tuple[StateRows, StateRows] = ({}, {})
        self.counts = ExchangeStats(
            transport.rank, transport.num_ranks, self.protocol.layout.size, abstentions=(0,) * transport.num_ranks
        )
        self.last: list[PartRound] = []
        self._seat("all", self.protocol.layout)

    def check_alike(self, parameters: Parameters) -> None:
        """Raise ValueError where the ranks were given different things; all ranks ask once, before the first step."""
        check_alike(self.transport, parameters, self.protocol.recipe_text, self.placement, VERSION)

    def round_of(self, key: Hashable, layout: Layout, lr: float | Sequence[float]) -> PartRound:
        """A round of the blocks of `layout`, known by `key` from round to round."""
        seat = self.seats.get(key) or self._seat(key, layout)
        t = self.transport
        now = RankRound(self.step, t.rank, t.num_ranks, lr, self.secret, self.faults, t.home, t.server)
        return PartRound(seat.part, now, seat.worker, seat.server)

    def commit(self, rounds: Mapping[Hashable, PartRound], deliveries: Sequence[tuple[Delivered, Delivered]]) -> None:
        """Take over the states of a finished step."""
        for key, round_ in rounds.items():
            self.seats[key].worker, self.seats[key].server = round_.worker, round_.server
        abstained = torch.tensor(self.counts.abstentions, device=CPU)
        for round_ in rounds.values():
            abstained += round_.abstentions
        self.last = list(rounds.values())
        self._next(replace(self.counts, steps=self.counts.steps + 1, abstentions=tuple(abstained.tolist())), deliveries)

    def skip(self, deliveries: Sequence[tuple[Delivered, Delivered]]) -> None:
        """Count a step whose decisions nobody applies; the states stay, and the next step draws anew."""
        self._next(self.counts, deliveries)

    def _next(self, counts: ExchangeStats, deliveries: Sequence[tuple[Delivered, Delivered]]) -> None:
        for up, down in deliveries:
            counts = counts.add((up.bytes_sent, up.bytes_received), (down.bytes_sent, down.bytes_received))
        self.counts = counts
        self.step += 1

    def stats(self) -> ExchangeStats:
        """The counts of this rank."""
        return replace(self.counts, ties=sum(round_.ties() for round_ in self.last))

    def all_stats(self) -> list[ExchangeStats]:
        """The counts of all ranks, which all must ask for."""
        return from_rows(self.transport.gather(self.stats().as_row()), self.counts.coordinates)

    def state_dict(self) -> dict[str, Any]:
        """This rank's states by parameter and block, the step and the recipe; all tensors are copies on the CPU."""
        worker, server = self._rows()
        return {
            "version": VERSION,
            "recipe": self.protocol.recipe_text,
            "rank": self.transport.rank,
            "num_ranks": self.transport.num_ranks,
            "placement": self.placement,
            "step": self.step,
            "block_sizes": torch.tensor(block_sizes(self.protocol.layout), device=CPU),
            "worker": saved_of(worker, self.owners, self.names),
            "server": saved_of(server, self.owners, self.names),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            ValueError: it belongs to another algorithm, seed, model, rank, number of ranks or placement.
        """
        self._check(state)
        sizes = block_sizes(self.protocol.layout)
        loose = rows_from(state["worker"], sizes), rows_from(state["server"], sizes)
        mine = set(self.served[self.transport.rank].nonzero()[:, 0].tolist())
        loose[1].update({name: {b: row for b, row in rows.items() if b in mine} for name, rows in loose[1].items()})
        self.seats, self.loose, self.step, self.last = {}, loose, int(state["step"]), []

    def _rows(self) -> tuple[StateRows, StateRows]:
        worker, server = ({name: dict(rows) for name, rows in side.items()} for side in self.loose)
        for seat in self.seats.values():
            rows_of(seat.part.layout, seat.worker, worker)
            rows_of(self._mine(seat.part).layout, seat.server, server)
        return worker, server

    def _seat(self, key: Hashable, layout: Layout) -> Seat:
        part = part_of(self.protocol, layout, self.served)
        wanted = {block for group in layout.groups for block in group.blocks}
        for old, seat in list(self.seats.items()):
            if any(wanted.intersection(group.blocks) for group in seat.part.layout.groups):
                rows_of(seat.part.layout, seat.worker, self.loose[0])
                rows_of(self._mine(seat.part).layout, seat.server, self.loose[1])
                del self.seats[old]
        mine = self._mine(part)
        worker = part.protocol.init_worker(torch.zeros(layout.size, device=self.transport.home))
        server = mine.init_server(torch.zeros(mine.layout.size, device=self.transport.server))
        seat = Seat(part, states_of(layout, worker, self.loose[0]), states_of(mine.layout, server, self.loose[1]))
        for rows in (*self.loose[0].values(), *self.loose[1].values()):
            for block in wanted:
                rows.pop(block, None)
        self.seats[key] = seat
        return seat

    def _mine(self, part: Part) -> Protocol:
        return part.shards[self.transport.rank].protocol

    def _check(self, state: dict[str, Any]) -> None:
        own = {
            "version": VERSION,
            "placement": self.placement,
            "num_ranks": self.transport.num_ranks,
            "rank": self.transport.rank,
        }
        check_saved(state, self.protocol, own, ADVICE)


def _owners(layout: Layout) -> list[int]:
    pairs = sorted(pair for g in layout.groups for pair in zip(g.blocks, g.owners, strict=True))
    return [owner for _, owner in pairs]
