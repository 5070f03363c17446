"""The server's memory in shards, each with a process that serves it and one that has a copy.

Both work out the shard's decision in every step, so both memories stay alike, and so do their answers.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from gradvote.core import Payload, State
from gradvote.engines.common import shared_state
from gradvote.engines.common.ballot import Ballot, agreed_rates, packed, rates_from_bytes, rates_to_bytes, unpacked
from gradvote.engines.common.digests import DIGEST_BYTES, digest_of
from gradvote.engines.common.part import part_of
from gradvote.engines.common.payloads import check_alike, empty, stack
from gradvote.engines.common.placement import served
from gradvote.engines.common.protocol import Planes
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.shared_state import copied
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.shard_assignment import SHARD, Holders, Moves, held_by, sources
from gradvote.engines.elastic.signing.names import Body
from gradvote.engines.elastic.snapshots import ShardedStep
from gradvote.staging import CPU
from gradvote.wire import Kind, WireError, body_bytes

MOST = 1 << 16
Memory = tuple[Slot, Sequence[State]]
"""The server's memory of a shard, and the slot before which it was so."""


class Shards:
    """The memories of a sharded server that one process has; `num` shards, the same for ever.

    `history` stands for all decisions that the group has applied: with equal ones, members are alike.
    """

    def __init__(self, replica: Replica, num: int) -> None:
        if not 0 < num < MOST:
            raise ValueError(f"There can be 1 to {MOST - 1} shards, one for each worker at the start; got {num}.")
        self.replica, self.num = replica, num
        layout = replica.protocol.layout
        self.part = part_of(replica.protocol, layout, served(layout, "sharded", num))
        self.holders: Holders = ()
        self.moves: Moves = ()
        self.history = bytes(DIGEST_BYTES)
        self.memories: dict[int, Memory] = {s: (Slot(), self._empty(s)) for s in range(num)}
        replica.server = []

    def has(self, slot: Slot) -> frozenset[int]:
        """The shards whose memory is here, as it is before a slot."""
        return frozenset(s for s, (at, _) in self.memories.items() if at == slot)

    def lacks(self, ticket: int, slot: Slot) -> frozenset[int]:
        """The shards that this process holds without their memory."""
        return frozenset(held_by(self.holders, ticket)) - self.has(slot)

    def keep_for(self, slot: Slot, after: Slot) -> None:
        """Memories did not change in a slot: they are those of the next one."""
        self.memories = {s: (after if at == slot else at, own) for s, (at, own) in self.memories.items()}

    def hold(self, ticket: int, slot: Slot, holders: Holders, moves: Moves) -> None:
        """Take over who holds what before a slot: lost memories begin anew, those of others are let go."""
        for shard, source in enumerate(sources(holders, moves)):
            if source is None:
                self.memories[shard] = slot, self._empty(shard)
        self.holders, self.moves, mine = holders, moves, held_by(holders, ticket)
        self.memories = {s: own for s, own in self.memories.items() if s in mine}

    def cut(self, ballot: Ballot) -> list[bytes]:
        """A ballot's part for each shard."""
        return [packed(s.payloads(ballot.on_host), s.planes(ballot.planes)) for s in self.part.shards]

    def slice_bytes(self, slot: Slot, number: int, shard: int) -> int:
        """The length of a worker's part for a shard: known before it arrives."""
        own = self.part.shards[shard]
        return body_bytes(own.planes(self.replica.planes_of(slot, number)), own.num_blocks) if own.groups else 0

    def decide(
        self, slot: Slot, shard: int, numbers: Sequence[int], slices: Sequence[Body], rates: Sequence[float]
    ) -> tuple[bytes, Sequence[State]]:
        """A shard's decision on the parts of these workers' ballots, and its memory afterwards. Nothing is changed."""
        own, replica = self.part.shards[shard], self.replica
        if not own.groups:
            return rates_to_bytes(rates), []
        planes = [own.planes(replica.planes_of(slot, number)) for number in numbers]
        opened = [unpacked(bytearray(raw), p, own.num_blocks) for raw, p in zip(slices, planes, strict=True)]
        stacked = [stack(group) for group in zip(*opened, strict=True)]
        ctxs = own.protocol.contexts(
            slot.step, torch.tensor(numbers, device=CPU)[:, None], replica.by_param(rates), slot.attempt
        )
        with torch.no_grad():
            ballots = own.protocol.check(Kind.BALLOT, stacked)
            decided, after = own.protocol.combine(ballots, self.memories[shard][1], ctxs)
        return rates_to_bytes(rates) + packed(decided, own.planes(self._down(slot))), after

    def check(self, slot: Slot, decisions: Sequence[bytes]) -> None:
        """Whether these can be the shards' decisions of a slot.

        Raises:
            WireError: they cannot.
        """
        expected, found = [self.decision_bytes(slot, s) for s in range(self.num)], [*map(len, decisions)]
        if found != expected:
            raise WireError(f"A decision has shards of {found} bytes; {expected} were expected.")
        if len({own[: self.replica.rate_bytes] for own in decisions}) > 1:
            raise WireError("The shards of a decision have different learning rates.")

    def _decision(self, slot: Slot, bodies: Sequence[Body]) -> Sequence[Payload]:
        """The whole decision, from that of each shard."""
        down, groups = self._down(slot), self.part.layout.groups
        whole = [empty(planes, len(group.blocks)) for planes, group in zip(down, groups, strict=True)]
        for own, body in zip(self.part.shards, bodies, strict=True):
            raw = bytearray(body[self.replica.rate_bytes :])
            own.place(unpacked(raw, own.planes(down), own.num_blocks), whole)
        return whole

    def decision_bytes(self, slot: Slot, shard: int) -> int:
        """The length of a shard's decision with the learning rates; 0 where there is no such shard."""
        if shard >= self.num:
            return 0
        own = self.part.shards[shard]
        rates = self.replica.rate_bytes
        return rates + (body_bytes(own.planes(self._down(slot)), own.num_blocks) if own.groups else 0)

    def follow(self, slot: Slot, step: ShardedStep) -> None:
        """The optimizer's step with a decision, and the memories that were worked out with it.

        Raises:
            WireError: it does not have its length; nothing has been changed.
        """
        self.check(slot, step.decisions)
        rates = rates_from_bytes(step.decisions[0][: self.replica.rate_bytes])
        self.replica.follow(slot, rates, self._decision(slot, step.decisions))
        self.memories |= {s: (slot.after(True), own) for s, own in step.memories.items()}
        self.history = digest_of(b"".join((self.history, *step.decisions)))

    def to_bytes(self, shard: int) -> bytes:
        """A shard's memory, for another holder."""
        return shared_state.to_bytes(self.memories[shard][1], SHARD.pack(shard))

    def check_holders(self, holders: Holders, moves: Moves, members: Iterable[int]) -> None:
        """Whether this can be who holds which shard.

        Raises:
            ValueError: it cannot.
        """
        tickets = set(members)
        if len(holders) != self.num or any(
            not own or len(set(own)) < len(own) or set(own) - tickets for own in holders
        ):
            raise ValueError(f"Shards have holders {holders}, of {self.num} shards and members {sorted(tickets)}.")
        if any(shard >= self.num or ticket not in holders[shard] for shard, ticket in moves):
            raise ValueError(f"Memories move as {moves}, but the holders are {holders}.")

    def take(self, ticket: int, giver: int, slot: Slot, raw: Body) -> None:
        """Another holder's memory of a shard that this process holds and lacks, as it is before a slot.

        Raises:
            ValueError: it is of another shard or algorithm, or the giver is not the one that was agreed on; nothing has
                been changed.
        """
        try:
            (shard,) = SHARD.unpack_from(raw)
            if shard in self.lacks(ticket, slot):
                if sources(self.holders, self.moves)[shard] != giver:
                    raise ValueError(f"shard {shard} comes from another worker")
                found = shared_state.from_bytes(memoryview(raw)[SHARD.size :])
                check_alike(found, self._empty(shard), f"the memory of shard {shard}")
                self.memories[shard] = slot, found
        except Exception as error:  # what torch raises for bytes that it did not write is not documented
            raise ValueError(f"it is not the memory of a shard: {error}") from error

    def digests(self, slot: Slot) -> dict[str, str]:
        """Names of the memories that are here, by shard."""
        return {str(s): digest_of(self.to_bytes(s)).hex() for s in sorted(self.has(slot))}

    def state_dict(self, slot: Slot) -> dict[str, Any]:
        """The number of shards, and the memories that are here, for a checkpoint; no copies: a step makes new ones."""
        memories = {str(s): own for s, (at, own) in self.memories.items() if at == slot}
        return {"num": self.num, "memories": memories}

    def opened(self, state: Any, slot: Slot) -> dict[int, Memory]:
        """The memories of a checkpoint.

        Raises:
            ValueError: they are of another run.
        """
        if not isinstance(state, Mapping) or state.get("num") != self.num:
            found = state.get("num") if isinstance(state, Mapping) else "no"
            raise ValueError(
                f"The checkpoint is of a run with {found} shards, here there are {self.num}: one for each worker that "
                "is expected at the start. Attach with the same placement, and the same number of workers."
            )
        for shard, own in state["memories"].items():
            check_alike(own, self._empty(int(shard)), f"the memory of shard {shard}")
        return {int(shard): (slot, copied(own)) for shard, own in state["memories"].items()}

    def _down(self, slot: Slot) -> Planes:
        protocol, number = self.replica.protocol, self.replica.number
        return protocol.planes(Kind.DECISION, protocol.contexts(slot.step, number, 1.0, slot.attempt))

    def _empty(self, shard: int) -> Sequence[State]:
        own = self.part.shards[shard].protocol
        return own.init_server(torch.zeros(own.layout.size, device=CPU, dtype=torch.float32))


def agreed(rates: Sequence[bytes]) -> list[float]:
    """The learning rates that ballots agree on."""
    return agreed_rates([rates_from_bytes(raw) for raw in rates])
