"""Which learning rate: from that of the optimizer a script has now to that of the one that applies directions.

Two sizes carry every rate over. η̂ is how far a lasting gradient moves the model, per unit of gradient: η(1−τ)/(1−μ) of
SGD with momentum μ and dampening τ. u is how far one step moves one weight: η of Adam, whatever the gradient. They are
tied by u = η̂·rms(g). Constants were chosen on small tasks and are judged on others by `benchmarks/learning_rates.py`.
"""

import inspect
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from torch.optim import Optimizer

from gradvote.codecs import Chain, Dense, ErrorFeedback, Masked, Rounded, Sign
from gradvote.core import Algorithm, Codec
from gradvote.schedules import Schedule
from gradvote.theory.gradient_size import gradient_rms
from gradvote.transforms import Adam, Momentum, Noise

VOTE = 0.2
"""A vote's rate as a share of Adam's."""
ADAM = 1.0
"""The rate of Adam's update, sent with a memory, as a share of Adam's."""
NOISY = 2.0
"""What noise before the sign adds to it: part of such a vote's steps are coin tosses and cancel."""
PLAIN = 0.5
"""The rate of a direction without momentum as a share of an η̂ that was found with one."""
PARTLY = 0.5
"""The same for scaled signs of which a part is sent, beside that part: what waits arrives late and large."""
CATCH_UP = 4.0
"""DropSign's c is too small where rms(g) is beyond c/CATCH_UP; its rate then grows, as its steps do not."""
SGDS = ("SGD", "NesterovDecay", "FusedSGD")
ADAMS = ("Adam", "AdamW", "NAdam", "RAdam", "FusedAdam", "DeepSpeedCPUAdam", "Adam8bit", "AdamW8bit")
LIONS = ("Lion", "Lion8bit")


def suggest_lr(optimizer: Optimizer, algorithm: Algorithm, *, max_norm: float | None = None) -> float | Any:
    """The rate to begin with for a `torch.optim.SGD` without momentum that applies the algorithm's directions.

        lr = gradvote.suggest_lr(torch.optim.AdamW(model.parameters(), lr=3e-4), gradvote.algorithms.signum())

    `optimizer` is the one you train with now (on the mean of the same workers' gradients), at the rate that is good
    there: SGD, Adam or Lion, of torch or of that name elsewhere. Where a scheduler has it, the rate before warm-up and
    decay counts (`initial_lr`). One number, or a list of one for each parameter group, whose ratios stay as they are
    (for type checkers `float | Any`, so that `lr=suggest_lr(...)` passes where there is one group).

    With η̂ = η(1−τ)/(1−μ) of SGD, u = η of Adam (5η of Lion), and u = η̂·rms(g):

    - votes (signsgd, signum, lion): u/5, with noise before the sign 2u/5; divided by the scale of the signs, if any
    - sgd, mediansgd, ef_signsgd: η̂, and half of it from an optimizer with momentum (Adam, Lion), as they have none
    - dist_ef_sgdm: (1−μ)·η̂ with the algorithm's μ; flexcompress: ½·keep·(1−μ)·η̂
    - dist_ef_adam: u, as its directions are Adam's
    - dropsignsgd: keep_up·(1−μ)·η̂·max(1, 4·rms(g)/c); noise changes nothing here and in the two lines above

    rms(g) is needed from SGD to votes and dist_ef_adam, from Adam or Lion to the others, and for dropsignsgd: call it
    after one `loss.backward()` on a worker's batch, before anything is attached. Where torch.distributed runs, all
    ranks must then call it: the mean over ranks is taken, so that all get the same rate. `max_norm` is that of
    `attach`, where gradients are clipped: clipped ones are what the rate must fit.

    Raises:
        ValueError: an argument is something else, its rule is not known, or gradients are needed and are missing,
            zero, not finite, or directions of a vote already.
    """
    _check(optimizer, algorithm)
    if max_norm is not None and (not isinstance(max_norm, Real) or not 0 < max_norm < math.inf):
        raise ValueError(f"max_norm must be positive and finite, or None for no clipping; got {max_norm!r}.")
    wanted, kind = _form(algorithm), _kind(optimizer)
    known = [_movement(group, kind) for group in optimizer.param_groups]
    if not any(known):
        raise ValueError(
            "The optimizer's rate is 0 now, as at the start of a warm-up, and so would be every rate that is made of "
            "it. Call suggest_lr with the rate that is good without votes, before the warm-up changes it."
        )
    in_gradients = kind == "SGD"
    rms = gradient_rms(optimizer, max_norm) if in_gradients == wanted.knows_size or wanted.c else 1.0
    _warn_of_scale(max(known) * rms if in_gradients and wanted.knows_size else 0.0)
    unit = rms if in_gradients else 1 / rms
    had_momentum = not in_gradients or any(_gathers(group) for group in optimizer.param_groups)
    share = wanted.share(rms, had_momentum) * (unit if in_gradients == wanted.knows_size else 1.0)
    rates = [movement * share for movement in known]
    return rates[0] if len(rates) == 1 else rates


@dataclass(frozen=True)
class _Form:
    """What of an algorithm decides its rate: `c` is the scale behind an error memory.

    `per_u` is the rate as a share of u where steps do not depend on the size of a gradient; None: they do.
    """

    per_u: float | None = None
    momentum: float = 0.0
    keep: float = 1.0
    c: float | None = None

    @property
    def knows_size(self) -> bool:
        """Whether its steps have a size of their own, whatever the gradient's."""
        return self.per_u is not None

    def share(self, rms: float, had_momentum: bool) -> float:
        """The rate as a share of u or of η̂."""
        if self.per_u is not None:
            return self.per_u
        share = self.keep * (1 - self.momentum) * (PLAIN if had_momentum and not self.momentum else 1.0)
        if self.c is not None:
            return share * max(1.0, CATCH_UP * rms / self.c)
        return share * (PARTLY if self.keep < 1 else 1.0)


