"""Checkpoints and run folders of an earlier version are read, and what they began ends as if nothing had happened."""

import shutil
from pathlib import Path

import pytest

from gradvote.engines.launch import spawn
from tests.golden import hashes, keep
from tests.golden.cases import KEPT
from tests.golden.observe import merged
from tests.train import small

MEANS = ("parameters", "ballots", "decisions", "unsent", "momentum", "server's unsent")
PARAMETERS = "fb169463168addaa127f50e920114ebb716987bfa8207e6016033781c81facd4"
"""SHA-256 of the parameters of the run in `fixtures/run`, at its end."""


def check(found: dict[str, list[str]]) -> None:
    """The steps after the checkpoint are those of the run that was never interrupted."""
    expected = hashes.read()[KEPT][""]
    for what in MEANS:
        assert found[what] == expected[what][keep.HALF :], what


@pytest.mark.parametrize("place", keep.THREADS)
def test_a_checkpoint_of_threads_goes_on(place: str) -> None:
    check(keep.went_on_threads(place))


def test_checkpoints_and_a_run_folder_of_ranks_go_on(tmp_path: Path) -> None:
    folder = shutil.copytree(keep.FOLDER / "run-ddp", tmp_path / "run-ddp")
    ranks = spawn(keep.went_on_ranks, keep.NUM, str(folder))
    for place in keep.PLACES:
        check(merged([found[place] for found, _ in ranks]))
    assert [parameters for _, parameters in ranks] == [PARAMETERS] * keep.NUM


def test_a_run_folder_goes_on(tmp_path: Path) -> None:
    folder = shutil.copytree(keep.FOLDER / "run", tmp_path / "run")
    assert keep.digest(small.resumed(folder)) == PARAMETERS
    assert keep.digest(small.trained(tmp_path / "whole", **keep.RUN)) == PARAMETERS


def test_the_fixtures_are_small() -> None:
    assert sum(path.stat().st_size for path in keep.FOLDER.rglob("*") if path.is_file()) < 200_000
