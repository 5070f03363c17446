"""Checkpoints and run folders of an earlier version are read, and what they began ends as if nothing had happened."""

import shutil
from pathlib import Path

import pytest

from tests.golden import hashes, keep
from tests.golden.cases import KEPT
from tests.lab.train import small


@pytest.mark.parametrize("place", keep.THREADS)
def test_a_checkpoint_of_threads_goes_on(place: str) -> None:
    lines = hashes.differences_after(keep.HALF, keep.went_on_threads(place), KEPT)
    assert not lines, "\n".join(lines)


def test_a_run_folder_goes_on(tmp_path: Path) -> None:
    folder = shutil.copytree(keep.FOLDER / "run", tmp_path / "run")
    assert keep.digest(small.resumed(folder)) == keep.PARAMETERS
    assert keep.digest(small.trained(tmp_path / "whole", **keep.RUN)) == keep.PARAMETERS


def test_the_fixtures_are_small() -> None:
    assert sum(path.stat().st_size for path in keep.FOLDER.rglob("*") if path.is_file()) < 200_000
