"""H steps of a worker's own optimizer, then one round on how far they led, by any engine.

The engine never sees the model. It votes on a copy of the parameters, the *start*, which all workers have alike: its
gradient is start − now, the outer optimizer steps from there, and the model goes on from the new start. So what an
engine does with gradients, it does with these: algorithms, noise, memories, faults, checkpoints, members that come and
go. The inner optimizer and its states are each worker's own.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradvote.engines.common.newcomers import Newcomers
from gradvote.engines.common.outside_changes import OutsideChanges
from gradvote.engines.common.parameters import parameters_of
from gradvote.engines.common.payloads import check_alike
from gradvote.engines.common.trained import Trained
from gradvote.engines.common.ways import forget_spoilt, ways_between

VERSION = 1
WHERE = "attach(model, optimizer, algorithm)"
AGAIN = "attach anew, on all workers"
SPOILT = (
    "The local steps of this round came to numbers that are not finite. Such blocks abstain, the model goes on from "
    "what the others agreed on, and the inner optimizer's spoilt states begin anew. A smaller inner learning rate, or "
    "clipped gradients, may be needed."
)


STILL = (
    "No parameter has moved in the {every} local steps of this round, so this worker abstains. Call optimizer.step() "
    "before each local.step(), with the optimizer that attach(...) was given."
)


class Rounds(Protocol):
    """What local steps need of an engine that was built on the start: a round, and the checkpoint of its memories."""

    def step(self) -> bool | None:
        """A vote on the gradients of now and the outer optimizer's step; False where it was not taken."""

    def state_dict(self) -> dict[str, Any]:
        """Memories and step."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; raises ValueError, with nothing changed, for another run's."""


class Start(nn.Module):
    """Copies of a model's parameters and buffers, under their names and without what the model does with them."""

    def place(self, name: str, value: Tensor, kept: bool, share: bool = False) -> None:
        """Keep a copy, or the tensor itself, under a dotted name; `kept`: the model's `state_dict` has it, too."""
        *path, last = name.split(".")
        home: nn.Module = self
        for part in path:
            if part not in home._modules:
                home.add_module(part, nn.Module())
            home = home.get_submodule(part)
        if isinstance(value, nn.Parameter):
            own = value if share else nn.Parameter(value.detach().clone(), requires_grad=value.requires_grad)
            home.register_parameter(last, own)
        else:
            home.register_buffer(last, value if share else value.detach().clone(), persistent=kept)


def start_of(model: nn.Module) -> Start:
    """The start of a model's first round: its parameters and buffers as they are, tied ones once."""
    start, kept = Start(), model.state_dict().keys()
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        start.place(name, value, name in kept)
    return start


def outer_on(outer: Optimizer | Callable[[list[nn.Parameter]], Optimizer], model: nn.Module, start: Start) -> Optimizer:
    """The outer optimizer on the start: a factory is given its parameters, one that was built on the model is moved.

    Raises:
        TypeError: neither of both.
        ValueError: it was built on other parameters, or has stepped already.
    """
    if not isinstance(outer, Optimizer):
        made = outer([p for p in start.parameters() if p.requires_grad]) if callable(outer) else outer
        if not isinstance(made, Optimizer):
            raise TypeError(
                f"outer= takes an optimizer on the model's parameters, or a function that makes one of parameters; "
                f"got {type(made).__name__}. For instance outer=lambda params: torch.optim.SGD(params, lr=0.7)."
            )
        return made
    if outer.state:
        raise ValueError(
            "The outer optimizer has stepped already; give one that is new, and load its checkpoint after."
        )
    there = dict(start.named_parameters())
    known = {id(p): there[name] for name, p in model.named_parameters()}
    if any(id(p) not in known for group in outer.param_groups for p in group["params"]):
        raise ValueError(
            "The outer optimizer was built on other parameters than the model's. Build it on model.parameters(), or "
            "give a function: outer=lambda params: torch.optim.SGD(params, lr=0.7)."
        )
    for group in outer.param_groups:
        group["params"] = [known[id(p)] for p in group["params"]]
    return outer


