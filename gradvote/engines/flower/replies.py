"""What came back: ballots, and why there is none of whom."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from flwr.app import Message
from flwr.common.constant import ErrorCode

from gradvote.engines.flower.asking import Asked
from gradvote.engines.flower.metrics import LONGEST, Numbers, last_line, numbers
from gradvote.engines.flower.records import Reply, ReplyError
from gradvote.engines.flower.roster import Roster
from gradvote.wire import WireError

LINK_ERRORS = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE)
"""What the SuperLink says in a node's place: it is gone, or nothing came in time."""
Open = Callable[[int, bytes], memoryview]


@dataclass
class Ballots:
    """By worker: the ballots, the metrics beside them, the reasons of who abstained, who answered at all or was
    `silent`, and whose ballots were left out because they are `doubted`."""

    bodies: dict[int, memoryview] = field(default_factory=dict)
    metrics: dict[int, Numbers] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    answered: set[int] = field(default_factory=set)
    silent: set[int] = field(default_factory=set)
    doubted: set[int] = field(default_factory=set)

    def leave_out_unweighed(self, key: str) -> None:
        """Let those abstain whose ballots weigh nothing that is known: they would be lost, and count as heard."""
        for worker in [n for n in self.bodies if not self.metrics[n].get(key, 0.0) > 0]:
            del self.bodies[worker], self.metrics[worker]
            self.reasons[worker] = (
                f"its metrics have no number {key!r} above 0, by which weights='examples' weighs ballots "
                "(weighted_by_key= names another)"
            )

    def leave_out(self, doubted: Collection[int]) -> None:
        """Take out the ballots of these workers, and what came with them."""
        self.doubted = {worker for worker in doubted if worker in self.bodies}
        for worker in self.doubted:
            del self.bodies[worker], self.metrics[worker]


def read(replies: Iterable[Message], asked: Asked, roster: Roster, opened: Open | None, timeout: float) -> Ballots:
    """Read the replies of the nodes that were asked; the first of each counts. No `opened`: no ballots."""
    found = Ballots()
    for message in replies:
        worker = asked.worker_of(message)
        if worker is None or worker in found.answered:
            continue
        found.answered.add(worker)
        try:
            _take(message, worker, roster, opened, found)
        except (ReplyError, WireError) as error:
            found.reasons[worker] = str(error)
    found.silent = set(asked.workers.values()) - found.answered
    for worker in found.silent:
        found.reasons[worker] = f"no answer within {timeout:g} s"
    return found


def _take(message: Message, worker: int, roster: Roster, opened: Open | None, found: Ballots) -> None:
    if message.has_error():
        code = message.error.code
        who = "its ClientApp failed" if code not in LINK_ERRORS else "the SuperLink has no answer of it"
        raise ReplyError(f"{who}: {last_line(message.error.reason)}")
    reply = Reply.read(message.content)
    if reply.worker != worker:
        raise ReplyError(f"it answers as worker {reply.worker}")
    roster.versions[worker] = reply.version
    if reply.reason:
        raise ReplyError(reply.reason[:LONGEST])
    if opened is not None:
        found.bodies[worker] = opened(worker, reply.ballot)
    found.metrics[worker] = numbers(message.content)
