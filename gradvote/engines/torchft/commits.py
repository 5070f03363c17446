"""Whether a script treats its manager as votes need it: one process in a group, a quorum and a commit for each step."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from torchft.manager import Manager

NEVER = (
    "vote.step() was called, but manager.start_quorum() never was: nobody knows who is there. Call it before the "
    "backward pass of each step."
)
NO_QUORUM = (
    "vote.step() was called twice for one manager.start_quorum(): nobody would see who has died, come back or come "
    "anew. Call manager.start_quorum() before the backward pass of each step. Nothing of this step was applied."
)
TOO_FEW = (
    "torchft's lighthouse found no quorum for step {step} within the manager's quorum_timeout= ({error}): fewer "
    "replicas than min_replica_size= have called manager.start_quorum() meanwhile, as the others ended, are slower "
    "than that, or never came; or the lighthouse is gone. Nothing of this step was applied. A manager does not get "
    "over it: save a checkpoint and start this process again, together with what is missing."
)
OTHER_COMMIT = (
    "manager.should_commit() was called beside the vote, so that steps would count twice and the run would be over "
    "early. vote.step() commits by itself, and says whether it did: leave should_commit out, and torchft's Optimizer, "
    "LocalSGD and DiLoCo, which call it, too."
)
OTHER_STEP = (
    "The manager came from step {before} to {now} since the last vote, and no vote brought it there. Where its state "
    "was loaded, load the vote's that was saved with it, too (vote.load_state_dict). Nothing of this step was applied."
)
NOT_THERE = (
    "This replica heals, but what it got from another one has no {key}. Call manager.register_state_dict_fn with the "
    "same names on all replicas, and save the same things on all. End this process, and start it again."
)


class Commits:
    """Looks at the manager before each vote, and is alone in committing.

    The manager's quorum is not public: where it is kept otherwise, a vote without a new one is not seen.
    """

    def __init__(self, manager: "Manager") -> None:
        self._manager, self._commit = manager, manager.should_commit
        manager.should_commit = _refuse  # on this manager: torchft's own wrappers call it, too
        self._quorum: Any = None
        self._step: int | None = None

    def wait(self) -> None:
        """Until the quorum that the script has asked for is there.

        Raises:
            RuntimeError: it has asked for none.
            TimeoutError: there was none in time.
        """
        if getattr(self._manager, "_quorum_future", self) is None:
            raise RuntimeError(NEVER)
        try:
            self._manager.wait_quorum()
        except TimeoutError as error:
            raise TimeoutError(TOO_FEW.format(step=self._manager.current_step(), error=_short(error))) from error

    def check(self) -> None:
        """Before a vote.

        Raises:
            RuntimeError: no new quorum was asked for, or the step has changed, beside the vote.
        """
        manager = self._manager
        quorum, step = getattr(manager, "_quorum_future", None), int(manager.current_step())
        if quorum is not None and quorum is self._quorum:
            raise RuntimeError(NO_QUORUM)
        if self._step not in (None, step) and manager.is_participating():  # else it heals, and jumps to others' step
            raise RuntimeError(OTHER_STEP.format(before=self._step, now=step))
        self._quorum = quorum

    def commit(self) -> bool:
        """Whether torchft takes this step; the next vote is at the manager's step, whether this one was taken or not.

        Raises:
            RuntimeError: this replica heals, and another one has not saved all that it registered.
        """
        try:
            taken = bool(self._commit())
        except KeyError as error:  # of torchft, as of a `load_state_dict` that the script has registered
            raise RuntimeError(NOT_THERE.format(key=error)) from error
        self._step = int(self._manager.current_step())
        return taken

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


def _refuse(timeout: timedelta | None = None) -> NoReturn:
    raise RuntimeError(OTHER_COMMIT)


def _short(error: BaseException) -> str:
    """What gRPC says, without its metadata."""
    return str(error).partition(", details")[0] or type(error).__name__
