"""What the optimizer gets is what the vote gave: looked at before each optimizer's step, and said once if it is not.

Where an engine takes the step itself (`OwnStep`), another one beside it is refused.
"""

import functools
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from gradvote.engines.common.directions import Directions, holds_direction
from gradvote.engines.common.in_vain import Dropped, Idle
from gradvote.engines.common.optimizers import Optimizers
from gradvote.engines.common.scaling import Strangers
from gradvote.engines.common.trained import Newcomers
from gradvote.staging import to_host

SAMPLE = 256
"""Coordinates of a direction that are remembered until the optimizer's step."""
FIRST = 16
"""Steps that are looked at for certain; torch's GradScaler leaves no trace on what it divides on a CPU."""
LEAST, MOST = 0.5, 2.0
"""Changes of a direction's size that are nobody's business: a clipping that hardly ever bites."""

OTHER = (
    "{kind}.step() applies directions with the learning rate {rate:g}, but the vote was given another optimizer, whose "
    "rate is {known:g}: error memories are rescaled by that one, and a schedule of this one is not seen. Attach or "
    "build the exchange anew with this optimizer, or keep the one that was given and change its rate."
)

OUT_OF_SIGHT = (
    "The parameter {name!r} was converted or moved (model.to, .half, .double) after the votes began, so the backward "
    "pass no longer tells of its gradient, and nobody has voted on it: the ranks would part. Convert and move the "
    "model first; then wrap it (DistributedDataParallel, fully_shard) and attach."
)
STEPPING = "_gradvote_stepping"
"""The attribute of an optimizer that says whether an engine takes its step just now."""


class StepWatch:
    """Looks at one direction of each vote again when an optimizer is about to apply it.

    A sign has magnitude 1 whatever the gradient's, so a direction has norm √d: clipped to norm 1 it is a step of η/√d.
    All of this process' optimizers are looked at, as an engine need not have been given one; those of others cost a
    look-up. `optimizers` are those that were given, where their rates matter. A closure (Lightning gives one to every
    step) has the backward pass in it, so the look is at its end.
    """

    def __init__(
        self,
        params: Sequence[Tensor],
        directions: Directions,
        knows_scaler: bool,
        newcomers: Newcomers,
        dropped: Dropped,
        idle: Idle,
        optimized: Sequence[Tensor] | None = None,
        optimizers: Optimizers | None = None,
    ) -> None:
        self._optimizers = optimizers
        self._newcomers, self._dropped, self._idle = newcomers, dropped, idle
        self._params, self._directions, self._knows_scaler = params, directions, knows_scaler
        self._numbers = {id(p): i for i, p in enumerate(params if optimized is None else optimized)}
        self._mine: weakref.WeakKeyDictionary[Optimizer, frozenset[int]] = weakref.WeakKeyDictionary()
        self._given: tuple[int, Tensor, int] | None = None
        self._scale, self._turn, self._warned = 1.0, 0, False
        _watched().add(self)

    def gave(self, targets: Mapping[int, Tensor | None], scale: float) -> None:
        """A vote was applied to the gradients; with a known scaler they are `scale` times the directions."""
        self._given, self._scale = None, scale
        numbers = [*targets]
        if self._warned or not numbers:
            return
        self._turn += 1
        for k in range(len(numbers)):
            number = numbers[(self._turn + k) % len(numbers)]
            gradient = self._params[number].grad
            if gradient is not None and gradient.numel():
                self._given = number, _sample(gradient).clone(), gradient._version
                return

    def look(self, optimizer: Optimizer) -> None:
        """An optimizer is about to take its step.

        Raises:
            ValueError: with a parameter that has come into the model, or was converted or moved, since the votes began.
        """
        self._newcomers.check(optimizer)
        mine = self._mine_of(optimizer)
        if self._directions.are_anothers(mine):  # the model was wrapped and attached anew, and this vote is over
            return
        self._directions.unfill(mine)
        if mine:
            self._dropped.stepped()
            self._look_for_any(mine)
        if not mine or self._warned:
            return
        unvoted = self._directions.unvoted(mine)
        self._directions.stepped(mine)
        if unvoted is not None:
            name = self._directions.names[unvoted]
            if self._directions.nodes.out_of_sight(unvoted):
                raise ValueError(OUT_OF_SIGHT.format(name=name))
            self._warn(
                f"{type(optimizer).__name__}.step() applies this rank's own gradient of {name!r}, on which nobody "
                "voted, so the ranks part. The last backward pass before a step must synchronise (forward and backward "
                "outside no_sync()), and reach all parameters unless DDP has find_unused_parameters=True; in a loop of "
                "your own exchange.step() must come before the step; behind DDP nobody votes on what is written into "
                ".grad by hand."
            )
            return
        self._compare_rates(optimizer)
        inside = getattr(optimizer, "grad_scale", None) is not None  # a fused optimizer divides by itself
        scaled = inside and not self._knows_scaler
        ratio = 1.0 if inside else self._ratio()
        if scaled or not LEAST <= ratio <= MOST:
            known = self._knows_scaler or Strangers().scale() != (1 / ratio if ratio else None)
            self._warn(_text(ratio, scaled, known))

    def _look_for_any(self, numbers: frozenset[int]) -> None:
        """Whether the optimizer finds any gradient; one whose layers are frozen, or that has a part, is not asked."""
        whole = len(numbers) == len(self._params) and any(p.requires_grad for p in self._params)
        if whole:
            self._idle.stepped(any(p.grad is not None for p in self._params))

    def _compare_rates(self, optimizer: Optimizer) -> None:
        """Memories are rescaled by the rates of the optimizers that were given, and by no other one's."""
        given = () if self._optimizers is None else self._optimizers.all
        if self._optimizers is None or not given or any(optimizer is own for own in given):
            return
        rates = self._optimizers.rates()
        rated = (g for g in optimizer.param_groups if g.get("lr") is not None)
        groups = ((float(g["lr"]), self._numbers.get(id(p))) for g in rated for p in g["params"])
        for rate, i in groups:
            known = rates if isinstance(rates, float) or i is None else rates[i]
            if i is not None and rate != known:
                self._warn(OTHER.format(kind=type(optimizer).__name__, rate=rate, known=known))
                return

    def _warn(self, text: str) -> None:
        self._warned = True
        warnings.warn(text, stacklevel=5)

    def _mine_of(self, optimizer: Optimizer) -> frozenset[int]:
        if optimizer not in self._mine:
            params = (p for group in optimizer.param_groups for p in group["params"])
            self._mine[optimizer] = frozenset(self._numbers[id(p)] for p in params if id(p) in self._numbers)
        return self._mine[optimizer]

    def _ratio(self) -> float:
        """The size of what the optimizer gets by that of what the vote gave; 1 where nothing was changed."""
        if self._given is None:
            return 1.0
        number, before, version = self._given
        gradient = self._params[number].grad
        if gradient is None or (gradient._version == version and self._scale == 1.0 and self._turn > FIRST):
            return 1.0
        now, before = to_host([_sample(gradient), before])
        if now.shape != before.shape or not bool(now.isfinite().all()):
            return 1.0
        there = now != 0  # rows that were masked since are the user's business
        then = before[there].float().abs().sum() / self._scale
        return float(now[there].float().abs().sum() / then) if bool(then > 0) else 1.0


