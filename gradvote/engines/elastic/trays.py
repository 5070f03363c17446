"""The ballots of one round as they travel: whole, or cut into the shards of those who need them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from gradvote.engines.elastic.ballots import Ballot
from gradvote.engines.elastic.frames import DIGEST_BYTES, Frame, Kind, digest_of
from gradvote.engines.elastic.holders import SHARD, held_by
from gradvote.engines.elastic.records import Held, Member, Slot
from gradvote.engines.elastic.replica import Replica
from gradvote.engines.elastic.seals import Body, Seals
from gradvote.engines.elastic.sharding import Sharding
from gradvote.wire import WireError


@dataclass(frozen=True)
class Part:
    """What came of a ballot, and by whom: its name; all of it, or of a cut one its head, and the rest by shard."""

    name: bytes
    body: Body
    by: int
    digest: bytes = b""
    slices: Mapping[int, Body] = field(default_factory=dict)


class Tray(Protocol):
    """Ballots by ticket of their author; `me` is this member, whose own one is there from the start."""

    def name(self, author: int) -> bytes:
        """What the ballot of an author is called."""

    def frame(self, author: int, to: int) -> Frame:
        """The ballot of an author, or what is here of it, as this member needs it."""

    def frames(self, author: int, to: Iterable[int]) -> Iterable[tuple[Frame, list[int]]]:
        """The same for several members."""

    def read(self, author: Member, frame: Frame, by: int) -> Part:
        """What a frame brings that this member has sent.

        Raises:
            WireError: no honest author has sent it.
        """

    def alike(self, part: Part) -> bool:
        """Whether the author has applied what this member has."""

    def displaced(self, author: int, part: Part) -> int | None:
        """Let go what is here in an author's name, if it is another ballot than this and not complete: who sent it."""

    def put(self, author: int, part: Part) -> bool:
        """Keep it; whether the author's ballot has become complete with it. What was there before stays."""


class Whole:
    """Everyone gets everything (`replicated`)."""

    def __init__(self, replica: Replica, seals: Seals, slot: Slot, me: Member, generation: int, ballot: Ballot) -> None:
        self.replica, self.seals, self.slot = replica, seals, slot
        body = seals.seal(generation, slot, me, ballot.body)
        digest = digest_of(body)
        self._parts = {me.ticket: Part(seals.name(body, digest), body, me.ticket, digest)}

    def name(self, author: int) -> bytes:
        return self._parts[author].name

    def bodies(self, authors: Iterable[int]) -> dict[int, Body]:
        """The ballots of these authors."""
        return {author: self._parts[author].body for author in authors}

    def frame(self, author: int, to: int) -> Frame:
        part = self._parts[author]
        return Frame(Kind.BALLOT, author, self.slot, part.body, part.digest)

    def frames(self, author: int, to: Iterable[int]) -> Iterable[tuple[Frame, list[int]]]:
        return [(self.frame(author, author), list(to))]

    def read(self, author: Member, frame: Frame, by: int) -> Part:
        expected = self.replica.ballot_bytes(self.slot, author.number) + self.seals.extra_bytes
        if len(frame.body) != expected:
            raise WireError(f"has {len(frame.body)} bytes instead of {expected}")
        return Part(self.seals.name(frame.body, frame.digest), frame.body, by, frame.digest)

    def alike(self, part: Part) -> bool:
        return True

    def displaced(self, author: int, part: Part) -> int | None:
        return None

    def put(self, author: int, part: Part) -> bool:
        return author not in self._parts and bool(self._parts.setdefault(author, part))


