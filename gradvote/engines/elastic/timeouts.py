"""The hierarchy of timeouts: each one bounds the waiting that the one before it leaves."""

from dataclasses import dataclass

from gradvote.engines.common.arguments import check_seconds


class TooFewWorkers(RuntimeError):
    """Fewer than `min_workers` could be brought together in time; nothing of the step was applied."""


class ShardLost(RuntimeError):
    """Nobody that is left can tell a step's decision on a shard, and it cannot be taken again (placement `sharded`)."""


class Replaced(RuntimeError):
    """A newer process has taken this worker's place; this one must end."""


class Excluded(RuntimeError):
    """This worker signed two different ballots for one step: the others go on without it, for good."""


class RunEnded(RuntimeError):
    """The others have taken the last step and left; nobody is there to learn the final state from."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds. A closed connection needs none of them: its worker is left out at once.

    `grace` < `deadline` < `timeout`. `deadline`: how long a vote waits for ballots after this worker's own. `grace`:
    how long it then waits for the others to say what they hold; the first that answers settles the vote, after three
    times as long any other one. `gather`: how long the founders wait for each other. `timeout`: how long a worker stays
    alone, or a group too small, before it raises `TooFewWorkers`.
    """

    deadline: float = 2.0
    grace: float = 0.2
    gather: float = 30.0
    timeout: float = 300.0

    @property
    def settled(self) -> float:
        """How long a vote takes at most, as long as enough members answer."""
        return self.deadline + 3 * self.grace

    def __post_init__(self) -> None:
        for name in ("deadline", "grace", "gather", "timeout"):
            check_seconds(name, getattr(self, name))
        if not 0 < self.grace < self.deadline < self.timeout:
            raise ValueError(
                f"The timeouts must rise from grace to deadline to timeout; got grace {self.grace}, deadline "
                f"{self.deadline}, timeout {self.timeout} seconds."
            )

    def __str__(self) -> str:
        return (
            f"closed connection: at once; silent worker: {self.deadline:g} s (deadline) + {self.grace:g} s (grace); "
            f"founders wait {self.gather:g} s for each other; too few workers: error after {self.timeout:g} s"
        )


def timeouts_for(deadline: float) -> Timeouts:
    """Those with this deadline.

    Raises:
        TypeError, ValueError: it is no time, or as long as the longest one.
    """
    check_seconds("deadline", deadline)
    return Timeouts(deadline, grace=min(0.2, deadline / 4))