class OwnStep:
    """`take()` lets all optimizers step; a step that the script takes by itself would apply a direction twice."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = tuple(optimizers)
        for optimizer in self._optimizers:
            optimizer.register_step_pre_hook(_look)

    def take(self) -> None:
        """One step of each."""
        for optimizer in self._optimizers:
            setattr(optimizer, STEPPING, True)
            try:
                optimizer.step()
            finally:
                setattr(optimizer, STEPPING, False)


def _sample(gradient: Tensor) -> Tensor:
    return gradient.detach().reshape(-1)[:SAMPLE]


def _text(ratio: float, scaled: bool, known: bool) -> str:
    if scaled or (ratio < 1 and not known):
        by = "" if scaled else f" by {1 / ratio:.0f}"
        return (
            f"A torch.amp.GradScaler that the vote does not know divides its directions{by}, as if they were scaled: "
            "pass scaler= to attach or Exchange, which then votes on true gradients and scales the directions."
        )
    return (
        f"Something after the vote makes .grad {ratio:.3g} times as large. Where it is a clipping, such as "
        "torch.nn.utils.clip_grad_norm_: use max_norm= of attach or Exchange, which bounds the worker's own gradient "
        "before the vote; a direction of signs has norm √d whatever the gradient's, so clipping it divides the "
        "learning rate by √d. Where the loss is scaled by hand, or added up over several batches, and .grad divided "
        "again: divide before the vote, (loss / number).backward(), or give a GradScaler as scaler=; a direction does "
        "not grow with the loss."
    )


@functools.cache
def _watched() -> "weakref.WeakSet[StepWatch]":
    """All watches of this process, behind one hook on all optimizers."""
    watches: weakref.WeakSet[StepWatch] = weakref.WeakSet()

    def look(optimizer: Optimizer) -> None:
        for watch in list(watches):
            watch.look(optimizer)

    def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        closure = kwargs.get("closure", args[1] if len(args) > 1 else None)
        if not callable(closure):
            look(optimizer)
            return None

        def looked() -> Any:
            loss = closure()
            look(optimizer)
            return loss

        return ((args[0], looked, *args[2:]), kwargs) if len(args) > 1 else (args, {**kwargs, "closure": looked})

    register_optimizer_step_pre_hook(hook)
    return watches


def _look(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    """Before a step of an optimizer whose steps an engine takes."""
    params = (p for group in optimizer.param_groups for p in group["params"])
    if not getattr(optimizer, STEPPING, False) and any(holds_direction(p) for p in params):
        raise RuntimeError(
            f"{type(optimizer).__name__}.step() was called beside the vote: vote.step() takes the optimizer's step "
            "itself, at the learning rates that were agreed on, so this one would be a second one. Leave it out "
            "(and GradScaler.step and update: pass scaler= to attach)."
        )
