"""H steps of a worker's own optimizer, then one round on how far they led, by any engine.

The engine never sees the model. It votes on a copy of the parameters, the *start*, which all workers have alike: its
gradient is start − now, the outer optimizer steps from there, and the model goes on from the new start. So what an
engine does with gradients, it does with these: algorithms, noise, memories, faults, checkpoints, members that come and
go. The inner optimizer and its states are each worker's own.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self

import torch
from torch import nn
from torch.optim import Optimizer

from gradvote.engines.common import owners
from gradvote.engines.common.beside import Beside
from gradvote.engines.common.handles import Handle
from gradvote.engines.common.optimizers import check_optimizer_state
from gradvote.engines.common.outside_changes import OutsideChanges
from gradvote.engines.common.own_parameters import OwnParameters
from gradvote.engines.common.recipe import check_mapping
from gradvote.engines.common.start import Agreed, Start
from gradvote.engines.common.torch_modes import ordinary_tensors, uncompiled
from gradvote.engines.common.trained import Newcomers, Trained
from gradvote.engines.common.ways import OwnWays
from gradvote.engines.overlap import Delay

VERSION = 1
WHERE = "attach(model, optimizer, algorithm)"
AGAIN = "attach anew, on all workers"


class Rounds(Protocol):
    """What local steps need of an engine that was built on the start: a round, and the checkpoint of its memories."""

    def step(self) -> bool | None:
        """A vote on the gradients of now and the outer optimizer's step; False where it was not taken."""

    def state_dict(self) -> dict[str, Any]:
        """Memories and step."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; raises ValueError, with nothing changed, for another run's."""


