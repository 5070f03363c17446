"""The ballots of one round as they travel: whole here, cut into shards in `servers.cut_ballots`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.digests import SHORT_DIGEST_BYTES, digest_of
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Held, Member
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.signing.names import Body, Naming
from gradvote.wire import WireError

CHECK_BYTES = SHORT_DIGEST_BYTES
"""The length of the digest of a part of the parameters."""


@dataclass(frozen=True)
class ReceivedBallot:
    """What came of a ballot, and by whom: its name; all of it, or of a cut one its head, and the rest by shard."""

    name: bytes
    body: Body
    by: int
    digest: bytes = b""
    slices: Mapping[int, Body] = field(default_factory=dict)


class BallotBox(Protocol):
    """Ballots by ticket of their author; `me` is this member, whose own one is there from the start."""

    def name(self, author: int) -> bytes:
        """What the ballot of an author is called."""

    def frame(self, author: int, to: int) -> Frame:
        """The ballot of an author, or what is here of it, as this member needs it."""

    def frames(self, author: int, to: Iterable[int]) -> Iterable[tuple[Frame, list[int]]]:
        """The same for several members."""

    def read(self, author: Member, frame: Frame, by: int) -> ReceivedBallot:
        """What a frame brings that this member has sent.

        Raises:
            WireError: no honest author has sent it.
        """

    def alike(self, received: ReceivedBallot) -> bool:
        """Whether the author has applied what this member has."""

    def checks(self, counted: Held) -> dict[int, bytes] | None:
        """The digests of their authors' parameters by ticket; None where one of these ballots is not here."""

    def displaced(self, author: int, received: ReceivedBallot) -> int | None:
        """Let go what is here in an author's name, if it is another ballot than this and not complete: who sent it."""

    def put(self, author: int, received: ReceivedBallot) -> bool:
        """Keep it; whether the author's ballot has become complete with it. What was there before stays."""


class WholeBallots:
    """Everyone gets everything (`replicated`): the digest of a part of the author's parameters, and its ballot."""

    def __init__(
        self, replica: Replica, naming: Naming, slot: Slot, me: Member, generation: int, ballot: Ballot
    ) -> None:
        self.replica, self.naming, self.slot = replica, naming, slot
        body = naming.sign(generation, slot, me, ballot.check + ballot.body)
        digest = digest_of(body)
        self._ballots = {me.ticket: ReceivedBallot(naming.name(body, digest), body, me.ticket, digest)}

    def name(self, author: int) -> bytes:
        return self._ballots[author].name

    def bodies(self, authors: Iterable[int]) -> dict[int, Body]:
        """The ballots of these authors."""
        return {author: self._ballots[author].body for author in authors}

    def frame(self, author: int, to: int) -> Frame:
        received = self._ballots[author]
        return Frame(FrameKind.BALLOT, author, self.slot, received.body, received.digest)

    def frames(self, author: int, to: Iterable[int]) -> Iterable[tuple[Frame, list[int]]]:
        return [(self.frame(author, author), list(to))]

    def read(self, author: Member, frame: Frame, by: int) -> ReceivedBallot:
        expected = CHECK_BYTES + self.replica.ballot_bytes(self.slot, author.number) + self.naming.extra_bytes
        if len(frame.body) != expected:
            raise WireError(f"has {len(frame.body)} bytes instead of {expected}")
        return ReceivedBallot(self.naming.name(frame.body, frame.digest), frame.body, by, frame.digest)

    def alike(self, received: ReceivedBallot) -> bool:
        return True

    def checks(self, counted: Held) -> dict[int, bytes] | None:
        return checks_in(self._ballots, counted, 0)

    def displaced(self, author: int, received: ReceivedBallot) -> int | None:
        return None

    def put(self, author: int, received: ReceivedBallot) -> bool:
        return author not in self._ballots and bool(self._ballots.setdefault(author, received))


def checks_in(ballots: Mapping[int, ReceivedBallot], counted: Held, at: int) -> dict[int, bytes] | None:
    """The digests of parameters at a place of the bodies of ballots; None unless these are the counted ones."""
    if any(t not in ballots or ballots[t].name != name for t, name in counted.items()):
        return None
    return {t: bytes(ballots[t].body[at : at + CHECK_BYTES]) for t in counted}
