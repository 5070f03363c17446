"""Whether an engine was given what it expects, parts and numbers; else one sentence: what came, and how to mend it."""

import math
from collections.abc import Iterable, Sequence
from inspect import Parameter, signature
from typing import Any, SupportsFloat, SupportsIndex

from torch import Tensor, nn
from torch.optim import Optimizer

from gradvote.core import Algorithm

SEEDS = 2**63
SHORTEST = 16
"""Bytes of a secret key: fewer can be tried out one by one."""


def check_algorithm(given: Any, where: str) -> None:
    """Raise TypeError for what is no algorithm.

    `where` is how the engine is called, as in "attach(ddp, algorithm)".
    """
    if isinstance(given, Algorithm):
        return
    if isinstance(given, str):
        mend = f"Use gradvote.algorithms.create({given!r})."
    elif callable(given) and getattr(given, "__module__", "").startswith("gradvote.algorithms"):
        mend = f"Call it: gradvote.algorithms.{given.__name__}()."
    elif isinstance(given, nn.Module | Optimizer) or is_parameters(given):
        mend = "The arguments are in another order than expected."
    else:
        mend = "The functions of gradvote.algorithms give one, such as gradvote.algorithms.signum()."
    raise TypeError(f"{where} takes an algorithm; got {in_words(given)}. {mend}")


def check_rule(algorithm: Algorithm, placement: str) -> None:
    """Raise ValueError for a rule that needs whole vectors where each server holds a shard of them.

    TypeError for a placement that is no text.
    """
    if not isinstance(placement, str):
        raise TypeError(f"placement is a name, such as 'sharded' or 'replicated'; got {placement!r}.")
    if not algorithm.aggregate.separable and placement == "sharded":
        raise ValueError(
            f"{algorithm.aggregate} needs every worker's whole vector at once, but with placement='sharded' each "
            "server has a shard of it. Use placement='central' or 'replicated' (elastic: 'replicated'), or a rule for "
            "each coordinate alone (a vote, a median, a trimmed mean)."
        )


def check_faults(faults: Any) -> None:
    """Raise TypeError for what is no sequence of faults."""
    if isinstance(faults, str) or not isinstance(faults, Sequence) or not all(hasattr(f, "check_real") for f in faults):
        raise TypeError(
            f"faults= takes a sequence of gradvote.faults.Faulty, such as (Faulty(Invert()),); got {faults!r}."
        )


def check_weight(algorithm: Algorithm, number: int) -> None:
    """Raise ValueError where a worker has no weight."""
    weights = getattr(algorithm.aggregate, "weights", None)
    if weights is not None and number >= len(weights):
        raise ValueError(f"There are {len(weights)} weights, but this is worker {number}; give one for each worker.")


def check_members(algorithm: Algorithm) -> None:
    """Raise ValueError for a memory that both ends keep where workers come and go."""
    if algorithm.mirrors:
        raise ValueError(
            f"{algorithm.up} keeps an estimate that the server adds up, too, so all workers of the start must stay to "
            "the end; here they come and go. Use gradvote.distributed or gradvote.ddp, or an algorithm with error "
            "feedback, such as ef_signsgd."
        )


def check_model(given: Any, where: str) -> None:
    """Raise TypeError for what is no model, or is wrapped so that its gradients are averaged already."""
    if not isinstance(given, nn.Module):
        order = " The arguments are in another order than expected." if isinstance(given, Algorithm) else ""
        raise TypeError(f"{where} takes a model (torch.nn.Module); got {in_words(given)}.{order}")
    if averages_itself(given):
        raise ValueError(
            f"{where} takes the plain model; got {in_words(given)}, whose own hooks average the gradients before "
            "any vote. Give the model inside it (its .module), and do not wrap it."
        )


def check_optimizers(given: Any, where: str) -> tuple[Optimizer, ...]:
    """One optimizer, a sequence of them, or None, as a tuple.

    Raises:
        TypeError: something else was given.
    """
    if given is None:
        return ()
    several = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    for each in several:
        if isinstance(each, type) and issubclass(each, Optimizer):
            raise TypeError(
                f"{where} takes an optimizer that was built; got the class {each.__name__}. Give the object: "
                f"optimizer={each.__name__}(model.parameters(), lr=...)."
            )
        if hasattr(each, "manager") and hasattr(each, "optim"):
            raise ValueError(
                f"{where} takes the plain optimizer; got {in_words(each)}, whose step() commits by itself, so that "
                "each vote would be committed twice. Give the optimizer inside it, and let the vote take the step."
            )
        if not isinstance(each, Optimizer):
            raise TypeError(f"{where} takes torch optimizers; got {in_words(each)}.")
    return several