def _form(algorithm: Algorithm) -> _Form:
    """Read from its parts, so that an algorithm of one's own has a rate, too."""
    (*wrappers, sender), (*around, down) = _parts(algorithm.up), _parts(algorithm.down)
    if not isinstance(sender, Dense | Sign) or not isinstance(down, Dense | Sign):
        raise ValueError(
            f"suggest_lr knows directions made of signs and of numbers, not those of {algorithm}. Try its rate on a "
            "grid, with factors of 3."
        )
    ballot, decision = _size(wrappers, sender), _size(around, down)
    if ballot or decision:
        noisy = any(isinstance(part, Noise) and part.std != 0 for part in wrappers)
        return _Form(VOTE * (NOISY if noisy else 1.0) / (decision or ballot or 1.0))
    keep = math.prod(_at_start(part.keep) for part in wrappers if isinstance(part, Masked))
    if any(isinstance(part, Adam) for part in wrappers):
        return _Form(ADAM * keep * (PARTLY if keep < 1 else 1.0))
    momentum = max([0.0, *(part.mu for part in wrappers if isinstance(part, Momentum))])
    return _Form(momentum=momentum, keep=keep, c=_scale(sender))


def _size(wrappers: Sequence[object], sender: object) -> float | None:
    """|sign| where each step forgets what it did not send; None where values or memories are in gradient units."""
    return None if any(isinstance(part, ErrorFeedback) for part in wrappers) else _scale(sender)


def _parts(codec: Codec) -> list[object]:
    """Transforms and the codecs that wrap others, from the outside; the last one is the codec that sends."""
    found: list[object] = []
    while isinstance(codec, Chain | ErrorFeedback | Masked | Rounded):
        found += codec.transforms if isinstance(codec, Chain) else [codec]
        codec = codec.codec
    return [*found, codec]


def _scale(codec: object) -> float | None:
    """The constant that multiplies signs; None where the gradient decides."""
    if not isinstance(codec, Sign) or codec.scale == "l1":
        return None
    return 1.0 if codec.scale is None else _at_start(codec.scale)


def _at_start(value: Any) -> float:
    return float(value(0, 0) if isinstance(value, Schedule) else value)


def _kind(optimizer: Optimizer) -> str:
    inner = getattr(optimizer, "optimizer", getattr(optimizer, "optim", None))
    if isinstance(inner, Optimizer):  # a wrapper: Accelerate's, ZeroRedundancyOptimizer
        return _kind(inner)
    for cls in type(optimizer).__mro__:
        for kind, names in {"SGD": SGDS, "Adam": ADAMS, "Lion": LIONS}.items():
            if cls.__name__ in names:
                return kind
    raise ValueError(
        f"suggest_lr knows the rates of SGD, Adam and Lion; got {type(optimizer).__name__}. Give it an optimizer that "
        "you know a good rate for, such as torch.optim.AdamW(model.parameters(), lr=...); it is only read."
    )


def _movement(group: dict[str, Any], kind: str) -> float:
    """η̂ of SGD, u of the others."""
    told = group.get("initial_lr", group.get("lr"))
    if told is None:
        raise ValueError(
            "A group of the optimizer has no learning rate (lr=None). Give it the rate that is good there."
        )
    lr = float(told)
    if not (math.isfinite(lr) and lr >= 0):
        raise ValueError(f"The optimizer's rate must be finite and not negative; got {lr}.")
    if kind == "Lion":
        return lr / VOTE
    if kind == "Adam" or not _gathers(group):
        return lr
    mu = float(group["momentum"])
    if mu >= 1:
        raise ValueError(f"The optimizer's momentum must be less than 1; got {mu}.")
    return lr * (1 - float(group["dampening"])) / (1 - mu)


def _gathers(group: dict[str, Any]) -> bool:
    """Whether gradients have momentum: that of `NesterovDecay`, which has no dampening, is for its decay alone."""
    return "dampening" in group and float(group["momentum"]) > 0


def _warn_of_scale(movement: float) -> None:
    if movement > 1:
        warnings.warn(
            f"At this rate the present optimizer moves weights by about {movement:.2g} in one step. If a GradScaler "
            "has multiplied the gradients, call scaler.unscale_(optimizer) before suggest_lr.",
            stacklevel=3,
        )


def _check(optimizer: object, algorithm: object) -> None:
    """One sentence for what is not an optimizer or not an algorithm."""
    if isinstance(optimizer, Algorithm) or isinstance(algorithm, Optimizer):
        raise ValueError(
            "suggest_lr takes first the optimizer and then the algorithm: suggest_lr(optimizer, algorithm)."
        )
    if not isinstance(optimizer, Optimizer):
        hint = "; build it over the model's parameters first" if inspect.isclass(optimizer) else ""
        raise ValueError(f"suggest_lr takes the optimizer you train with now; got {_shown(optimizer)}{hint}.")
    if not isinstance(algorithm, Algorithm):
        hint = "; call it: algorithm()" if callable(algorithm) else ", such as gradvote.algorithms.signum()"
        raise ValueError(f"suggest_lr takes an algorithm as its second argument; got {_shown(algorithm)}{hint}.")


def _shown(value: object) -> str:
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return f"the function {value.__name__}"
    return repr(value) if isinstance(value, str | int | float) else f"an object of type {type(value).__name__}"
