"""One round of one part: vote, decide, hear, and read. States change as `keep` says.

A message is a tag (the step and 32 bits of the recipe's digest, 8 bytes) and the wire format's body. Sizes are known
beforehand, the transport checks its bytes and the group names the peers, so the 40-byte header of `wire.frame` would
say nothing that the tag does not. The whole digest is compared once, at the start.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from gradvote import wire
from gradvote.core import Aggregator, Algorithm, Payload
from gradvote.engines.common import worker_faults
from gradvote.engines.common.all_groups import Payloads, flags_of
from gradvote.engines.common.all_groups import Planes as AllPlanes
from gradvote.engines.common.cuts import Cut
from gradvote.engines.common.part import Shard
from gradvote.engines.common.payloads import empty, moved, plane_of, stack
from gradvote.engines.common.protocol import Planes
from gradvote.engines.distributed import digests
from gradvote.engines.distributed.seat import Seat
from gradvote.engines.distributed.slices import Update, Write
from gradvote.engines.distributed.transport import Mail
from gradvote.faults import Faulty
from gradvote.scattered import vector_of
from gradvote.staging import CPU, device_of, to_device, to_host
from gradvote.wire import Kind, WireError

TAG = struct.Struct("<II")


@dataclass(frozen=True)
class RankRound:
    """A round as rank `rank` of `num_ranks` sees it; `lr` is one rate, or one for each parameter.

    Gradients and directions are on the device `home`, votes are counted on `server`.
    """

    step: int
    rank: int
    num_ranks: int
    lr: float | Sequence[float] = 1.0
    secret: bytes | None = field(default=None, repr=False)
    faults: Sequence[Faulty] = ()
    home: torch.device = CPU
    server: torch.device = CPU


@dataclass
class PartRound:
    """`vote`, `decide` and `hear` in this order, each given what the transport brought, then `read`.

    Each slice's state takes the place of the old one in the seat as soon as it is known; with `keep` the seat has the
    old ones until the new ones, `worker` and `server`, are taken over. What the round needed is let go at its end.
    """

    seat: Seat
    round: RankRound
    keep: bool = False
    ballots: Sequence[Payload] = field(init=False, default_factory=list)
    """Those on which a vote may be split evenly, once it was decided."""
    decision: Sequence[Payload] = field(init=False, default_factory=list)
    decided: frozenset[int] = field(init=False, default=frozenset())
    """The parameters on which somebody voted; known when the decision was heard."""
    abstained: bool = field(init=False, default=False)
    """Whether a block of this rank's own ballot is not valid; known when the decision was heard."""
    abstentions: Tensor = field(init=False)
    """The blocks served here on which each rank abstained (M,), on the CPU; known when the decision was heard."""
    moved: bool = field(init=False, default=False)
    """Whether the seat may have a new state."""

    def __post_init__(self) -> None:
        r, seat = self.round, self.seat
        self.part, self._mine = seat.part, seat.part.shards[r.rank]
        states = seat.worker.states, seat.server.states
        self.worker, self.server = map(list, states) if self.keep else states
        self._ours, self._theirs = seat.worker.slices, seat.server.slices
        everyone = torch.arange(r.num_ranks, device=CPU)[:, None]
        self._ctxs = self._ours.contexts(r.step, r.rank, r.lr, secret=r.secret, device=r.home)
        self._server_ctxs = self._theirs.contexts(r.step, everyone, r.lr, device=r.server)
        self._digest = self.part.protocol.recipe % 2**32
        self._tag = torch.frombuffer(bytearray(TAG.pack(r.step % 2**32, self._digest)), dtype=torch.uint8)
        self._tags: list[tuple[int, Tensor]] = []

    @property
    def algorithm(self) -> Algorithm:
        """What is voted by."""
        return self.part.protocol.algorithm

    @property
    def counts_ties(self) -> bool:
        """Whether ballots are kept after the step, to be looked at."""
        rule = self.algorithm.aggregate
        return type(rule).ties is not Aggregator.ties

    def vote(self, update: Update) -> Mail:
        """The ballot on the part's update, cut into shards."""
        self.moved = self.moved or (not self.keep and self.seat.worker.remembers)
        encoded = self._ours.encode(self._spoilt(update), self.worker, self._ctxs)
        self._own_flags = flags_of(encoded)
        sent = self._through("uplink", encoded)
        if sent is not encoded:
            self.worker[0] = worker_faults.keep_lost(self.part.protocol, encoded, sent, self.worker[0], self._ctxs[0])
        planes = self._ours.planes(Kind.BALLOT, self._ctxs)
        if isinstance(sent, Payloads):
            messages = [self._tagged(cut, sent) for cut in self.part.cuts]
        else:
            messages = [self._message(s.payloads(sent), s.planes(planes)) for s in self.part.shards]
        self._incoming = self._ballot_planes()
        return Mail(messages, [_bytes(planes, self._mine) for planes in self._incoming])

    def decide(self, received: list[Tensor]) -> Mail:
        """The decision on the ballots of all ranks, for all ranks; only digests where each decides for itself."""
        protocol = self._mine.protocol
        ballots = protocol.check(Kind.BALLOT, self._opened(self._taken(received, self.round.server)))
        self.moved = self.moved or (not self.keep and self.seat.server.remembers)
        decided = self._theirs.combine(ballots, self.server, self._server_ctxs)
        self._counts = [(~valid).sum(-1) for valid in flags_of(ballots)]
        if self.counts_ties:
            self.ballots = ballots
        else:
            self._server_ctxs = []
        if self.part.replicated:
            self.decision = decided
            return digests.mail(received)
        self._down = self._ours.planes(Kind.DECISION, self._ctxs)
        if isinstance(decided, Payloads):
            message = self._tagged(protocol.cut, decided)
        else:
            message = self._message(decided, self._mine.planes(self._down))
        return Mail([message] * len(received), [self._decision_bytes(i) for i in range(len(self.part.shards))])

    def hear(self, received: list[Tensor]) -> None:
        """Take the decisions received; whatever may be wrong with them is found here.

        This is where a card is waited for: the flags say which gradients become None.
        """
        protocol, r = self.part.protocol, self.round
        if self.part.replicated:
            digests.compare(received)
            self.decision = moved(self.decision, r.home)
        else:
            self.decision = self._gather(received)
        decision = self._through("downlink", protocol.check(Kind.DECISION, self.decision))
        self.decision = protocol.check(Kind.DECISION, decision)
        self._look()

    def _look(self) -> None:
        """Bring what the host needs to know of this round from the card: a few bytes, at once."""
        flags = flags_of(self.decision)
        counts, self._counts = self._counts, []
        found = iter(to_host([*flags, *self._own_flags, *counts, *(tag for _, tag in self._tags)]))
        self.decided = self.part.protocol.decided_by([next(found) for _ in flags])
        own = [next(found) for _ in self._own_flags]
        self.abstained = not all(bool(valid.all()) for valid in own)
        none = torch.zeros(self.round.num_ranks, dtype=torch.int64, device=CPU)
        self.abstentions = sum((next(found) for _ in counts), none)
        for sender, _ in self._tags:
            self._check_tag(next(found), sender)
        self._tags, self._own_flags = [], []

    def read(self, write: Write) -> None:
        """Have the direction written, slice by slice."""
        self._ours.decode(self.decision, self.worker, self._ctxs, write)
        self.decision, self._ctxs = [], []

    def ties(self) -> int:
        """Coordinates served here on which the vote was split evenly; 0 where the rule has no ties."""
        algorithm, groups = self._mine.protocol.algorithm, self._mine.protocol.layout.groups
        r, everyone = self.round, torch.arange(self.round.num_ranks, device=CPU)[:, None]
        if not self.ballots:
            return 0
        ctxs = self._mine.protocol.contexts(r.step, everyone, r.lr, device=r.server)
        parts = zip(self.ballots, ctxs, groups, strict=True)
        return sum(algorithm.aggregate.ties(algorithm.up, b, c, g.n) for b, c, g in parts)

    def _spoilt(self, update: Update) -> Update:
        """What this rank claims to have. With faults nothing is cut into slices."""
        faults, ctxs, num = self.round.faults, self._ctxs[0], self.round.num_ranks
        if not faults:
            return update
        return lambda own: worker_faults.spoiled_gradient(faults, self.part.protocol, vector_of(update(own)), ctxs, num)

    def _through(self, place: Literal["uplink", "downlink"], payloads: Sequence[Payload]) -> Sequence[Payload]:
        faults, num = self.round.faults, self.round.num_ranks
        return worker_faults.through(faults, place, payloads, self._ctxs[0], num) if faults else payloads

    def _taken(self, received: list[Tensor], device: torch.device) -> list[Tensor]:
        """The messages, one from each rank, on a device. The tags of those on a card are looked at with the flags."""
        for sender, message in enumerate(received):
            if len(message) and message.is_cpu:
                self._check_tag(message[: TAG.size], sender)
            elif len(message):
                self._tags.append((sender, message[: TAG.size]))
        return _moved(received, device)

    def _opened(self, received: list[Tensor]) -> Sequence[Payload]:
        """The ballots (M, B, ...) of each group: all at once where they have the same planes."""
        planes, mine = self._incoming[0], self._mine
        if isinstance(planes, AllPlanes):
            everyone = self._theirs.planes(Kind.BALLOT, self._server_ctxs)
            assert isinstance(everyone, AllPlanes)
            ballots = Payloads.empty(mine.protocol.layout.ragged, everyone.whole, len(received))
            for i, message in enumerate(received):
                own = everyone.of_sender(i).whole
                mine.protocol.cut.read(message[TAG.size :], own, ballots, i)
            return ballots
        if mine.groups and not any(isinstance(p.row, Tensor) for group in planes for p in group):
            return wire.unpack(_stacked(received)[:, TAG.size :], planes, mine.num_blocks)
        opened = [self._open(m, mine, p) for m, p in zip(received, self._incoming, strict=True)]
        return [stack(group) for group in zip(*opened, strict=True)]

    def _ballot_planes(self) -> list[Planes]:
        planes = self._theirs.planes(Kind.BALLOT, self._server_ctxs)
        if isinstance(planes, AllPlanes):
            return [planes.of_sender(i) for i in range(self.round.num_ranks)]
        return [[tuple(plane_of(p, i) for p in group) for group in planes] for i in range(self.round.num_ranks)]

    def _gather(self, received: list[Tensor]) -> Sequence[Payload]:
        """The decision on the part's home. All groups at once are put together where the messages arrive."""
        home = self.round.home
        if isinstance(self._down, AllPlanes):
            there = device_of(received, home)
            whole = Payloads.empty(self.part.layout.ragged, self._down.whole, device=there)
            for message, cut in zip(self._taken(received, there), self.part.cuts, strict=True):
                if len(cut.chosen):
                    cut.read(message[TAG.size :], self._down.whole, whole)
            return whole.on(home)
        groups = self.part.layout.groups
        pairs = zip(self._down, groups, strict=True)
        received = self._taken(received, home)
        decision = [empty(planes, len(group.blocks), home) for planes, group in pairs]
        for message, shard in zip(received, self.part.shards, strict=True):
            shard.place(self._open(message, shard, shard.planes(self._down)), decision)
        return decision

    def _decision_bytes(self, i: int) -> int:
        """The length of the decision on shard i."""
        if isinstance(self._down, AllPlanes):
            cut = self.part.cuts[i]
            return TAG.size + cut.num_bytes(self._down.whole) if len(cut.chosen) else 0
        return _bytes(self.part.shards[i].planes(self._down), self.part.shards[i])

    def _tagged(self, cut: Cut, payloads: Payloads) -> list[Tensor]:
        if not len(cut.chosen):
            return []
        return [to_device(self._tag, payloads.whole.valid.device), *cut.pieces(payloads)]

    def _message(self, payloads: Sequence[Payload], planes: Planes) -> list[Tensor]:
        return [to_device(self._tag, payloads[0].valid.device), *wire.pieces(payloads, planes)] if payloads else []

    def _open(self, message: Tensor, shard: Shard, planes: Planes) -> Sequence[Payload]:
        return wire.unpack(message[TAG.size :], planes, shard.num_blocks) if shard.groups else []

    def _check_tag(self, tag: Tensor, sender: int) -> None:
        step, digest = TAG.unpack(tag.numpy().tobytes())
        if (step, digest) != (self.round.step % 2**32, self._digest):
            raise WireError(
                f"Rank {sender} is at step {step} of recipe {digest:08x}, but rank {self.round.rank} at step "
                f"{self.round.step % 2**32} of recipe {self._digest:08x}. All ranks must exchange equally often, "
                "with the same algorithm, parameters and seed."
            )


