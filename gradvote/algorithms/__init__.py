"""The catalogue: one paper per file; the file's name is the function's name and, with dashes, the CLI's."""

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from gradvote.arguments import checked, hints_of, named
from gradvote.discovery import Parts, check_broken, spoilt
from gradvote.errors import unknown
from gradvote.sources import constant_in, function_in, module_names, summary_of

if TYPE_CHECKING:  # for type checkers alone: a file without a line here is found all the same
    from gradvote.algorithms.diloco import diloco as diloco
    from gradvote.algorithms.dist_ef_adam import dist_ef_adam as dist_ef_adam
    from gradvote.algorithms.dist_ef_sgdm import dist_ef_sgdm as dist_ef_sgdm
    from gradvote.algorithms.dropsignsgd import dropsignsgd as dropsignsgd
    from gradvote.algorithms.ef_signsgd import ef_signsgd as ef_signsgd
    from gradvote.algorithms.flexcompress import flexcompress as flexcompress
    from gradvote.algorithms.lion import lion as lion
    from gradvote.algorithms.mediansgd import mediansgd as mediansgd
    from gradvote.algorithms.noisy import noisy as noisy
    from gradvote.algorithms.sgd import sgd as sgd
    from gradvote.algorithms.sign_momentum import sign_momentum as sign_momentum
    from gradvote.algorithms.signsgd import signsgd as signsgd
    from gradvote.algorithms.signum import signum as signum
    from gradvote.algorithms.sized_signsgd import sized_signsgd as sized_signsgd
    from gradvote.algorithms.sparseloco import sparseloco as sparseloco
    from gradvote.algorithms.z_signfedavg import z_signfedavg as z_signfedavg
    from gradvote.core import Algorithm

_NAMES = module_names(__path__)
_NEEDED = {"BITS": "(1, 32)", "WORDS": '("sign", "mean", "mean")', "TRUST": '"every worker"'}
_PARTS = Parts("algorithms", "algorithm", __name__, __path__)


class _Catalogue(ModuleType):
    """This package, in which the name of an algorithm is its function, and never the file that holds it.

    An import puts the file there, whoever does it.
    """

    def __setattr__(self, name: str, value: object) -> None:
        holds = isinstance(value, ModuleType) and name in _NAMES
        super().__setattr__(name, getattr(value, name) if holds else value)


sys.modules[__name__].__class__ = _Catalogue


if not TYPE_CHECKING:  # a type checker would take any name for right

    def __getattr__(name: str) -> "Callable[..., Algorithm]":
        if name not in _NAMES:
            raise AttributeError(str(unknown("algorithm", name, _NAMES)))
        return _imported(name)


__all__ = ["Facts", "create", "default_lr", "facts", "function", "names", "option_names", "options", "summary", "table"]
__all__ += list(_NAMES)


def __dir__() -> list[str]:
    return __all__


def names() -> list[str]:
    """The algorithms by their CLI names."""
    return [name for name in _PARTS.names() if name != "noisy"]


def summary(name: str) -> str:
    """One line about an algorithm."""
    _check_name(name)
    first = summary_of(_PARTS.find(_base(name)).file)
    return f"noise before {first}" if _is_noisy(name) else first


def default_lr(name: str) -> float:
    """A learning rate to begin with; a noisy form has that of the algorithm inside."""
    _check_name(name)
    return float(_module(_base(name)).LR)


class Facts(NamedTuple):
    """What an algorithm's file says of it beside its function, in constants of these names.

    `bits`: per coordinate, up and down. `scales`: 32-bit numbers per tensor beside them. `words`: what goes up, what
    the server does, what comes down. `trust`: who must be honest for the decision to stay within what honest workers
    say, "every worker" or "a majority".
    """

    bits: tuple[float, float]
    scales: tuple[int, int]
    words: tuple[str, str, str]
    paper: str
    trust: str


