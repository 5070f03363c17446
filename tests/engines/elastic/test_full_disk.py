"""A disk that is full while a checkpoint is written: the old checkpoint stays, and who is told so reads why."""

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gradvote.lab.train import checkpoint
from tests.engines.elastic.processes import processes
from tests.engines.elastic.simulated import simulated

STATE = {key: 0 for key in checkpoint.KEYS if key != "format"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], check=False, capture_output=True
        ).returncode
    )
    if not made:
        pytest.skip("needs root: it mounts a small file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def check_the_old_one_stays(path: Path, why: int) -> None:
    checkpoint.save(STATE | {"step": 1, "models": [torch.zeros(10_000)]}, path)
    with pytest.raises(OSError, match=r"could not be written: .*The one before it is intact; make room") as caught:
        checkpoint.save(STATE | {"step": 2, "models": [torch.zeros(1_000_000)]}, path)
    assert caught.value.errno == why and caught.value.filename == str(path)
    assert checkpoint.load(path)["step"] == 1 and [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_full_disk_leaves_the_old_checkpoint(small_disk: Path) -> None:
    check_the_old_one_stays(small_disk / "checkpoint.pt", errno.ENOSPC)


def test_a_limit_on_files_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        check_the_old_one_stays(tmp_path / "checkpoint.pt", errno.EFBIG)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_run_whose_disk_was_full_goes_on_from_what_it_has(tmp_path: Path, small_disk: Path) -> None:
    """All workers die of the full disk; with room again they go on from their last checkpoints, as if undisturbed."""
    with processes(tmp_path, 0, 2, 40, workers=2, checkpoints=True, checkpoint_folder=str(small_disk)) as run:
        for worker in range(2):
            run.start(worker)
        run.until(lambda: min(run.at(worker) for worker in range(2)) >= 12)
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            while not _is_full(file.fileno()):
                pass
        run.until(lambda: any(run.lines(worker, "error") for worker in range(2)))
        errors = [text for worker in range(2) for text in run.lines(worker, "error")]
        assert any("No space left on device" in text for text in errors)
        for process in run.processes.values():
            process.kill()
            process.join()
        ballast.unlink()
        for worker in range(2):
            run.start(worker)
        run.finish()
        assert run.check_alike()[40] == simulated(40, 2)


def _is_full(descriptor: int) -> bool:
    try:
        return os.write(descriptor, bytes(4096)) == 0
    except OSError as error:
        assert error.errno == errno.ENOSPC
        return True
