"""The catalogue: one paper per file; the file's name is the function's name and, with dashes, the CLI's."""

import inspect
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from gradvote.arguments import checked, hints_of
from gradvote.discovery import Parts, check_broken, constant_in, function_in, module_names, spoilt, summary_of
from gradvote.errors import unknown

if TYPE_CHECKING:
    from gradvote.core import Algorithm

_NAMES = module_names(__path__)
_PARTS = Parts("algorithms", "algorithm", __name__, __path__)


class _Catalogue(ModuleType):
    """This package, in which the name of an algorithm is its function, and never the file that holds it.

    An import puts the file there, whoever does it.
    """

    def __setattr__(self, name: str, value: object) -> None:
        holds = isinstance(value, ModuleType) and name in _NAMES
        super().__setattr__(name, getattr(value, name) if holds else value)


sys.modules[__name__].__class__ = _Catalogue


def __getattr__(name: str) -> "Callable[..., Algorithm]":
    if name not in _NAMES:
        raise AttributeError(str(unknown("algorithm", name, _NAMES)))
    return _imported(name)


def __dir__() -> list[str]:
    return [*globals(), *_NAMES]


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


def bits(name: str) -> tuple[tuple[float, float], tuple[int, int]]:
    """Bits per coordinate, up and down, and 32-bit numbers per tensor beside them: `BITS` and `SCALES` of its file.

    Raises:
        ValueError: no such algorithm, or its file does not say.
    """
    _check_name(name)
    found = _PARTS.find(_base(name))
    told = constant_in(found.file, "BITS")
    if told is None:
        raise ValueError(
            f"The algorithm '{name}' does not say what it sends: give {found.file.name} a line such as BITS = (1, 32), "
            "the bits per coordinate up and down, and SCALES = (1, 0) if it sends 32-bit numbers per tensor."
        )
    return told, constant_in(found.file, "SCALES") or (0, 0)


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
    """The algorithm by its CLI name; "noisy-NAME" wraps any of them in `noisy`.

    Raises:
        ValueError: no such algorithm or option; the sentence lists the valid ones and the nearest.
    """
    function, noisy = _function(name), _imported("noisy")
    if not _is_noisy(name):
        return function(**checked(name, chosen, hints_of(function)))
    own, hints = hints_of(noisy), hints_of(function)
    del own["algorithm"]
    values = checked(name, chosen, own | hints)
    wrapped = function(**{k: v for k, v in values.items() if k in hints})
    return noisy(wrapped, **{k: v for k, v in values.items() if k not in hints})


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
