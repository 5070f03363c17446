"""The names of the models: each public function of `nets` that takes the arguments of a factory."""

from pathlib import Path

from gradvote.discovery import Described, functions_in
from gradvote.errors import unknown

ARGUMENTS = ("input_shape", "num_classes")


def model_names() -> list[str]:
    """The names of the models, as written on the command line."""
    return sorted(name.replace("_", "-") for name in _factories())


def describe_model(name: str) -> str:
    """One line about a model. Raises ``ValueError`` for an unknown name."""
    return _factories()[factory_named(name)].summary


def factory_named(name: str) -> str:
    """The function of ``nets`` that makes a model. Raises ``ValueError`` for an unknown name."""
    if name.replace("-", "_") not in _factories():
        raise unknown("model", name, [*model_names(), "package.module:factory"])
    return name.replace("-", "_")


def _factories() -> dict[str, Described]:
    found = functions_in(Path(__file__).with_name("nets.py"))
    return {name: own for name, own in found.items() if own.options is not None and own.options[:2] == ARGUMENTS}
