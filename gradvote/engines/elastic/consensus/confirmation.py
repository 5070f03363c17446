"""The second half of a slot whose server is sharded: what was decided is applied by all, or given up by all.

A pure state machine, as `agreement` is. Which ballots count has been agreed on; the decision on each shard is known to
its holders first, and these may be gone before the others have heard it. The rule:

1. Who has the decisions on all shards says so to all who stay (*whole*), with a digest of them, and promises never to
   ask that the slot be given up. Who has heard an equal *whole* from all who stay applies the step. No third party.
2. Where one of them is gone, or silent for too long, who is whole asks the register to confirm the slot; who is not,
   and finds that nobody who answers can tell it what it misses, asks the register to give it up: also where a shard's
   holders answer, but say that they miss its decision, too, as the only one who has some ballot is not heard. The
   register keeps the first answer. What members have said before the step became slow does not show that they are
   still there.

If anyone applies by 1, all have promised, so nobody asks that the slot be given up: the two ways cannot differ. Where
it is given up, nobody has applied it: the next attempt begins with those who answered, and a shard whose holders are
not among them begins anew.
"""

from collections.abc import Iterable

from gradvote.engines.elastic.consensus.absences import GivenUp, Reason, Why, WhyGivenUp
from gradvote.engines.elastic.consensus.agreement import Agreement
from gradvote.engines.elastic.consensus.records import Outcome, Record


class Confirmation:
    """Events are methods; after each one look at `proposal()` and `outcome`.

    `missing` are the shards whose decision is not here, `whole` the digest of all decisions once they are; `outcome` is
    the record itself where the slot stands, or one that gives it up.
    """

    def __init__(self, agreement: Agreement, record: Record) -> None:
        self.agreement, self.record = agreement, record
        self.others = ({m.ticket for m in record.members} & agreement.members.keys()) - {agreement.me}
        self.missing = frozenset(range(len(agreement.holders)))
        self.whole: bytes | None = None
        self.heard: dict[int, bytes] = {}
        self.gone: set[int] = set()
        self.late = self.settled = self.desperate = False
        self.outcome: Record | None = None
        self._there: set[int] | None = None
        self._misses: dict[int, frozenset[int]] = {}

    def found(self, missing: Iterable[int]) -> None:
        """These are the shards whose decision is not here yet."""
        self.missing = frozenset(missing)

    def complete(self, digest: bytes) -> None:
        """All decisions are here; this member promises."""
        self.found(())
        self.whole = digest
        self._look()

    def says(self, peer: int, digest: bytes) -> None:
        """A member has all decisions, and promises."""
        if peer in self.others:
            self.heard[peer] = digest
            self.speaks(peer)
            self._look()

    def misses(self, peer: int, shards: Iterable[int]) -> None:
        """A member has said whose decisions are not with it yet."""
        self._misses[peer] = frozenset(shards)

    def speaks(self, peer: int) -> None:
        """A member has said something of this slot or a later one."""
        if self._there is not None and peer in self.others:
            self._there.add(peer)

    def lost(self, peer: int) -> None:
        """The link to a member broke."""
        self.gone.add(peer)

    def back(self, peer: int) -> None:
        """The link to a member is back."""
        self.gone.discard(peer)

    def slowed(self) -> None:
        """The register has to be asked: what others say from now on shows who is there."""
        self._there = set()

    def answered(self, record: Record) -> None:
        """The register's answer."""
        self.outcome = self.outcome or record

    @property
    def differing(self) -> int | None:
        """A member whose decisions are not those that are here."""
        return next((t for t, own in sorted(self.heard.items()) if self.whole not in (None, own)), None)

    @property
    def ready(self) -> bool:
        """Whether it is known what becomes of the slot, and all that is needed for it is here."""
        return self.outcome is not None and (self.whole is not None or not self.outcome.applied)

    @property
    def slow(self) -> bool:
        """Whether the register has to be asked."""
        return self.late or not self.gone.isdisjoint(self.others - self.heard.keys())

    @property
    def hopeless(self) -> bool:
        """Whether nobody who answers can tell what is missing here."""
        return bool(self._untold())

    def proposal(self) -> Record | None:
        """What to put to the register; None where there is nothing to ask, or it is worth waiting."""
        if self.outcome is not None or not self.slow:
            return None
        return self.record if self.whole is not None else self._given_up() if self.hopeless else None

    def _look(self) -> None:
        if self.whole is not None and all(self.heard.get(t) == self.whole for t in self.others):
            self.answered(self.record)

    def _untold(self) -> list[int]:
        there = (self._there or set()) - self.gone
        if self._there is None or not there.isdisjoint(self.heard):
            return []
        able = {s: self.agreement.able(s) & self.others for s in self.missing}
        waited = {s: self.desperate if own - self.gone else self.settled for s, own in able.items()}
        return [s for s, own in sorted(able.items()) if not self._tellers(s, own & there) and waited[s]]

    def _tellers(self, shard: int, holders: set[int]) -> set[int]:
        """Those who have not said that they miss the decision themselves: a ballot may count that nobody here has."""
        return {t for t in holders if shard not in self._misses.get(t, ())}

    def _given_up(self) -> Record | None:
        own, untold = self.agreement, self._untold()
        staying = {own.me, *((self._there or set()) - self.gone)}
        members = own.with_joining([own.members[t] for t in sorted(staying)])
        if len(members) < own.quorum:
            return None
        absent = {t: Why.CLOSED if t in self.gone else Why.SILENT for t in self.others - staying}
        me = own.members[own.me].number
        reasons = tuple(Reason(own.members[t].number, why, (me,)) for t, why in sorted(absent.items()))
        waited_for = {t for s in untold for t in own.holders[s]} | self.record.counted.keys()
        numbers = {own.members[t].number for t in waited_for & own.members.keys()}
        why = tuple(reason for reason in reasons if reason.number in numbers)
        given_up = GivenUp(WhyGivenUp.UNTOLD, me, why, tuple(untold), len(self.record.counted), own.quorum)
        about = self.record.text, self.record.proofs, *own.next_holders(members), reasons
        return Record(self.record.slot, Outcome.VOID, {}, members, *about, given_up)
