"""Catching up with a group that has gone on: missed decisions are replayed, or a member's state is pulled.

A member whose parameters are not those of most takes over the state of one of those (`Healer`), and misses no step.
"""

import time
from collections.abc import Callable, Set

from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.errors import ParametersDiffer
from gradvote.engines.elastic.catch_up.teaching import FRESH, HEAL
from gradvote.engines.elastic.net.connections import Arrived, Closed, Connection, Event, Opened
from gradvote.engines.elastic.net.frames import ROUND_FRAMES, Frame, FrameKind
from gradvote.engines.elastic.node import SURELY_ENDED
from gradvote.engines.elastic.participant import Participant
from gradvote.engines.elastic.round_clock import Waited
from gradvote.engines.elastic.snapshots import Snapshot, Step, snapshot_from
from gradvote.engines.elastic.timeouts import TooFewWorkers

PAUSE = 0.05
LEAVING = 1.0
"""Seconds that a healer which is asked to stop goes on: what it saves should be the state of the others."""


class Learner:
    """A process that is no member; `fresh` where its own state is of no use. `pending` is a ballot of unknown fate."""

    def __init__(
        self, participant: Participant, fresh: bool, pending: Ballot | None = None, until: int | None = None
    ) -> None:
        self.participant, self.node = participant, participant.node
        self.fresh, self.pending, self.until = fresh, pending, until
        self.keeps_memory = False
        self._teacher: Connection | None = None
        self._asked_at = 0.0
        self._refused: set[int] = set()

    def run(self, founded: Callable[[], bool] | None = None) -> bool:
        """Until this process is a member, or has seen the last step.

        With `founded` (is this process a founder by now?) it gives up where nobody is a member, or where it is one; and
        always where this process was asked to stop.

        Raises:
            TooFewWorkers: no member could be reached for too long.
        """
        waited = Waited()
        self.node.membership.step_out()
        while not self._done():
            seconds = waited.so_far()
            if self._leaves(seconds):
                return False
            self._ask(founded is not None)
            if founded is not None and self._nobody():
                return False
            if seconds > self.node.timeouts.timeout:
                raise TooFewWorkers(self._alone())
            if not self.node.peers.connections:
                self._look_for_the_end(seconds)
            event = self.participant.take(PAUSE)
            if founded is not None and founded():
                if isinstance(event, Arrived) and event.frame.kind in ROUND_FRAMES:
                    self.node.peers.keep_latest(event)  # other founders may have begun
                return False
            if event is not None:
                self._handle(event)
        return True

    def _leaves(self, waited: float) -> bool:
        return self.node.leaving

    def _done(self) -> bool:
        at_end = self.until is not None and self.node.slot.step >= self.until
        return not self.fresh and (self.node.inside or at_end)

    def _alone(self) -> str:
        return (
            f"Worker {self.node.me.number} found no member of the run to learn from within "
            f"{self.node.timeouts.timeout:g} s, or was not let in. Are the others alive, on the same network, and is "
            "its public key known to them, if ballots are signed?"
        )

    def _look_for_the_end(self, waited: float) -> None:
        self.node.check_not_ended(waited)

    def _nobody(self) -> bool:
        return self.fresh and self._teacher is None and self._refused >= self.node.peers.connections.keys()

    def _ask(self, founding: bool) -> None:
        connections, now = self.node.peers.connections, time.monotonic()
        silent = now - self._asked_at > self.node.timeouts.deadline + self.node.timeouts.grace
        if self._teacher is not None and connections.get(self._teacher.peer.ticket) is self._teacher and not silent:
            return
        last = self._teacher.peer.ticket if self._teacher is not None else 0
        self._teacher = None
        others = [t for t in sorted(connections) if self._may_teach(t)]
        if not others:
            if now - self._asked_at > PAUSE and not founding:
                self._refused.clear()
            return
        connection = connections.get(min((t for t in others if t > last), default=others[0]))
        if connection is not None:
            self._teacher, self._asked_at = connection, now
            connection.expect_state()
            connection.send(Frame(FrameKind.PULL, self.node.me.ticket, self.node.slot, self._wish()))

    def _may_teach(self, ticket: int) -> bool:
        return ticket not in self._refused

    def _wish(self) -> bytes:
        return FRESH if self.fresh else b""

    def _handle(self, event: Event) -> None:
        if isinstance(event, Opened):
            self._refused.discard(event.connection.peer.ticket)
            if not self.fresh:
                self.participant.ask_in()
        elif isinstance(event, Closed):
            self._refused.discard(event.connection.peer.ticket)
        elif isinstance(event, Arrived) and event.frame.sound:
            self._hear(event)

    def _hear(self, event: Arrived) -> None:
        frame, connection = event.frame, event.connection
        if frame.kind == FrameKind.OUTSIDE and connection is self._teacher:
            self._refused.add(connection.peer.ticket)
            self._teacher = None
        elif frame.kind in (FrameKind.SNAPSHOT, FrameKind.STEP):
            self._asked_at = time.monotonic()
            try:
                self._learn(frame)
            except ValueError as error:
                self.node.fault(event, "malformed", f"cannot be used: {error}")
                self._refused.add(connection.peer.ticket)
                self._teacher = None
        elif frame.kind in ROUND_FRAMES:
            self.node.peers.keep_latest(event)

    def _learn(self, frame: Frame) -> None:
        if frame.kind == FrameKind.SNAPSHOT:
            self._restore(snapshot_from(frame.body))
        elif not self.fresh and frame.slot == self.node.slot:
            self.replay(self.participant.server.read(self.node, frame))
        elif frame.slot > self.node.slot:
            self._teacher = None

    def _restore(self, snapshot: Snapshot) -> None:
        node, server = self.node, self.participant.server
        if not self.fresh and snapshot.slot <= node.slot:
            return
        server.check(snapshot)
        node.membership.convict(snapshot.proofs)
        server.replica.restore(snapshot.state)
        if self.fresh and not self.keeps_memory:
            server.replica.forget()
        if self.pending is not None:
            server.replica.keep(self.pending, snapshot.counted.get(node.me.ticket) == self.pending.slot)
        self.fresh, self.pending = False, None
        server.restore(snapshot)
        about = snapshot.generation, snapshot.slot, snapshot.members, snapshot.counted
        self.participant.enter(*about, snapshot.holders, snapshot.moves)
        self.participant.ask_in()

    def replay(self, step: Step) -> None:
        """Apply a decided slot that was missed."""
        pending = self.pending
        if pending is not None and pending.slot <= step.record.slot:
            self.pending = None
        self.participant.apply(step, pending)


