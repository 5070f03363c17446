"""What a package exports is what it says it exports."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import gradvote

TRAINERS = {f"gradvote.integrations.{name}" for name in ("transformers", "lightning", "accelerate")}
"""Each imports its trainer, which takes seconds: tests/integrations looks at what they export."""
MODULES = [
    importlib.import_module(info.name)
    for info in pkgutil.walk_packages(gradvote.__path__, "gradvote.")
    if "__main__" not in info.name and info.name not in TRAINERS
]
EXPORTING = [m for m in MODULES if hasattr(m, "__all__")]


@pytest.mark.parametrize("module", EXPORTING, ids=lambda m: m.__name__)
def test_exported_names_exist_and_are_documented(module: ModuleType) -> None:
    names = module.__all__
    assert len(names) == len(set(names))
    for name in names:
        value = getattr(module, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{module.__name__}.{name} has no docstring."


@pytest.mark.parametrize("module", EXPORTING, ids=lambda m: m.__name__)
def test_public_classes_of_a_package_are_exported(module: ModuleType) -> None:
    """A class that a package's own files bring into it without an underscore is meant for users."""
    own = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.isclass(value) and value.__module__.startswith(module.__name__)
    }
    assert own <= set(module.__all__)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_every_module_says_what_it_is(module: ModuleType) -> None:
    assert (module.__doc__ or "").strip()


def test_submodules_are_loaded_when_first_used() -> None:
    assert {"algorithms", "codecs", "core", "ddp", "distributed", "engines", "integrations"} <= set(dir(gradvote))
    assert "suggest_lr" in dir(gradvote)
    assert gradvote.suggest_lr is gradvote.theory.suggest_lr
    assert gradvote.algorithms is importlib.import_module("gradvote.algorithms")
    with pytest.raises(AttributeError, match="It has: "):
        _ = gradvote.nothing
