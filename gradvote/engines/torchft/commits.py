"""Whether a script treats its manager as votes need it: one process in a group, a quorum and a commit for each step."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchft.manager import Manager

NO_QUORUM = (
    "vote.step() was called twice for one manager.start_quorum(): nobody would see who has died, come back or come "
    "anew. Call manager.start_quorum() before the backward pass of each step. Nothing of this step was applied."
)
OTHER_COMMIT = (
    "The manager came from step {before} to {now} since the last vote: something else commits steps, too, so that the "
    "run would be over early. vote.step() commits by itself: leave manager.should_commit() out, and torchft's "
    "Optimizer, LocalSGD and DiLoCo. Nothing of this step was applied."
)


class Commits:
    """Looks at the manager before each vote. Its quorum is not public: where it is kept otherwise, nothing is seen."""

    def __init__(self) -> None:
        self._quorum: Any = None
        self._step: int | None = None

    def check(self, manager: "Manager") -> None:
        """Before a vote.

        Raises:
            RuntimeError: no quorum was asked for, or a step was committed, beside the vote.
        """
        quorum, step = getattr(manager, "_quorum_future", None), int(manager.current_step())
        if quorum is not None and quorum is self._quorum:
            raise RuntimeError(NO_QUORUM)
        if self._step not in (None, step) and manager.is_participating():  # else it heals, and jumps to others' step
            raise RuntimeError(OTHER_COMMIT.format(before=self._step, now=step))
        self._quorum = quorum

    def closed(self, manager: "Manager") -> None:
        """After the commit of a vote, taken or not: the next one is at the manager's step."""
        self._step = int(manager.current_step())

    def forget(self) -> None:
        """The manager's step is about to change, by healing or a checkpoint."""
        self._step = None


def check_group(manager: "Manager") -> None:
    """Raise ValueError where a replica group has several processes: each would vote with its like in other groups."""
    size = getattr(manager, "_group_world_size", 1)
    if size != 1:
        raise ValueError(
            f"The manager's replica group has {size} processes (world_size=, WORLD_SIZE), of which each would vote "
            "with its like of other groups only, so that their models part. Give each process a group of its own: "
            "rank=0, world_size=1 and a replica_id and worker= for each."
        )
