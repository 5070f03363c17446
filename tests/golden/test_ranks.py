"""Exchange and DDP, whose ranks are processes: one world does all that is asked of them, as each costs seconds."""

import shutil
from pathlib import Path

from tests.forked import spawn
from tests.golden import engines, hashes, keep
from tests.golden.cases import KEPT, WORKERS
from tests.golden.observe import merged


def everything(folder: str) -> tuple[object, ...]:
    """On each rank."""
    return engines.on_ranks(), *keep.went_on_ranks(folder)


def test_every_algorithm_and_every_checkpoint(tmp_path: Path) -> None:
    folder = shutil.copytree(keep.FOLDER / "run-ddp", tmp_path / "run-ddp")
    fresh, went_on, parameters = zip(*spawn(everything, WORKERS, str(folder)), strict=True)
    lines = hashes.differences(engines.by_place(fresh), hashes.read())
    for place in keep.PLACES:
        lines += hashes.differences_after(keep.HALF, merged([found[place] for found in went_on]), KEPT)
    assert not lines, "\n".join(lines)
    assert set(parameters) == {keep.PARAMETERS}, "the run folder of DDP went on to other parameters"