class LocalSteps:
    """What `gradvote.local_steps.attach` returns. Call `step()` after each of the optimizer's steps.

    `vote` is the engine's own object (stats, members), `outer` the outer optimizer: a schedule may change its rate.
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
    ) -> None:
        self.every, self.outer, self.round, self._rounds = every, outer, 0, rounds
        self.vote: Any = rounds
        self._start, self._inner = start, tuple(optimizers)
        there = dict(start.named_parameters())
        self._params = [(p, there[name]) for name, p in model.named_parameters()]
        named = [(name, p, there[name]) for name, p in model.named_parameters()]
        self._outside = OutsideChanges(named, self._inner)
        copies = dict(start.named_buffers())
        self._buffers = [(b, copies[name]) for name, b in model.named_buffers()]
        self._trained = Trained(parameters_of(model.named_parameters(), WHERE), self._inner, AGAIN)
        self._newcomers = Newcomers(model.modules(), AGAIN)
        self._warned = self._told_still = False
        self._begin()
        self._taken = ahead  # as if the first round had begun so many steps ago

    @property
    def left(self) -> int:
        """The optimizer's steps that are still to come in this round."""
        return self.every - self._taken

    def step(self) -> bool:
        """Count a step of the optimizer; after the last of a round vote on the way since its start. True where voted.

        A step that a GradScaler skipped counts, too: all workers count alike. A parameter that has not moved abstains.
        Afterwards the model is where all agreed to begin. Where a round fails, the model stays where it is, and the
        next call tries again; where the start has moved on all the same (a replica that heals), it begins there.

        Raises:
            ValueError: other parameters are trained than at the start, or they have another type or device.
            RuntimeError: a state was loaded, or the run joined, without the model: enter `with local:`, not its vote.
            Exception: whatever the engine's own step raises.
        """
        if self._seen != self._versions():
            raise RuntimeError(
                "The start of this round has changed since the model began from it, as when the engine joins a run. "
                "Enter the local steps, `with local:`, not the engine inside; it hands the start to the model."
            )
        self._trained.check()
        for optimizer in self._inner:
            self._newcomers.check(optimizer)
        if self._taken + 1 < self.every:
            self._taken += 1
            return False
        self._propose()
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

        Model and inner optimizer are the script's own to save, on every worker.
        """
        start = {name: value.detach().clone() for name, value in self._start.state_dict().items()}
        own = {"version": VERSION, "every": self.every, "taken": self._taken, "round": self.round, "start": start}
        return {**own, "outer": deepcopy(self.outer.state_dict()), "vote": self._rounds.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue, bit for bit, where `state_dict` was taken; load model and inner optimizer as well.

        Raises:
            ValueError: it was saved for something else; nothing has been changed.
        """
        if state.get("version") != VERSION or state.get("every") != self.every:
            raise ValueError(
                f"The state to load is of version {state.get('version')} with {state.get('every')} steps to a round; "
                f"here it is version {VERSION} with {self.every}. Attach with the numbers of the run that saved it."
            )
        check_alike(dict(state["start"]), dict(self._start.state_dict()), "the start of the round")
        self._rounds.load_state_dict(state["vote"])
        self._start.load_state_dict(state["start"])
        self.outer.load_state_dict(deepcopy(state["outer"]))
        self._taken, self.round, self._seen = int(state["taken"]), int(state["round"]), self._versions()
        self._outside.accept()

    def __enter__(self) -> Self:
        if hasattr(self.vote, "__enter__"):
            self.vote.__enter__()
        if self._seen != self._versions():  # the run has gone on without this worker
            self._begin()
        return self

    def __exit__(self, *error: Any) -> None:
        if hasattr(self.vote, "__exit__"):
            self.vote.__exit__(*error)

    @torch.no_grad()
    def _begin(self) -> None:
        """Go on from the start that all agree on."""
        for own, agreed in (*self._params, *self._buffers):
            own.copy_(agreed)
        for _, agreed in self._params:
            agreed.grad = None
        self._taken, self._seen = 0, self._versions()
        self._outside.begin()

    @torch.no_grad()
    def _propose(self) -> None:
        """Make the way since the start its gradient; the start has the buffers that a newcomer will need."""
        self._check_kinds()
        for own, agreed in self._buffers:
            agreed.copy_(own)
        for own, agreed in self._params:
            agreed.requires_grad_(own.requires_grad)
            agreed.grad = None
        if self._inner:
            self._give_ways([pair for pair in self._params if pair[0].requires_grad])
        else:
            for own, agreed in self._params:
                agreed.grad, own.grad = own.grad, None
        self._seen = self._versions()

    def _give_ways(self, pairs: Sequence[tuple[nn.Parameter, nn.Parameter]]) -> None:
        ways, spoilt = ways_between([agreed for _, agreed in pairs], [own for own, _ in pairs])
        for (_, agreed), way in zip(pairs, ways, strict=True):
            agreed.grad = way
        if pairs and all(way is None for way in ways) and not self._told_still:
            self._told_still = True
            warnings.warn(STILL.format(every=self.every), stacklevel=4)
        forgotten = [forget_spoilt(self._inner, pairs[i][0]) for i in spoilt]
        if any(forgotten) and not self._warned:
            self._warned = True
            warnings.warn(SPOILT, stacklevel=4)

    def _check_kinds(self) -> None:
        for own, agreed in self._params:
            if (own.dtype, own.device) != (agreed.dtype, agreed.device):
                raise ValueError(
                    f"A parameter is {own.dtype} on {own.device} now and was {agreed.dtype} on {agreed.device} when "
                    "the local steps were attached. Move and convert the model first, then attach."
                )

    def _versions(self) -> list[int]:
        return [value._version for _, value in (*self._params, *self._buffers)]
