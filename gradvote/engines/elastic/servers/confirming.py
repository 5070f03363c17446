"""Clock, connections and register for a `Confirmation`: when a slot of a sharded run stands, or is given up."""

import logging
import time
from collections.abc import Iterable

from gradvote.engines.common.digests import DIGEST_BYTES
from gradvote.engines.elastic.consensus.confirmation import Confirmation
from gradvote.engines.elastic.consensus.records import Record
from gradvote.engines.elastic.consensus.storage import RegisterLost, SlotPast
from gradvote.engines.elastic.net.connections import Arrived, Closed, Event, Opened
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.round_clock import Waited
from gradvote.engines.elastic.servers.server import OpenRound
from gradvote.engines.elastic.snapshots import shards_from_bytes, shards_to_bytes
from gradvote.engines.elastic.timeouts import ShardLost

LOG = logging.getLogger("gradvote.elastic")


class Confirming:
    """Tells the others how far this process is, and asks the register where they do not answer."""

    def __init__(self, vote: OpenRound, record: Record) -> None:
        self.vote, self.node, self.slot = vote, vote.node, vote.slot
        self.state = Confirmation(vote.agreement, record)
        self.behind = False
        self._everyone = vote.agreement.members.keys() - {vote.node.me.ticket}
        self._beats = False
        self._passed_at: float | None = None
        self._lost: RegisterLost | None = None
        self._waited = Waited()
        self.begin()

    def begin(self) -> None:
        """The waiting begins, or begins again after an error; what was promised stays."""
        self.started, self._said_at, self._asked_at = time.monotonic(), 0.0, 0.0
        self._slow_since: float | None = None
        self._waited.begin()
        self.state.gone = set(self.state.others - self.node.peers.connections.keys())

    def complete(self, digest: bytes) -> None:
        """All decisions are here."""
        if self.state.whole is None:
            self.state.complete(digest)
            self._say(self.state.others)

    def see(self, event: Event) -> None:
        """Whatever comes from a member shows that it is there; what it says of its decisions is taken note of."""
        ticket = event.connection.peer.ticket
        if isinstance(event, Closed) and ticket not in self.node.peers.connections:
            self.state.lost(ticket)
        elif isinstance(event, Opened):
            self.state.back(ticket)
            if ticket in self.state.others and self.state.whole is not None:
                self._say([ticket])
        elif isinstance(event, Arrived) and event.frame.sound:
            self._hear(event)

    def look(self, missing: Iterable[int]) -> None:
        """What time brings.

        Raises:
            ShardLost: nobody that is left knows the decision on a shard, and no others came in time.
            RegisterLost: it had to say what becomes of the slot, and did not answer for as long.
        """
        now, t, state = time.monotonic(), self.node.timeouts, self.state
        if state.whole is None:
            state.found(missing)
        state.late |= now > self.started + t.deadline
        if state.slow and self._slow_since is None:
            self._slow_since, self._said_at = now, 0.0
            state.slowed()
        if self._slow_since is not None:
            state.settled = now > self._slow_since + 3 * t.grace
            state.desperate = now > self._slow_since + 3 * t.grace + t.deadline
        self._speak(now)
        passed = self._passed_at is not None and now > self._passed_at + t.grace
        if (self._slow_since is not None or passed) and now > self._asked_at + t.grace:
            self._ask(now)
        self._check_time(now)

    def _hear(self, event: Arrived) -> None:
        frame, ticket = event.frame, event.connection.peer.ticket
        if ticket not in self.state.others or frame.slot < self.slot:
            return
        self.state.speaks(ticket)
        if frame.slot > self.slot:
            self._passed_at = self._passed_at or event.at
        elif frame.kind == FrameKind.WANT:
            self._beats = True
            self.state.misses(ticket, shards_from_bytes(frame.body, len(self.vote.agreement.holders)))
        elif frame.kind == FrameKind.WHOLE and len(frame.body) != DIGEST_BYTES:
            self.node.fault(event, "malformed", f"has {len(frame.body)} bytes instead of {DIGEST_BYTES}")
        elif frame.kind == FrameKind.WHOLE:
            self.state.says(ticket, bytes(frame.body))

    def _speak(self, now: float) -> None:
        """Say once more what is here: at times, or often where somebody has to know who is there."""
        t, often = self.node.timeouts, self._beats or self._slow_since is not None
        pause = t.grace if often else t.deadline
        if self.state.whole is not None and often and now > self._said_at + pause:
            self._say(self.state.others)
        elif self.state.whole is None and now > max(self.started + t.grace, self._said_at + pause):
            self._say(self._everyone)

    def _say(self, to: Iterable[int]) -> None:
        """*Whole*, or which shards are missing: who has their decisions sends them."""
        self._said_at, state = time.monotonic(), self.state
        kind = FrameKind.WANT if state.whole is None else FrameKind.WHOLE
        body = shards_to_bytes(sorted(state.missing)) if state.whole is None else state.whole
        self.node.peers.send(to, Frame(kind, self.node.me.ticket, self.slot, body))

    def _ask(self, now: float) -> None:
        """Ask the register what has become of the slot, with a proposal where there is one."""
        self._asked_at, register, generation = now, self.node.register, self.node.generation
        self.vote.agreement.joining = self.node.joining
        proposal = self.state.proposal()
        if self.state.outcome is not None:
            return
        LOG.debug("step %d, attempt %d: asks what became of it, with %s", self.slot.step, self.slot.attempt, proposal)
        try:
            if proposal is not None:
                self.state.answered(register.confirm(generation, proposal))
            elif (known := register.confirmed(generation, self.slot)) is not None:
                self.state.answered(known)
        except SlotPast:
            self.behind = True
        except RegisterLost as error:
            if self._lost is None:
                LOG.warning("step %d, attempt %d waits for the register: %s", self.slot.step, self.slot.attempt, error)
            self._lost = error
        else:
            self._lost = None

    def _check_time(self, now: float) -> None:
        """Who has waited for too long ends. Who knows what was decided may be cut off, and come back until then."""
        state = self.state
        if state.ready or self._waited.so_far() <= self.node.timeouts.timeout:
            return
        self.node.check_not_ended(now - self.started)
        if self._lost is not None:
            raise self._lost
        too_few = f"fewer than min_workers ({self.node.quorum}) are left to take it again"
        why = too_few if state.outcome is None else "one of them may have applied it"
        what = f"the decision on shard {min(state.missing)}" if state.missing else "what became of the decisions"
        raise ShardLost(
            f"Nobody that is left knows {what} of step {self.slot.step}: workers ended, or do not answer, in the "
            f"middle of this step, and {why}. Nothing was applied here. Start the workers again: they go on from their "
            "last checkpoints."
        )