def _moved(messages: list[Tensor], device: torch.device) -> list[Tensor]:
    """Messages, which are views of one buffer, on a device: the buffer is copied at once."""
    if not messages or messages[0].device == device:
        return messages
    begins = [int(m.storage_offset()) for m in messages]
    low, high = min(begins), max(begin + len(m) for begin, m in zip(begins, messages, strict=True))
    whole = to_device(messages[0].as_strided((high - low,), (1,), low), device)
    return [whole[begin - low : begin - low + len(m)] for begin, m in zip(begins, messages, strict=True)]


def _stacked(messages: list[Tensor]) -> Tensor:
    """Messages of one length as (M, bytes): a view of the buffer in which they arrived at equal distances."""
    offsets = [int(m.storage_offset()) for m in messages]
    distance = offsets[1] - offsets[0] if len(offsets) > 1 else len(messages[0])
    places = {(m.untyped_storage().data_ptr(), len(m)) for m in messages}
    if len(places) == 1 and distance >= 0 and offsets == [offsets[0] + i * distance for i in range(len(messages))]:
        return messages[0].as_strided((len(messages), len(messages[0])), (distance, 1))
    return torch.stack(messages)


def _bytes(planes: Planes, shard: Shard) -> int:
    if isinstance(planes, AllPlanes):
        return TAG.size + shard.protocol.cut.num_bytes(planes.whole)
    return TAG.size + wire.body_bytes(planes, shard.num_blocks) if shard.groups else 0
