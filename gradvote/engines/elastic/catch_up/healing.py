"""A member whose parameters are not those of most takes over the state of one of those, and misses no step."""

from collections.abc import Set

from gradvote.engines.common.errors import ParametersDiffer
from gradvote.engines.elastic.catch_up.learning import Learner
from gradvote.engines.elastic.catch_up.teaching import HEAL
from gradvote.engines.elastic.node import SURELY_ENDED
from gradvote.engines.elastic.participant import Participant
from gradvote.engines.elastic.snapshots import Snapshot

LEAVING = 1.0
"""How long one that is asked to stop goes on, in seconds: what it saves should be the state of the others."""


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
