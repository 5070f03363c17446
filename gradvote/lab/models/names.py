"""The names of the models: each public function in a file of models that takes the arguments of a factory."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

from gradvote.arguments import parse_spec
from gradvote.discovery import Found, Parts
from gradvote.errors import unknown
from gradvote.sources import Described, functions_in

ARGUMENTS = ("input_shape", "num_classes")
_PARTS = Parts("models", "model", "gradvote.lab.models", [str(Path(__file__).parent)])


class _Factory(NamedTuple):
    """A function that makes a model: the file it is in, its name there, and what its source tells."""

    found: Found
    function: str
    told: Described


def model_names() -> list[str]:
    """The names of the models, as written on the command line."""
    return sorted(name.replace("_", "-") for name in _factories())


def describe_model(spec: str) -> str:
    """One line about a model, NAME or NAME:key=value. Raises `ValueError` for an unknown name or option."""
    name, given = parse_spec(spec)
    known = model_options(name)
    for key in given:
        if not known:
            raise ValueError(f"The model {name} takes no options; leave out '{key}'.")
        if key not in known:
            raise unknown(f"option of the model {name}", key, known)
    return factory_named(name).told.summary


def model_options(name: str) -> list[str]:
    """The options of a model, from its source."""
    return list((factory_named(name).told.options or ())[len(ARGUMENTS) :])


def is_foreign(spec: str) -> bool:
    """Whether it is `package.module:factory`, code of the user's own, and no name with options."""
    return ":" in spec and spec.partition(":")[0].replace("-", "_") not in _factories()


def factory_named(name: str) -> _Factory:
    """The function that makes a model. Raises `ValueError` for an unknown name."""
    if name.replace("-", "_") not in _factories():
        raise unknown("model", name, [*model_names(), "package.module:factory"])
    return _factories()[name.replace("-", "_")]


@cache
def _factories() -> dict[str, _Factory]:
    """By name; ours come first."""
    known: dict[str, _Factory] = {}
    for found in _PARTS.all():
        for name, own in functions_in(found.file).items():
            if own.options is not None and own.options[:2] == ARGUMENTS:
                known.setdefault(name, _Factory(found, name, own))
    return known