def facts(name: str) -> Facts:
    """What tables and tests have to know of an algorithm, read from its source.

    Raises:
        ValueError: no such algorithm, or its file does not say; the sentence tells what to add.
    """
    _check_name(name)
    file = _PARTS.find(_base(name)).file
    for constant, example in _NEEDED.items():
        if constant_in(file, constant) is None:
            raise ValueError(
                f"The algorithm '{name}' does not say its {constant}: add a line such as {constant} = {example} to "
                f"{file.name}, beside LR."
            )
    scales, paper = constant_in(file, "SCALES") or (0, 0), constant_in(file, "PAPER") or ""
    return Facts(constant_in(file, "BITS"), scales, constant_in(file, "WORDS"), paper, constant_in(file, "TRUST"))


def table() -> str:
    """The algorithms as a table in Markdown, as it stands in docs/algorithms.md."""
    rows = [_row(name) for name in names()]
    rows.append("| `noisy-NAME` | NAME's, with noise before | NAME's | NAME's | as NAME | as NAME | Chen et al. 2020 |")
    head = "| name | up | server | down | bits per coordinate, up + down | trusts | paper |"
    return "\n".join((head, "|---" * 7 + "|", *rows))


def _row(name: str) -> str:
    try:
        own = facts(name)
    except ValueError:  # a plugin's that does not say them
        return f"| `{name}` |{' ? |' * 6}"
    bits = f"{own.bits[0]:.2g} + {own.bits[1]:.2g}"
    return f"| `{name}` | {' | '.join(own.words)} | {bits} | {own.trust} | {own.paper} |"


def options(name: str) -> dict[str, object]:
    """The options an algorithm takes, with their defaults."""
    parameters = dict(inspect.signature(_function(name)).parameters)
    if _is_noisy(name):
        parameters |= inspect.signature(_imported("noisy")).parameters
        del parameters["algorithm"]
    return {k: None if p.default is p.empty else p.default for k, p in parameters.items()}


def option_names(name: str) -> list[str]:
    """The names of these options, from the sources alone where they tell."""
    _check_name(name)
    told = [function_in(_PARTS.find(part).file, part).options for part in _parts(name)]
    if any(own is None for own in told):
        return list(options(name))
    return [option for own in told for option in own or () if option != "algorithm"]


def create(name: str, **chosen: object) -> "Algorithm":
    """The algorithm by its CLI name, or NAME:key=value; "noisy-NAME" wraps any of them in `noisy`.

    Raises:
        ValueError: no such algorithm or option; the sentence lists the valid ones and the nearest.
    """
    name, chosen = named(name, chosen)
    function, noisy = _function(name), _imported("noisy")
    if not _is_noisy(name):
        return function(**checked(name, chosen, hints_of(function)))
    own, hints = hints_of(noisy), hints_of(function)
    del own["algorithm"]
    values = checked(name, chosen, own | hints)
    wrapped = function(**{k: v for k, v in values.items() if k in hints})
    return noisy(wrapped, **{k: v for k, v in values.items() if k not in hints})


def function(name: str) -> "Callable[..., Algorithm]":
    """The function of an algorithm by its CLI name; that of a noisy form is the one inside."""
    return _function(name)


def _is_noisy(name: str) -> bool:
    return name.replace("-", "_").startswith("noisy_")


def _base(name: str) -> str:
    return name.replace("-", "_").removeprefix("noisy_")


def _parts(name: str) -> list[str]:
    return [_base(name), *(["noisy"] if _is_noisy(name) else [])]


def _check_name(name: str) -> None:
    if _base(name) == "noisy" or not _is_one(_base(name)):
        raise unknown("algorithm", name, [*names(), *(f"noisy-{n}" for n in names())])


def _is_one(base: str) -> bool:
    """Whether there is such a file; one that is broken raises its sentence."""
    if base in _NAMES or base.replace("_", "-") in _PARTS.names():
        return True
    check_broken("algorithms", base)
    return False


def _function(name: str) -> "Callable[..., Algorithm]":
    _check_name(name)
    return _imported(_base(name))


def _imported(module: str) -> "Callable[..., Algorithm]":
    found = _PARTS.find(module)
    if found.origin and not callable(getattr(_module(module), module, None)):
        raise spoilt(found, "algorithm", f"{found.module} has no function {module}")
    function: Callable[..., Algorithm] = getattr(_module(module), module)
    return function


def _module(name: str) -> ModuleType:
    return _PARTS.load(name)
