"""The live modules that parameters belong to: an exchange is given parameters only, and buffers matter, too."""

import gc
import warnings
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

from gradvote.engines.common.arguments import averages_itself
from gradvote.engines.common.parameters import check_modules

APART = (
    "each worker keeps running statistics of its own data, so that the workers' models differ where they are evaluated "
    "or saved. Before that recompute them on data of all (torch.optim.swa_utils.update_bn), or average them where "
    "torch.distributed runs (gradvote.distributed.average_statistics); GroupNorm and LayerNorm have none."
)
"""What is said of BatchNorm where no group of ranks stays to the end, or the model is trained apart."""
T = TypeVar("T")


def live(kind: type[T]) -> list[T]:
    """The instances of a Python class and of its subclasses.

    Not by a loop over `gc.get_objects()`: it holds the tuples, too, that other threads are about to make, and those
    fail then (`tuple(generator)`, SystemError). So the list is used up within one call of C, for the classes there are;
    each instance refers to its own.
    """
    seen = set(map(type, chain.from_iterable(map(gc.get_objects, (None,)))))
    kinds = [each for each in seen if issubclass(each, kind)]
    return [o for o in gc.get_referrers(*kinds) if issubclass(type(o), kind)] if kinds else []


def live_modules() -> list[nn.Module]:
    """All modules of this process. Taken before a generator of parameters is used up, which may let its module go."""
    whole = {"_parameters", "_modules"}  # another thread may be building one
    return [m for m in live(nn.Module) if whole <= m.__dict__.keys()]


def family_of(params: Sequence[Tensor], modules: Iterable[nn.Module]) -> list[nn.Module]:
    """The largest model that has all of these parameters, module by module; those that own one, where none has all.

    Not the smallest: where only the trainable head of a model was given, its frozen layers belong to it still.
    """
    own = {id(p) for p in params}
    models = [(m, ids) for m in modules if own <= (ids := {id(p) for p in m.parameters()})]
    if models:
        largest = min(models, key=lambda pair: (-len(pair[1]), sum(1 for _ in pair[0].modules())))[0]
        return list(largest.modules())
    by_param: dict[int, nn.Module] = {}
    for module in modules:
        for p in module.parameters(recurse=False):
            by_param.setdefault(id(p), module)
    found = {id(by_param[id(p)]): by_param[id(p)] for p in params if id(p) in by_param}
    return list(found.values())


def frozen_of(modules: Iterable[nn.Module]) -> list[tuple[str, Tensor]]:
    """Their own frozen parameters, each once, with names that are alike on all ranks."""
    found: dict[int, tuple[str, Tensor]] = {}
    for module in modules:
        for name, p in module.named_parameters(recurse=False):
            if not p.requires_grad and p.layout == torch.strided:
                found.setdefault(id(p), (f"{name} of a {type(module).__name__}", p))
    return list(found.values())


def buffers_of(modules: Iterable[nn.Module]) -> list[tuple[str, Tensor]]:
    """Their own dense buffers, each once, with names that are alike on all ranks."""
    found: dict[int, tuple[str, Tensor]] = {}
    for module in modules:
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.layout == torch.strided:
                found.setdefault(id(buffer), (name, buffer))
    return list(found.values())


def checked(params: Sequence[Tensor], modules: Sequence[nn.Module]) -> list[nn.Module]:
    """The modules around parameters that can be exchanged: `family_of`.

    Raises:
        ValueError: a DDP model averages them already, or an embedding gives sparse gradients.
    """
    _check_not_averaged(params, modules)
    found = family_of(params, modules)
    for module in found:
        check_modules(module)
    return found


def warn_of_statistics(modules: Iterable[nn.Module], what_happens: str, stacklevel: int) -> None:
    """Warn where running statistics of normalisation are not the same on all ranks."""
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats for m in modules):
        warnings.warn(f"The model has BatchNorm, and {what_happens}", stacklevel=stacklevel + 1)


def _check_not_averaged(params: Sequence[Tensor], modules: Iterable[nn.Module]) -> None:
    """Raise ValueError where one of the modules is a DDP model that averages these parameters' gradients."""
    own = {id(p) for p in params}
    for module in modules:
        if averages_itself(module) and any(id(p) in own for p in module.parameters()):
            raise ValueError(
                f"These are parameters of a {type(module).__name__} model, whose own hooks average the gradients "
                "before any vote. Use gradvote.ddp.attach(ddp, algorithm), or do not wrap the model."
            )