class LocalSteps(Handle):
    """What `gradvote.local_steps.attach` returns. Call `step()` after each of the optimizer's steps.

    `outer` is the outer optimizer: a schedule may change its rate. With a `delay` evaluate `with local.agreed():`, and
    call `finish()` at the end.
    """

    def __init__(
        self,
        model: nn.Module,
        start: Start,
        optimizers: Sequence[Optimizer],
        outer: Optimizer,
        rounds: Rounds,
        every: int,
        ahead: int = 0,
        delay: Delay | None = None,
    ) -> None:
        self.outer, self.round, self._rounds, self._every = outer, 0, rounds, every
        self._delay, self._ahead = delay, ahead
        self._start, self._inner = start, tuple(optimizers)
        owners.warn_of_statistics(model.modules(), owners.APART, stacklevel=5)
        self._params = start.pairs(model)
        self._voted = [pair for pair in self._params if pair.key.requires_grad]
        self._own = OwnParameters(self._voted, self._inner)
        self._beside = Beside(model, start, [pair for pair in self._params if not pair.key.requires_grad])
        tensors = [(pair.name, pair.own, pair.agreed) for pair in self._params]
        self._outside = OutsideChanges(tensors, self._inner, self._beside.names, self._beside.begin)
        self._trained = Trained(start.trained(model, WHERE), self._inner, AGAIN)
        self._newcomers = Newcomers(model.modules(), AGAIN)
        self._ways = OwnWays(self._inner, every)
        self._agreed = Agreed(self._voted, self._inner, start.settle)
        self._begin()
        self._taken = ahead  # as if the first round had begun so many steps ago

    @property
    def every(self) -> int:
        """The number of steps to a round: part of the recipe, and fixed."""
        return self._every

    @every.setter
    def every(self, value: object) -> None:
        raise AttributeError(
            f"A round has {self._every} steps, which all workers and checkpoints know it by; it cannot become {value} "
            "later. Call local.finish() after a round, and attach anew with every=, on all workers."
        )

    @property
    def vote(self) -> Any:
        """The engine's own object (stats, members); waits for the exchange of a round that is under way."""
        if self._delay is not None:
            self._delay.wait()
        return self._rounds

    @property
    def left(self) -> int:
        """The optimizer's steps that are still to come in this round."""
        return self.every - self._taken

    @uncompiled
    @ordinary_tensors()
    def step(self) -> bool:
        """Count a step of the optimizer; after the last of a round vote on the way since its start. True where voted.

        With a delay the vote is sent then, and True comes with the step in which its outcome arrives.

        A step that a GradScaler skipped counts, too: all workers count alike. A parameter that has not moved abstains.
        Afterwards the model is where all agreed to begin. Where a round fails, the model stays where it is, and the
        next call tries again; where the start has moved on all the same (a replica that heals), it begins there.

        Raises:
            ValueError: other parameters are trained than at the start, or they have another type or device.
            RuntimeError: a state was loaded, or the run joined, without the model: enter `with local:`, not its vote.
            Exception: whatever the engine's own step raises.
        """
        self._agreed.check("step()")
        under_way = self._delay is not None and self._delay.under_way
        if not under_way and self._seen != self._versions():
            raise RuntimeError(
                "The start of this round has changed since the model began from it, as when the engine joins a run. "
                "Enter the local steps, `with local:`, not the engine inside; it hands the start to the model."
            )
        self._trained.check()
        for optimizer in self._inner:
            self._newcomers.check(optimizer)
        if self._taken + 1 < self.every:
            self._taken += 1
            arrives = under_way and self._delay is not None and self._taken >= self._delay.steps
            return arrives and self._arrive()
        self._propose()
        if self._delay is not None:
            self._delay.send()
            self._taken = 0
            return False
        return self._vote()

    @uncompiled
    @ordinary_tensors()
    def finish(self) -> bool:
        """Wait for a round that is under way, and let the model be what all agreed on; True where there was one.

        At the end of a run, before evaluating or saving the model, on all workers, whose models are alike then: steps
        on which nobody has voted (of a round that was not ended, or since a delayed one was sent) are taken back.
        """
        self._agreed.check("finish()")
        under_way = self._delay is not None and self._delay.under_way
        if under_way:
            self._settle()
            assert self._delay is not None
            self._delay.arrived()
            self.round += 1
        if under_way or self._taken:
            self._begin()
        self._taken = self._ahead  # fragments go on in turn
        return under_way

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """Within, the model is what all agreed on; afterwards it is this worker's own again, to the bit.

        To evaluate or to save it while this worker is ahead. A round that is under way is waited for, and counts as
        agreed on; other workers need not ask. Buffers are this worker's own, and what is done to parameters is undone.
        """
        self._agreed.check("agreed()")
        self._settle()
        with self._agreed.shown():
            yield

    def _arrive(self) -> bool:
        """The outcome of a delayed round: the model takes its part of the start that all agreed on."""
        assert self._delay is not None
        self._settle()
        self._start.settle()
        self._own.join(self._delay.mix)
        self._delay.arrived()
        self.round += 1
        return True

    @ordinary_tensors()
    def _settle(self) -> None:
        """Let a round that is under way move the start; the steps since it was sent stay counted."""
        if self._delay is not None:
            try:
                self._delay.settle()
            finally:
                self._seen = self._versions()

    def _vote(self) -> bool:
        voted = False
        try:
            voted = self._rounds.step() is not False
        finally:
            if voted or self._seen != self._versions():  # also where the engine has learned what others agreed on
                self._begin()
        self.round += voted
        return voted

    def state_dict(self) -> dict[str, Any]:
        """The start, the steps since, the outer optimizer and the engine's memories: also in the middle of a round.

        Model and inner optimizer are the script's own to save, on every worker. A round that is under way is waited
        for; what it came to is in the state, and the model learns of it when its delay is over.
        """
        self._agreed.check("state_dict()")
        self._settle()
        own: dict[str, Any] = {"version": VERSION, "every": self.every, "taken": self._taken, "round": self.round}
        marks = self._outside.digests() if self._start.whole else None
        own |= {"outer_kind": type(self.outer).__name__, "model": marks}
        if self._delay is not None:
            own |= {"delay": self._delay.steps, "under_way": self._delay.under_way}
        return {**own, **self._start.saved(self.outer), "vote": self._rounds.state_dict()}

    def check(self, state: Mapping[str, Any]) -> None:
        """Raise ValueError for a state that was saved for something else, but for the engine's own part of it."""
        check_mapping(state)
        if state.get("version") != VERSION or state.get("every") != self.every:
            raise ValueError(
                f"The state to load is of version {state.get('version')} with {state.get('every')} steps to a round; "
                f"here it is version {VERSION} with {self.every}. Attach with the numbers of the run that saved it."
            )
        delay = 0 if self._delay is None else self._delay.steps
        if state.get("delay", 0) != delay:
            raise ValueError(
                f"The state to load was saved with a delay of {state.get('delay', 0)} steps; here it is {delay}. "
                "Attach with the delay of the run that saved it."
            )
        self._start.check(state)
        check_optimizer_state(state["outer"], self.outer, state.get("outer_kind"), "outer optimizer")

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue, bit for bit, where `state_dict` was taken; load model and inner optimizer as well, in any order.

        Where the model is another one than was saved with it, the next step of an inner optimizer raises ValueError.

        Raises:
            ValueError: it was saved for something else; nothing has been changed.
        """
        self._agreed.check("load_state_dict()")
        self.check(state)
        self._settle()
        self._rounds.load_state_dict(state["vote"])
        self._start.load(state, self.outer)
        if self._delay is not None:
            self._delay.arrived(under_way=bool(state["under_way"]))
        self._taken, self.round, self._seen = int(state["taken"]), int(state["round"]), self._versions()
        self._outside.accept(state.get("model"))

    def __enter__(self) -> Self:
        if hasattr(self.vote, "__enter__"):
            self.vote.__enter__()
        if self._seen != self._versions():  # the run has gone on without this worker
            self._begin()
        return self

    def __exit__(self, *error: Any) -> None:
        if hasattr(self.vote, "__exit__"):
            self.vote.__exit__(*error)

    def _told(self) -> tuple[str, object]:
        return f"round {self.round}, {self.left} of {self.every} steps to go", self._rounds

    def _begin(self) -> None:
        """Go on from the start that all agree on."""
        self._start.settle()
        self._own.take()
        self._beside.take()
        self._taken, self._seen = 0, self._versions()
        self._outside.begin()

    @torch.no_grad()
    def _propose(self) -> None:
        """Make the way since the start its gradient; the start has the buffers that a newcomer will need."""
        self._start.settle()
        self._newcomers.check_model()
        self._outside.check_kinds()
        self._beside.keep()
        for pair in self._voted:
            pair.agreed.requires_grad_(pair.key.requires_grad)
            pair.agreed.grad = None
        if self._inner:
            self._ways.give([pair for pair in self._voted if pair.key.requires_grad])
        else:
            for pair in self._voted:
                pair.agreed.grad, pair.own.grad = pair.own.grad, None
        self._seen = self._versions()

    def _versions(self) -> list[int]:
        return [value._version for value in (*self._start.parameters(), *self._start.buffers())]
