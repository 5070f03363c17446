"""One step with the others: greetings, ballots, verdicts. It ends in a decision that all have, or in an error.

A voter that failed says so in its next message, so that all refuse the step. Who heals only listens, failed or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gradvote import wire
from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.digests import short_digest_of
from gradvote.engines.common.parameter_check import UNCHECKED
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.common.terms import mark_of
from gradvote.engines.torchft.all_to_all import AllToAll
from gradvote.engines.torchft.greetings import GREETING_BYTES, UNKNOWN, Greeting, agreed_slot, greeting_from
from gradvote.engines.torchft.verdicts import Found, Verdict, countable, verdict_bytes, verdict_from
from gradvote.wire import HEADER_BYTES, Header, Kind, WireError


@dataclass(frozen=True)
class Decision:
    """The ballots that count, and their digests, by worker number; who is here, who voted, and the own ballot."""

    slot: Slot
    bodies: dict[int, bytes]
    digests: dict[int, bytes]
    members: tuple[int, ...]
    voters: tuple[int, ...]
    ballot: Ballot | None


class QuorumRound:
    """`slot` becomes the one all voters take; `sent` is the ballot that others may hold, and its digest."""

    def __init__(
        self,
        replica: Replica,
        all_to_all: AllToAll,
        slot: Slot,
        votes: bool,
        history: bytes,
        failure: Exception | None = None,
    ) -> None:
        self.replica, self.all_to_all, self.slot = replica, all_to_all, slot
        self.votes, self.history, self.failure = votes, history, failure
        self.sent: tuple[Ballot, bytes] | None = None

    def run(self) -> Decision:
        """The decision; no state has changed.

        Raises:
            Refused, LinkBroken: the step cannot be taken.
            Equivocation, Diverged, ValueError: see `agreed_slot` and `countable`.
            Exception: what this replica failed of.
        """
        ballot = self._vote()
        raw = self.all_to_all.swap(self._greeting(ballot).pack(), [GREETING_BYTES] * self.all_to_all.num)
        if self._failed:
            raise self._failed
        own, part = self._greeting(ballot), self.replica.check.names(self.slot.step)
        greetings, slot = agreed_slot([*map(greeting_from, raw)], own, self.replica.ballot_bytes, part)
        if slot != self.slot:
            self.slot = slot
            ballot = self._vote()
        frames = self._swap_ballots(ballot, greetings)
        bodies = [self._opened(frame, g) for frame, g in zip(frames, greetings, strict=True)]
        found = tuple((_found(frame, body), short_digest_of(frame)) for frame, body in zip(frames, bodies, strict=True))
        counts = self._agree(short_digest_of(b"".join(raw)), found, [g.number for g in greetings])
        if self.failure is not None:
            raise self.failure
        numbers = [g.number for g in greetings]
        counted = {n: (body, frame) for n, body, frame, c in zip(numbers, bodies, frames, counts, strict=True) if c}
        return Decision(
            slot, {n: body or b"" for n, (body, _) in counted.items()},
            {n: short_digest_of(frame) for n, (_, frame) in counted.items()},
            tuple(sorted(numbers)), tuple(sorted(g.number for g in greetings if g.votes)), ballot,
        )  # fmt: skip

    def _vote(self) -> Ballot | None:
        if not self.votes or self.failure is not None:
            return None
        try:
            ballot = self.replica.vote(self.slot)
            assert ballot.body, "packed here already, where a failure can still be told"
        except Exception as error:  # the others hear of it before it is raised
            self.failure = error
            return None
        return ballot

    @property
    def _failed(self) -> Exception | None:
        return self.failure if self.votes else None

    def _greeting(self, ballot: Ballot | None) -> Greeting:
        replica = self.replica
        length = replica.ballot_bytes(self.slot, replica.number)
        history = self.history if self.votes else UNKNOWN
        failed, check = self._failed is not None, ballot.check if ballot is not None else UNCHECKED
        recipe = replica.protocol.recipe ^ mark_of(replica.terms)
        return Greeting(replica.number, self.slot, recipe, length, history, self.votes, failed, check)

    def _swap_ballots(self, ballot: Ballot | None, greetings: Sequence[Greeting]) -> list[bytes]:
        expected = {g.number: self._length(g) for g in greetings}
        message = bytes(expected[self.replica.number])
        if ballot is not None:
            message = wire.frame(torch.frombuffer(bytearray(ballot.body), dtype=torch.uint8), self._header(ballot))
            self.sent = ballot, short_digest_of(message)
        return self.all_to_all.swap(message, [expected[g.number] for g in greetings])

    def _length(self, greeting: Greeting) -> int:
        return HEADER_BYTES + self.replica.ballot_bytes(self.slot, greeting.number) if greeting.votes else 0

    def _header(self, ballot: Ballot) -> Header:
        return self.replica.protocol.header(Kind.BALLOT, ballot.ctxs[0])

    def _opened(self, frame: bytes, greeting: Greeting) -> bytes | None:
        """The body of a ballot; None where it is none that can be counted."""
        if not greeting.votes:
            return None
        slot, recipe = self.slot, self.replica.protocol.recipe
        try:
            body = wire.unframe(frame, Header(Kind.BALLOT, greeting.number, slot.step, slot.attempt, recipe))
        except WireError:
            return None
        return body.numpy().tobytes()

    def _agree(self, greetings: bytes, found: tuple[tuple[Found, bytes], ...], numbers: Sequence[int]) -> list[bool]:
        """Which ballots count, by rank, once all have said what they hold."""
        own = Verdict(self._failed is not None, greetings, found)
        raw = self.all_to_all.swap(own.pack(), [verdict_bytes(len(numbers))] * len(numbers))
        if self._failed:
            raise self._failed
        return countable([verdict_from(r) for r in raw], numbers)


def _found(frame: bytes, body: bytes | None) -> Found:
    if not frame:
        return Found.NONE
    return Found.UNSOUND if body is None else Found.SOUND