class Healer(Learner):
    """It stays a member: the others wait for its next ballot, up to the deadline; after that it learns like any other.

    Those who differ as well, `odd` by ticket, are not asked. The memory of its own votes stays, and so do those of its
    shards, which their other holders compare in every step.
    """

    def __init__(self, participant: Participant, odd: Set[int], until: int | None = None) -> None:
        super().__init__(participant, fresh=True, until=until)
        self.keeps_memory, self._odd = True, odd

    def _wish(self) -> bytes:
        return HEAL if self.fresh else b""

    def _may_teach(self, ticket: int) -> bool:
        return super()._may_teach(ticket) and not (self.fresh and ticket in self._odd)

    def _leaves(self, waited: float) -> bool:
        return self.node.leaving and waited > LEAVING

    def _look_for_the_end(self, waited: float) -> None:
        super()._look_for_the_end(waited)
        if self.fresh and waited > SURELY_ENDED:
            raise ParametersDiffer(
                f"Worker {self.node.me.number} holds other parameters than most, and nobody is left to take them over "
                "from: its model is not that of the run. Take what the others have saved."
            )

    def _restore(self, snapshot: Snapshot) -> None:
        node, server = self.node, self.participant.server
        if not self.fresh or snapshot.slot > node.slot:
            super()._restore(snapshot)
        elif snapshot.slot == node.slot:
            server.check(snapshot)
            server.replica.restore(snapshot.state)
            self.fresh = False
            node.membership.step_in()
