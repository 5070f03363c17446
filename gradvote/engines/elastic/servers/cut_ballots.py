"""Ballots of a sharded run: each member gets the parts of its shards."""

from collections.abc import Iterable
from dataclasses import replace

from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.digests import DIGEST_BYTES, digest_of
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.ballot_box import CHECK_BYTES, ReceivedBallot, checks_in
from gradvote.engines.elastic.consensus.members import Held, Member
from gradvote.engines.elastic.consensus.shard_assignment import SHARD, held_by
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.servers.shards import Shards
from gradvote.engines.elastic.signing.names import Body, Naming
from gradvote.wire import WireError


def digests_at(rate_bytes: int) -> int:
    """Where the digests of the parts begin in a head: behind the rates, the history and the check."""
    return rate_bytes + DIGEST_BYTES + CHECK_BYTES


class CutBallots:
    """Each member gets the parts of its shards (`sharded`).

    All get the head of a ballot: the learning rates, the author's history, the digest of a part of its parameters, and
    for each shard the digest of its part of the ballot. It is what is signed, and what a ballot is called by. A frame's
    body is the head, and then parts, each behind its shard's number (uint16).
    """

    def __init__(self, shards: Shards, naming: Naming, slot: Slot, me: Member, generation: int, ballot: Ballot) -> None:
        self.shards, self.naming, self.slot = shards, naming, slot
        self._mine, self._digests = set(held_by(shards.holders, me.ticket)), digests_at(shards.replica.rate_bytes)
        slices = dict(enumerate(shards.cut(ballot)))
        head = b"".join((ballot.rates, shards.history, ballot.check, *map(digest_of, slices.values())))
        sealed = naming.sign(generation, slot, me, head)
        self._ballots = {me.ticket: ReceivedBallot(naming.name(sealed), sealed, me.ticket, slices=slices)}
        self._complete = {me.ticket}

    def name(self, author: int) -> bytes:
        return self._ballots[author].name

    def frame(self, author: int, to: int) -> Frame:
        received, needed = self._ballots[author], held_by(self.shards.holders, to)
        pieces = (SHARD.pack(s) + received.slices[s] for s in needed if s in received.slices)
        body = b"".join((received.body, *pieces))
        return Frame(FrameKind.BALLOT, author, self.slot, body, digest_of(body))

    def frames(self, author: int, to: Iterable[int]) -> Iterable[tuple[Frame, list[int]]]:
        return [(self.frame(author, ticket), [ticket]) for ticket in to]

    def read(self, author: Member, frame: Frame, by: int) -> ReceivedBallot:
        body, end = memoryview(bytes(frame.body)), self._digests + DIGEST_BYTES * self.shards.num
        end += self.naming.extra_bytes
        if len(body) < end:
            raise WireError(f"has {len(body)} bytes, fewer than its head of {end}")
        head, slices, at = bytes(body[:end]), dict[int, Body](), end
        while at < len(body):
            shard, size = self._piece(author, body, at)
            piece = bytes(body[at + SHARD.size : at + SHARD.size + size])
            announced = self._digests + DIGEST_BYTES * shard
            if shard in slices or digest_of(piece) != head[announced : announced + DIGEST_BYTES]:
                raise WireError(f"has another part for shard {shard} than it announces")
            slices[shard], at = piece, at + SHARD.size + size
        return ReceivedBallot(self.naming.name(head), head, by, slices=slices)

    def alike(self, received: ReceivedBallot) -> bool:
        start = self.shards.replica.rate_bytes
        return bytes(received.body[start : start + DIGEST_BYTES]) == self.shards.history

    def checks(self, counted: Held) -> dict[int, bytes] | None:
        return checks_in(self._ballots, counted, self._digests - CHECK_BYTES)

    def displaced(self, author: int, received: ReceivedBallot) -> int | None:
        known = self._ballots.get(author)
        if known is None or known.name == received.name or author in self._complete:
            return None
        del self._ballots[author]
        return known.by

    def put(self, author: int, received: ReceivedBallot) -> bool:
        known = self._ballots.setdefault(author, received)
        if known.name == received.name:
            self._ballots[author] = known = replace(known, slices={**received.slices, **known.slices})
        if author in self._complete or not self._mine <= known.slices.keys():
            return False
        self._complete.add(author)
        return True

    def knows(self, author: int) -> bool:
        """Whether something is here of the ballot of an author."""
        return author in self._ballots

    def has(self, counted: Held) -> bool:
        """Whether all that is needed here of these ballots has come."""
        return self._complete >= counted.keys() and all(self._ballots[a].name == name for a, name in counted.items())

    def rates(self, authors: Iterable[int]) -> list[bytes]:
        """The learning rates that these authors vote for."""
        size = self.shards.replica.rate_bytes
        return [bytes(self._ballots[author].body[:size]) for author in authors]

    def slices(self, shard: int, authors: Iterable[int]) -> list[Body]:
        """The parts of these authors' ballots for a shard that is held here."""
        return [self._ballots[author].slices[shard] for author in authors]

    def _piece(self, author: Member, body: memoryview, at: int) -> tuple[int, int]:
        """The shard of the part that begins here, and its length."""
        if len(body) - at < SHARD.size:
            raise WireError("is cut short")
        (shard,) = SHARD.unpack_from(body, at)
        if shard >= self.shards.num:
            raise WireError(f"has a part for shard {shard}; there are {self.shards.num}")
        size = self.shards.slice_bytes(self.slot, author.number, shard)
        if len(body) - at - SHARD.size < size:
            raise WireError(f"has {len(body) - at - SHARD.size} bytes instead of {size} for shard {shard}")
        return shard, size
