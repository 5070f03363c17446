"""The catalogue: one paper per file; the file's name is the function's name and, with dashes, the CLI's."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable

from gradvote.arguments import checked, hints_of
from gradvote.core import Algorithm
from gradvote.errors import unknown

_MODULES = {
    info.name: importlib.import_module(f"{__name__}.{info.name}")
    for info in pkgutil.iter_modules(__path__)
    if not info.name.startswith("_")
}
_FUNCTIONS: dict[str, Callable[..., Algorithm]] = {name: getattr(m, name) for name, m in _MODULES.items()}
globals().update(_FUNCTIONS)


def __getattr__(name: str) -> Callable[..., Algorithm]:
    raise AttributeError(str(unknown("algorithm", name, _FUNCTIONS)))


def names() -> list[str]:
    """The algorithms by their CLI names."""
    return [name.replace("_", "-") for name in _FUNCTIONS if name != "noisy"]


def summary(name: str) -> str:
    """One line about an algorithm."""
    _function(name)
    first = (inspect.getdoc(_MODULES[_base(name)]) or "").split("\n", 1)[0]
    return f"noise before {first}" if _is_noisy(name) else first


def default_lr(name: str) -> float:
    """A learning rate to begin with; a noisy form has that of the algorithm inside."""
    _function(name)
    return float(_MODULES[_base(name)].LR)


def options(name: str) -> dict[str, object]:
    """The options an algorithm takes, with their defaults."""
    parameters = dict(inspect.signature(_function(name)).parameters)
    if _is_noisy(name):
        parameters |= inspect.signature(_FUNCTIONS["noisy"]).parameters
        del parameters["algorithm"]
    return {k: None if p.default is p.empty else p.default for k, p in parameters.items()}


def create(name: str, **chosen: object) -> Algorithm:
    """The algorithm by its CLI name; "noisy-NAME" wraps any of them in `noisy`.

    Raises:
        ValueError: no such algorithm or option; the sentence lists the valid ones and the nearest.
    """
    function, noisy = _function(name), _FUNCTIONS["noisy"]
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


def _function(name: str) -> Callable[..., Algorithm]:
    if _base(name) not in _FUNCTIONS or _base(name) == "noisy":
        raise unknown("algorithm", name, [*names(), *(f"noisy-{n}" for n in names())])
    return _FUNCTIONS[_base(name)]
