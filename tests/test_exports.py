"""What a package exports is what it says it exports."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
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
    assert {"algorithms", "codecs", "core", "ddp", "distributed", "integrations", "suggest_lr"} <= set(gradvote.__all__)
    assert {*gradvote.__all__, "__version__"} == set(dir(gradvote))
    assert gradvote.layout is importlib.import_module("gradvote.layout"), "private, but not out of reach"
    assert gradvote.suggest_lr is gradvote.theory.suggest_lr
    assert gradvote.algorithms is importlib.import_module("gradvote.algorithms")
    with pytest.raises(AttributeError, match="It has: "):
        _ = gradvote.nothing


PARTS = ["aggregators", "algorithms", "codecs", "partitions", "faults", "lab/models", "transforms"]
PACKAGES = {"partitions": ("partitions", "lab.data"), "lab/models": ("lab.models",)}


def parts_in(file: Path) -> list[str]:
    """What a file of parts gives to users: the function of its name if it has one, its public classes."""
    own = [node for node in ast.parse(file.read_text(encoding="utf-8")).body if hasattr(node, "name")]
    functions = [n.name for n in own if isinstance(n, ast.FunctionDef) and n.name == file.stem]
    return functions + [n.name for n in own if isinstance(n, ast.ClassDef) and not n.name.startswith("_")]


def imported_by(file: Path) -> set[str]:
    """The names that a package's `__init__` imports, for type checkers only or outright."""
    found = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in found for alias in node.names}


def lines_missing(folder: Path, package: str, home: str) -> list[str]:
    """The lines that `package` needs, so that type checkers know the parts that the files of `folder` hold."""
    place = folder if package == home else Path(gradvote.__file__).parent.joinpath(*package.split(".")[1:])
    known = imported_by(place / "__init__.py")
    return [
        f"from {home if package != home else f'{home}.{file.stem}'} import {name} as {name}"
        for file in sorted(folder.glob("[!_]*.py"))
        for name in parts_in(file)
        if name not in known
    ]


@pytest.mark.parametrize("folder", PARTS)
def test_every_part_is_exported_with_its_type(folder: str) -> None:
    place, home = Path(gradvote.__file__).parent / folder, f"gradvote.{folder.replace('/', '.')}"
    for package in [f"gradvote.{own}" for own in PACKAGES.get(folder, (folder,))]:
        lines = lines_missing(place, package, home)
        assert not lines, f"Under `if TYPE_CHECKING:` of {package}, add:\n" + "\n".join(lines)
        names = {name: file.stem for file in place.glob("[!_]*.py") for name in parts_in(file)}
        assert names, f"{folder} holds no parts"
        for name, file in names.items():
            own = getattr(importlib.import_module(f"{home}.{file}"), name)
            assert getattr(importlib.import_module(package), name) is own
            assert name in importlib.import_module(package).__all__, f"Add '{name}' to `__all__` of {package}."


def test_a_part_that_is_not_exported_is_named(tmp_path: Path) -> None:
    """A test that found no parts would pass always."""
    (tmp_path / "__init__.py").write_text("from gradvote.faults.old import Old as Old\n")
    (tmp_path / "old.py").write_text("class Old: ...\nclass _Hidden: ...\n")
    (tmp_path / "new_one.py").write_text("class NewOne: ...\ndef new_one(): ...\ndef helper(): ...\n")
    assert lines_missing(tmp_path, "p", "p") == [
        "from p.new_one import new_one as new_one",
        "from p.new_one import NewOne as NewOne",
    ]


def test_names_of_models_and_data_sets_are_typed() -> None:
    """Models are functions of one file, data sets are loaded by name."""
    factories = {name.replace("-", "_") for name in gradvote.lab.models.model_names()}
    models = imported_by(Path(gradvote.lab.models.__file__))
    assert factories <= models, f"Add to gradvote/lab/models/__init__.py, twice: {sorted(factories - models)}"
    assert all(callable(getattr(gradvote.lab.models, name)) for name in factories)
    for name in gradvote.lab.data.names():
        load = importlib.import_module(f"gradvote.lab.data.sources.{name.replace('-', '_')}").load
        assert list(inspect.signature(load).parameters) == ["data_dir"]
        assert inspect.signature(load).return_annotation is gradvote.lab.data.Data
