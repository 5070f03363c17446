"""Whether an engine was given what it expects; else one sentence that says what came, and the mend."""

from collections.abc import Iterable, Sequence
from inspect import Parameter, signature
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from gradvote.core import Algorithm


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
