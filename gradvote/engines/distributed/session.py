"""What exchange and hook share: one rank's states, its step and its counts, over parts that may change."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gradvote.core import Algorithm, Part
from gradvote.engines.common import releases
from gradvote.engines.common.arguments import check_faults, check_secret
from gradvote.engines.common.parameters import Parameters
from gradvote.engines.common.part import part_of
from gradvote.engines.common.placement import Placement, block_sizes, served
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.common.recipe import check_saved
from gradvote.engines.common.releases import Releases
from gradvote.engines.common.terms import Terms
from gradvote.engines.distributed.alike import check_alike
from gradvote.engines.distributed.part_round import PartRound, RankRound
from gradvote.engines.distributed.pipeline import Traffic
from gradvote.engines.distributed.seat import Seat, seat_of
from gradvote.engines.distributed.states import JOINED, StateRows, leaves, rows_from, saved_of
from gradvote.engines.distributed.stats import ExchangeStats, from_rows
from gradvote.engines.distributed.transport import Transport
from gradvote.faults import Faulty
from gradvote.layout import Layout
from gradvote.staging import CPU
from gradvote.wire import Kind

VERSION = 2
ADVICE = "Load the file of this rank; for another number of ranks or another placement see gradvote.distributed.resize."

MISSING = "The state to load has no {what}: that memory would begin empty. Load all that state_dict gave. {advice}"


class Session:
    """Parts, states, step and counts of one rank.

    States change while a step is made, slice by slice; after a step that failed then, nothing is done with them any
    more. Where rounds are opened with `keep`, they change in `commit` only.
    """

    def __init__(
        self,
        parameters: Parameters,
        algorithm: Algorithm,
        placement: Placement,
        transport: Transport,
        seed: int,
        secret: bytes | None,
        faults: Sequence[Faulty],
        shifts: Callable[[Layout], Sequence[int]] | None = None,
    ) -> None:
        check_secret(secret)
        check_faults(faults)
        protocol = protocol_for(parameters.tensors, algorithm, seed, parameters.names)
        self.protocol = protocol if shifts is None else replace(protocol, shifts=tuple(shifts(protocol.layout)))
        self.names, self.transport, self.placement = tuple(parameters.names), transport, placement
        transport.settle(parameters.device)
        self.served = served(self.protocol.layout, placement, transport.num_ranks)
        for faulty in faults:
            faulty.check_real(transport.num_ranks)
        self.secret, self.faults, self.step = secret, tuple(faults), 0
        self._came_from: int | None = None
        self.releases: Releases | None = None
        self.owners = _owners(self.protocol.layout)
        self.seats: dict[Hashable, Seat] = {}
        self.loose: tuple[StateRows, StateRows] = ({}, {})
        self.counts = ExchangeStats(
            transport.rank, transport.num_ranks, self.protocol.layout.size, abstentions=(0,) * transport.num_ranks
        )
        self.last: list[PartRound] = []
        self._open: list[PartRound] = []

    def check_alike(self, parameters: Parameters, own: Terms) -> None:
        """Raise ValueError where the ranks were given different things; all ranks ask once, before the first step.

        `own` are the engine's arguments that must be alike, beside algorithm, seed and placement.
        """
        p = self.protocol
        terms = {"algorithm": p.algorithm, "seed": p.seed, "placement": self.placement, **own}
        check_alike(self.transport, parameters, terms, VERSION)

    def begin(self) -> None:
        """Begin a step.

        Raises:
            RuntimeError: an earlier one failed half way.
        """
        self._check_whole()
        self._open = []

    def came_from(self) -> int | None:
        """The step at which this rank loaded a state, asked once before the next one.

        None: it has loaded none, or it need not be known before messages are sent, as they have the same sizes in each
        step and begin with its number.
        """
        found, self._came_from = self._came_from, None
        return found if found is not None and self._sizes_vary() else None

    def _sizes_vary(self) -> bool:
        ctxs = self.protocol.contexts(self.step, self.transport.rank, 1.0)
        planes = [group for kind in (Kind.BALLOT, Kind.DECISION) for group in self.protocol.planes(kind, ctxs)]
        return any(isinstance(plane.row, Tensor) for group in planes for plane in group)

    def round_of(self, key: Hashable, layout: Layout, lr: float | Sequence[float], keep: bool = False) -> PartRound:
        """A round of the blocks of `layout`, known by `key` from round to round.

        `keep`: the old states stay until `commit`, beside the new ones.
        """
        seat = self.seats.get(key) or self._seat(key, layout)
        t = self.transport
        now = RankRound(self.step, t.rank, t.num_ranks, lr, self.secret, self.faults, t.home, t.server)
        self._open.append(PartRound(seat, now, keep))
        return self._open[-1]

    def commit(self, rounds: Mapping[Hashable, PartRound], deliveries: Sequence[Traffic]) -> None:
        """Take over the states of a finished step."""
        for key, round_ in rounds.items():
            self.seats[key].worker.states, self.seats[key].server.states = round_.worker, round_.server
        abstained = torch.tensor(self.counts.abstentions, device=CPU)
        for round_ in rounds.values():
            abstained += round_.abstentions
        self.last = list(rounds.values())
        self._next(replace(self.counts, steps=self.counts.steps + 1, abstentions=tuple(abstained.tolist())), deliveries)

    def skip(self, deliveries: Sequence[Traffic] = ()) -> None:
        """Count a step whose decisions nobody applies; the states stay, and the next step draws anew."""
        self._next(replace(self.counts, skipped=self.counts.skipped + bool(deliveries)), deliveries)

    def _next(self, counts: ExchangeStats, deliveries: Sequence[Traffic]) -> None:
        for up, down in deliveries:
            counts = counts.add(up, down)
        self.counts, self._open = counts, []
        self.step += 1

    def _check_whole(self) -> None:
        if any(round_.moved for round_ in self._open):
            raise RuntimeError(
                f"Step {self.step} failed on this rank while its memories and momenta were replaced, so they may be "
                "half of that step and half of the one before. Load a checkpoint (load_state_dict), on all ranks, or "
                "start all ranks again from the last one."
            )

    def told(self) -> tuple[str, Algorithm]:
        """Where this rank stands, in words, and what it runs."""
        t = self.transport
        return f"rank {t.rank} of {t.num_ranks}, step {self.step}, {self.placement}", self.protocol.algorithm

    def stats(self) -> ExchangeStats:
        """The counts of this rank."""
        return replace(self.counts, ties=sum(round_.ties() for round_ in self.last))

    def all_stats(self) -> list[ExchangeStats]:
        """The counts of all ranks, which all must ask for."""
        return from_rows(self.transport.gather(self.stats().as_row()), self.counts.coordinates)

    def seen(
        self,
        gather: Callable[[Layout, Mapping[int, Tensor | None]], Tensor],
        gradients: Mapping[int, Tensor | None],
        params: Sequence[Tensor],
    ) -> Mapping[int, Tensor | None]:
        """What others may see of this step's gradients of `params`: all of it, or what is released.

        Raises:
            BudgetSpent: the account allows no further release; nothing was released.
        """
        if self.releases is None:
            return gradients
        return self.releases.of_gradients(self.step, self.protocol.layout, gather, gradients, params)

    def state_dict(self, views: bool = False) -> dict[str, Any]:
        """This rank's states by parameter and block, the step and the recipe; all tensors are copies on the CPU.

        With `views` those of the states are lists of views instead: no copies, but of a card's.

        Raises:
            RuntimeError: a step failed half way.
        """
        self._check_whole()
        worker, server = self.rows()
        return {
            "version": VERSION,
            "recipe": self.protocol.recipe_text,
            "rank": self.transport.rank,
            "num_ranks": self.transport.num_ranks,
            "placement": self.placement,
            "step": self.step,
            "block_sizes": torch.tensor(block_sizes(self.protocol.layout), device=CPU),
            "worker": saved_of(worker, self.owners, self.names, views),
            "server": saved_of(server, self.owners, self.names, views),
            **releases.saved_of(self.releases),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            ValueError: it belongs to another algorithm, seed, model, rank, number of ranks or placement, or something
                is missing in it.
        """
        self._check(state)
        releases.load(self.releases, state, check=True)
        up, down = self.protocol.algorithm.up, self.protocol.algorithm.down
        worker = self._whole(state, "worker", up, () if state.get(JOINED) else range(len(self.owners)))
        server = self._whole(state, "server", down, self._mine())
        self.resume(worker, server, int(state["step"]))
        releases.load(self.releases, state)

    def resume(self, worker: StateRows, server: StateRows, step: int) -> None:
        """Continue with these states, of which the server's are those of any rank, at a step."""
        mine = set(self._mine())
        own = {name: {b: row for b, row in rows.items() if b in mine} for name, rows in server.items()}
        self._came_from = self.step if self._came_from is None else self._came_from
        self.seats, self.loose, self.step, self.last, self._open = {}, (worker, own), step, [], []

    def _mine(self) -> list[int]:
        """The blocks of which this rank is the server."""
        return [int(block) for block in self.served[self.transport.rank].nonzero()[:, 0]]

    def _whole(self, state: Mapping[str, Any], side: str, part: Part, blocks: Iterable[int]) -> StateRows:
        """The rows of one side of a saved state; what is not there would begin empty, in silence."""
        saved = state.get(side)
        if not isinstance(saved, Mapping):
            raise ValueError(MISSING.format(what=f"{side!r} entry", advice=ADVICE))
        rows = rows_from(dict(saved), block_sizes(self.protocol.layout))
        for name, _ in leaves(part.init(torch.zeros(1, 1, device=CPU, dtype=torch.float32))):
            known = rows.get(name, {})
            lost = next((block for block in blocks if block not in known), None)
            if lost is not None:
                what = f"{name!r} of {self.names[self.owners[lost]]!r} in its {side!r} entry"
                raise ValueError(MISSING.format(what=what, advice=ADVICE))
        return rows

    def rows(self) -> tuple[StateRows, StateRows]:
        """The states of this rank as worker, and as server of its blocks, row by row."""
        if not self.seats:
            self._seat("all", self.protocol.layout)
        worker, server = ({name: dict(rows) for name, rows in side.items()} for side in self.loose)
        for seat in self.seats.values():
            seat.worker.rows(worker)
            seat.server.rows(server)
        return worker, server

    def _seat(self, key: Hashable, layout: Layout) -> Seat:
        """Take a seat with the states of those that it takes the place of."""
        wanted = {block for group in layout.groups for block in group.blocks}
        for old, seat in list(self.seats.items()):
            if any(wanted.intersection(group.blocks) for group in seat.part.layout.groups):
                seat.worker.rows(self.loose[0])
                seat.server.rows(self.loose[1])
                del self.seats[old], seat
        t, part = self.transport, part_of(self.protocol, layout, self.served)
        self.seats[key] = seat_of(part, t.rank, t.home, t.server, self.loose, bool(self.faults))
        return self.seats[key]

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
