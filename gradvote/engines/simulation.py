"""M workers and their server in one process, with real bytes between them.

The placement is central: M ballots up, one decision down to each worker. Every payload becomes a framed message and is
parsed again; byte counts are the lengths of those messages.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gradvote import wire
from gradvote.core import Context, Payload, State
from gradvote.engines.common.arguments import check_faults, check_whole, in_words, round_of
from gradvote.engines.common.ballot import differ, parsed
from gradvote.engines.common.clipping import check_max_norm, clipped
from gradvote.engines.common.fellows import fellows_of, tally_in, without
from gradvote.engines.common.flat_buffer import check_device
from gradvote.engines.common.payloads import check_alike, for_all, payload_of, plane_of, states_on, where
from gradvote.engines.common.protocol import Planes, Protocol
from gradvote.engines.common.releases import KEY, account_of, load, releases_of, saved_of
from gradvote.faults import Faulty, diverging, dropped, on_gradients, on_link
from gradvote.privacy import Account, Gaussian
from gradvote.staging import CPU, to_device, to_host
from gradvote.wire import Kind


@dataclass
class Counts:
    """Bytes up and down over all workers so far, and the blocks that abstained, by worker (M,)."""

    abstentions: Tensor
    bytes_up: int = 0
    bytes_down: int = 0
    steps: int = 0


@dataclass
class Simulation:
    """The exchange of `num_workers` simulated workers.

    `step` takes their gradients, which are on `device`, and gives the direction for the optimizer: (d,), or (M, d)
    where faults on the way down make the workers' directions differ (`diverging`). Of the last round it keeps `sent`,
    the ballots as the workers sent them, `ballots`, as they arrived, and `decided`, the parameters on which somebody
    voted, of the decision or of each worker's. `max_norm` bounds the norm of each worker's own gradient before the
    vote. Private draws are derived from the seed: runs are reproducible. `privacy` bounds and hides each worker's
    update before anything else, with one `account` for each of them; its noise is not reproducible. `fellows` are
    groups of workers that hold data of one kind: who contradicts its fellows, all rounds together, is `doubted`, and
    its ballots do not count: as after one that was dropped, its memory keeps all of them.
    """

    protocol: Protocol
    num_workers: int
    faults: Sequence[Faulty] = ()
    max_norm: float | None = None
    device: torch.device = CPU
    privacy: Gaussian | None = None
    fellows: Sequence[Sequence[int]] = ()
    workers: Sequence[State] = field(init=False, repr=False)
    server: Sequence[State] = field(init=False, repr=False)
    counts: Counts = field(init=False, repr=False)
    sent: Sequence[Payload] = field(init=False, repr=False, default_factory=list)
    ballots: Sequence[Payload] = field(init=False, repr=False, default_factory=list)
    decided: list[frozenset[int]] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        check_whole("num_workers", self.num_workers, 1, "how many workers are simulated")
        check_faults(self.faults)
        for faulty in self.faults:
            faulty.check(self.num_workers)
        check_max_norm(self.max_norm, self.protocol.algorithm)
        d = self.protocol.layout.size
        self._releases = releases_of(self.privacy, d, self.protocol.algorithm, max_norm=self.max_norm)
        self.device = torch.empty(0, device=self.device, dtype=torch.float32).device  # "cuda" is one of the cards
        self.workers = self.protocol.init_worker(
            torch.zeros(self.num_workers, d, device=self.device, dtype=torch.float32)
        )
        self.server = self.protocol.init_server(torch.zeros(d, device=self.device, dtype=torch.float32))
        self.counts = Counts(torch.zeros(self.num_workers, dtype=torch.int64, device=self.device))
        self._fellows = fellows_of(self.fellows, self.num_workers)
        self._tally = None if self._fellows is None else self._fellows.init()
        self._senders = torch.arange(self.num_workers, device=CPU)[:, None]

    @property
    def account(self) -> Account | None:
        """What the ballots of each worker have cost so far, under `privacy`."""
        return account_of(self._releases)

    @property
    def diverging(self) -> bool:
        """Whether faults on the way down make the workers' models differ."""
        return diverging(self.faults)

    def contexts(self, step: int, lr: float | Sequence[float]) -> Sequence[Context]:
        """The contexts of all workers, one per group."""
        return self.protocol.contexts(step, self._senders, lr, device=self.device)

    def step(self, gradients: Tensor, step: int, lr: float | Sequence[float]) -> Tensor:
        """One round for gradients (M, d) in the layout's order.

        Raises:
            ValueError: they are on another device, or of another shape; `step` or `lr` is no such number.
            BudgetSpent: the account allows no further release.
        """
        self._check_shape(gradients)
        check_device([gradients], self.device)
        ctxs = self.contexts(*round_of(step, lr))
        gradients = clipped(self.protocol.layout, gradients, self.max_norm)
        gradients = gradients if self._releases is None else self._releases.release(self.counts.steps, gradients)
        sent, workers = self.protocol.encode(self._spoilt(gradients, ctxs), self.workers, ctxs)
        ballots = self._deliver_up(sent, ctxs)
        tally = self._heard(ballots, ctxs)
        doubted = self._doubted(tally)
        workers = self._with_lost(workers, sent, ctxs, doubted)
        counted = without(ballots, doubted, range(self.num_workers))
        decision, server = self.protocol.combine(counted, self.server, ctxs)
        heard = self._deliver_down(decision, ctxs)
        direction, workers = self.protocol.decode(heard, workers, ctxs)
        each = range(self.num_workers) if self.diverging else ()
        self.decided = [self.protocol.decided([payload_of(p, i) for p in heard]) for i in each] or [
            self.protocol.decided(heard)
        ]
        self.workers, self.server, self.sent, self.ballots, self._tally = workers, server, sent, ballots, tally
        self.counts.abstentions += sum((~b.valid).sum(-1) for b in ballots)
        self.counts.steps += 1
        return direction

    @property
    def doubted(self) -> frozenset[int]:
        """The workers that contradict their fellows so far, whose ballots do not count."""
        return self._doubted(self._tally)

    def _doubted(self, tally: Tensor | None) -> frozenset[int]:
        return frozenset() if self._fellows is None or tally is None else self._fellows.doubted(tally)

    def _heard(self, ballots: Sequence[Payload], ctxs: Sequence[Context]) -> Tensor | None:
        """The tally of fellows after these ballots."""
        if self._fellows is None or self._tally is None:
            return None
        return self._fellows.heard(self._tally, self.protocol, ballots, ctxs, range(self.num_workers))

    def _check_shape(self, gradients: Tensor) -> None:
        expected = self.num_workers, self.protocol.layout.size
        if not isinstance(gradients, Tensor) or gradients.shape != expected:
            found = f"shape {tuple(gradients.shape)}" if isinstance(gradients, Tensor) else in_words(gradients)
            raise ValueError(
                f"A round takes the gradients of all workers, one row each, of shape {expected} (workers, "
                f"coordinates); got {found}."
            )

    def state_dict(self) -> dict[str, Any]:
        """Both sides' state, the counts, and the account where there is one."""
        return {**self._states(), **saved_of(self._releases)}

    def _states(self) -> dict[str, Any]:
        c = self.counts
        (abstentions,) = to_host([c.abstentions])
        counts = {"up": c.bytes_up, "down": c.bytes_down, "steps": c.steps, "abstentions": abstentions}
        own = {} if self._fellows is None or self._tally is None else {"fellows": self._fellows.saved(self._tally)}
        return {"workers": self.workers, "server": self.server, "counts": counts, **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            ValueError: the state is that of another simulation; nothing has been changed.
        """
        load(self._releases, state, check=True)
        tally = tally_in(self._fellows, state.get("fellows"), "simulation")
        check_alike({k: v for k, v in state.items() if k != KEY}, self._states(), "the state")
        load(self._releases, state)
        self.workers, self.server = (states_on(state[side], self.device) for side in ("workers", "server"))
        self._tally = tally
        c = state["counts"]
        self.counts = Counts(to_device(c["abstentions"].clone(), self.device), c["up"], c["down"], c["steps"])

    def _spoilt(self, gradients: Tensor, ctxs: Sequence[Context]) -> Tensor:
        if not any(f.place == "worker" for f in self.faults):
            return gradients
        views = zip(self.protocol.layout.views(gradients), ctxs, strict=True)
        return torch.cat([on_gradients(self.faults, x, c, self.num_workers).flatten(-2) for x, c in views], -1)

    def _deliver_up(self, sent: Sequence[Payload], ctxs: Sequence[Context]) -> Sequence[Payload]:
        links = [on_link(self.faults, "uplink", p, c, self.num_workers) for p, c in zip(sent, ctxs, strict=True)]
        planes = self.protocol.planes(Kind.BALLOT, ctxs)
        shared = self.protocol.header(Kind.BALLOT, self._one(ctxs[0], 0))
        bodies = []
        for i, body in enumerate(self._packed(links, planes)):
            header = shared._replace(sender=i)
            message = wire.frame(body, header)
            self.counts.bytes_up += len(message)
            bodies.append(wire.body_of(message, header))
        return parsed(self.protocol, bodies, planes, self.device)

    def _packed(self, sent: Sequence[Payload], planes: Planes) -> Iterable[Tensor]:
        """The body of each worker's ballot, on the host."""
        if not differ(planes):
            return to_host([wire.pack(sent, planes)])[0]
        each = range(self.num_workers)
        own = ([tuple(plane_of(p, i) for p in group) for group in planes] for i in each)
        return to_host([wire.pack([payload_of(p, i) for p in sent], x) for i, x in zip(each, own, strict=True)])

    def _with_lost(
        self, workers: Sequence[State], sent: Sequence[Payload], ctxs: Sequence[Context], doubted: frozenset[int]
    ) -> Sequence[State]:
        """The workers' state, where a ballot was dropped, or is doubted, that of a worker who sent nothing."""
        lost = dropped(self.faults, "uplink", ctxs[0], self.num_workers)
        lost[sorted(doubted)] = True
        if not bool(lost.any()):
            return workers
        kept = self.protocol.undelivered(workers, sent, ctxs)
        lost = to_device(lost, self.device)
        return [where(lost[:, None] & s.valid, k, w) for s, k, w in zip(sent, kept, workers, strict=True)]

    def _deliver_down(self, decision: Sequence[Payload], ctxs: Sequence[Context]) -> Sequence[Payload]:
        planes = self.protocol.planes(Kind.DECISION, ctxs)
        message = self.protocol.send(Kind.DECISION, decision, planes, ctxs[0])
        self.counts.bytes_down += len(message) * self.num_workers
        received = self.protocol.receive(Kind.DECISION, message, planes, ctxs[0])
        return self._through_links(received, ctxs) if self.diverging else received

    def _through_links(self, decision: Sequence[Payload], ctxs: Sequence[Context]) -> Sequence[Payload]:
        each = [for_all(p, self.num_workers) for p in decision]
        links = zip(each, ctxs, strict=True)
        return self.protocol.check(
            Kind.DECISION, [on_link(self.faults, "downlink", p, c, self.num_workers) for p, c in links]
        )

    def _one(self, ctx: Context, worker: int) -> Context:
        return Context(ctx.seed, ctx.step, ctx.block, worker, ctx.lr, ctx.attempt, units=ctx.units)