class Cut:
    """Each member gets the parts of its shards (`sharded`).

    All get the head of a ballot: the learning rates, the author's history, and for each shard the digest of its part of
    the ballot. It is what is signed, and what a ballot is called by. A frame's body is the head, and then parts, each
    behind its shard's number (uint16).
    """

    def __init__(
        self, sharding: Sharding, seals: Seals, slot: Slot, me: Member, generation: int, ballot: Ballot
    ) -> None:
        self.sharding, self.seals, self.slot = sharding, seals, slot
        self._mine = set(held_by(sharding.holders, me.ticket))
        slices = dict(enumerate(sharding.cut(ballot)))
        head = b"".join((ballot.rates, sharding.history, *map(digest_of, slices.values())))
        sealed = seals.seal(generation, slot, me, head)
        self._parts = {me.ticket: Part(seals.name(sealed), sealed, me.ticket, slices=slices)}
        self._complete = {me.ticket}

    def name(self, author: int) -> bytes:
        return self._parts[author].name

    def frame(self, author: int, to: int) -> Frame:
        part, needed = self._parts[author], held_by(self.sharding.holders, to)
        pieces = (SHARD.pack(s) + part.slices[s] for s in needed if s in part.slices)
        body = b"".join((part.body, *pieces))
        return Frame(Kind.BALLOT, author, self.slot, body, digest_of(body))

    def frames(self, author: int, to: Iterable[int]) -> Iterable[tuple[Frame, list[int]]]:
        return [(self.frame(author, ticket), [ticket]) for ticket in to]

    def read(self, author: Member, frame: Frame, by: int) -> Part:
        body, rate_bytes = memoryview(bytes(frame.body)), self.sharding.replica.rate_bytes
        end = rate_bytes + DIGEST_BYTES * (1 + self.sharding.num) + self.seals.extra_bytes
        if len(body) < end:
            raise WireError(f"has {len(body)} bytes, fewer than its head of {end}")
        head, slices, at = bytes(body[:end]), dict[int, Body](), end
        while at < len(body):
            shard, size = self._piece(author, body, at)
            piece = bytes(body[at + SHARD.size : at + SHARD.size + size])
            announced = rate_bytes + DIGEST_BYTES * (1 + shard)
            if shard in slices or digest_of(piece) != head[announced : announced + DIGEST_BYTES]:
                raise WireError(f"has another part for shard {shard} than it announces")
            slices[shard], at = piece, at + SHARD.size + size
        return Part(self.seals.name(head), head, by, slices=slices)

    def alike(self, part: Part) -> bool:
        start = self.sharding.replica.rate_bytes
        return bytes(part.body[start : start + DIGEST_BYTES]) == self.sharding.history

    def displaced(self, author: int, part: Part) -> int | None:
        known = self._parts.get(author)
        if known is None or known.name == part.name or author in self._complete:
            return None
        del self._parts[author]
        return known.by

    def put(self, author: int, part: Part) -> bool:
        known = self._parts.setdefault(author, part)
        if known.name == part.name:
            self._parts[author] = known = replace(known, slices={**part.slices, **known.slices})
        if author in self._complete or not self._mine <= known.slices.keys():
            return False
        self._complete.add(author)
        return True

    def knows(self, author: int) -> bool:
        """Whether something is here of the ballot of an author."""
        return author in self._parts

    def has(self, counted: Held) -> bool:
        """Whether all that is needed here of these ballots has come."""
        return self._complete >= counted.keys() and all(self._parts[a].name == name for a, name in counted.items())

    def rates(self, authors: Iterable[int]) -> list[bytes]:
        """The learning rates that these authors vote for."""
        size = self.sharding.replica.rate_bytes
        return [bytes(self._parts[author].body[:size]) for author in authors]

    def slices(self, shard: int, authors: Iterable[int]) -> list[Body]:
        """The parts of these authors' ballots for a shard that is held here."""
        return [self._parts[author].slices[shard] for author in authors]

    def _piece(self, author: Member, body: memoryview, at: int) -> tuple[int, int]:
        """The shard of the part that begins here, and its length."""
        if len(body) - at < SHARD.size:
            raise WireError("is cut short")
        (shard,) = SHARD.unpack_from(body, at)
        if shard >= self.sharding.num:
            raise WireError(f"has a part for shard {shard}; there are {self.sharding.num}")
        size = self.sharding.slice_bytes(self.slot, author.number, shard)
        if len(body) - at - SHARD.size < size:
            raise WireError(f"has {len(body) - at - SHARD.size} bytes instead of {size} for shard {shard}")
        return shard, size
