"""Old names of modules that have moved work for one release, and say so."""

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import gradvote
from gradvote.moved import LAB, MOVED, new_name, redirect

OLD = [*MOVED, "gradvote.data.partitions.iid", "gradvote.train.config", "gradvote.bench.timing"]


def forget(name: str) -> None:
    """As if nobody had used the old name yet."""
    for known in [known for known in sys.modules if known == name or known.startswith(f"{name}.")]:
        del sys.modules[known]
    vars(gradvote).pop(name.split(".")[1], None)


@pytest.mark.parametrize("old", OLD)
def test_an_old_name_is_the_same_module_with_a_warning(old: str) -> None:
    new = new_name(old)
    assert new is not None
    forget(".".join(old.split(".")[:2]))
    with pytest.warns(DeprecationWarning, match=f"{old} is now {new}; the old name works until gradvote 0.3"):
        module = importlib.import_module(old)
    assert module is importlib.import_module(new)
    assert module.__name__ == new and module.__spec__ is not None and module.__spec__.name == new


def test_the_front_door_still_gives_old_names() -> None:
    for name in LAB:
        forget(f"gradvote.{name}")
        with pytest.warns(DeprecationWarning, match=f"gradvote.{name} is now") as told:
            assert getattr(gradvote, name) is importlib.import_module(f"gradvote.lab.{name}")
        assert told[0].filename == __file__, "the line that is to be changed"
    forget("gradvote.data")
    with pytest.warns(DeprecationWarning) as told:
        from gradvote.data import ByClass
    assert ByClass is gradvote.partitions.ByClass and told[0].filename == __file__
    assert not {*LAB} & {*gradvote.__all__, *dir(gradvote)}


def test_a_model_that_an_old_run_folder_names_is_found() -> None:
    forget("gradvote.experiments")
    with pytest.warns(DeprecationWarning, match="gradvote.experiments.nets is now gradvote.lab.experiments.nets"):
        model = gradvote.lab.models.build("gradvote.experiments.nets:deep", (64,), 10, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) > 0


def test_new_names_are_told_nothing_and_wrong_ones_are_not_found() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in gradvote.lab.__all__:
            importlib.import_module(f"gradvote.lab.{name}")
    for wrong in ("gradvote.train.nothing", "gradvote.trains"):
        with pytest.raises(ModuleNotFoundError, match=wrong):
            importlib.import_module(wrong)
    before = list(sys.meta_path)
    redirect()
    assert sys.meta_path == before, "once is enough"


def test_a_folder_left_with_caches_alone_hides_nothing(tmp_path: Path) -> None:
    """As a checkout has after the move: Python takes such a folder for a package. And `python -m` knows old names."""
    (tmp_path / "train" / "__pycache__").mkdir(parents=True)
    program = (
        f"import gradvote; gradvote.__path__.append({str(tmp_path)!r}); from gradvote.train import Config; Config()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    command = [sys.executable, "-m", "gradvote.bench.links", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "usage" in done.stdout.lower(), done.stderr