def check_steps_alone(optimizers: Iterable[Optimizer], where: str) -> None:
    """Raise ValueError for an optimizer whose step needs a closure, where an engine takes the step itself."""
    for each in optimizers:
        closure = signature(type(each).step).parameters.get("closure")
        if closure is not None and closure.default is Parameter.empty:
            raise ValueError(
                f"{type(each).__name__} evaluates the loss again within its step (a closure), but {where} takes the "
                "step itself, with what all agreed on. Use SGD or AdamW there."
            )


def check_whole(name: str, given: Any, least: int, what: str) -> None:
    """Raise TypeError or ValueError for what is no whole number, or below the `least`; `what` says what it is."""
    if isinstance(given, bool) or not isinstance(given, int):
        raise TypeError(f"{name} is {what}, a whole number from {least} on; got {given!r}.")
    if given < least:
        raise ValueError(f"{name} is {what}, at least {least}; got {given}.")


def check_seed(seed: Any) -> None:
    """Raise TypeError or ValueError for what is no seed: larger ones would be taken for smaller ones."""
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed is a whole number, the same on all workers; got {seed!r}.")
    if not 0 <= seed < SEEDS:
        raise ValueError(f"The seed must be at least 0 and below 2**63; got {seed}.")


def check_secret(secret: Any) -> None:
    """Raise TypeError or ValueError for a key of private draws that is none."""
    if secret is None:
        return
    if not isinstance(secret, bytes):
        raise TypeError(f"secret= takes bytes, such as os.urandom(32), each worker its own; got {in_words(secret)}.")
    if len(secret) < SHORTEST:
        raise ValueError(
            f"secret= has {len(secret)} bytes, which can be guessed; give {SHORTEST} or more, such as os.urandom(32), "
            "or None for draws that the seed gives and nobody is to be protected by."
        )


def check_seconds(name: str, given: Any) -> None:
    """Raise TypeError or ValueError for what is no time to wait."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise TypeError(f"{name} is a time in seconds; got {given!r}.")
    if not 0 < given < math.inf:
        raise ValueError(f"{name} is a time in seconds, positive and finite; got {given}.")


def round_of(step: Any, lr: Any) -> tuple[int, float | list[float]]:
    """A round's number and its rate or rates, also those that numpy or torch have worked out, as plain numbers.

    Raises:
        TypeError, ValueError: they are none.
    """
    if not isinstance(step, SupportsIndex) or step.__index__() < 0:
        raise ValueError(f"step is the number of this round, a whole number from 0 on; got {step!r}.")
    several = isinstance(lr, Sequence) and not isinstance(lr, str)
    rates = [*lr] if several else [lr]
    for rate in rates:
        if not isinstance(rate, SupportsFloat):
            raise TypeError(f"lr is the learning rate of this round, a number or one for each parameter; got {lr!r}.")
        if not math.isfinite(rate):
            raise ValueError(f"lr is the learning rate of this round, which is finite; got {lr!r}.")
    found = [float(rate) for rate in rates]
    return step.__index__(), found if several else found[0]


def averages_itself(model: nn.Module) -> bool:
    """Whether a model is wrapped by something that averages gradients in the backward pass: torch's, torchft's DDP."""
    return any("DistributedDataParallel" in kind.__name__ for kind in type(model).__mro__)


def is_parameters(given: Any) -> bool:
    """Whether this looks like parameters: tensors, or pairs of names and tensors; a generator is not used up."""
    if isinstance(given, str | bytes | Tensor | nn.Module | Optimizer | Algorithm) or not isinstance(given, Iterable):
        return False
    return not isinstance(given, Sequence) or all(isinstance(p, Tensor | tuple) for p in given)


def in_words(given: Any) -> str:
    """What something is, for an error."""
    if isinstance(given, str):
        return f"the text {given!r}"
    if isinstance(given, type):
        return f"the class {given.__name__}"
    if isinstance(given, nn.Module):
        return f"a model ({type(given).__name__})"
    if callable(given) and hasattr(given, "__name__"):
        return f"the function {given.__name__}"
    kind = type(given).__name__
    return f"{'an' if kind[0] in 'AEIOUaeiou' else 'a'} {kind}"
