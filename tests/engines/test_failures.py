from pathlib import Path

import pytest
import torch

from gradvote.errors import WorkerFailed
from tests.engines import failing_workers
from tests.forked import spawn


def test_ranks_that_disagree_are_told_so_and_go_on() -> None:
    for errors in spawn(failing_workers.refusals, 3):
        assert "Rank 1, 2 was given something else than rank 0: seed 1 (on rank 0: 0)" in errors["seeds"]
        assert "Did you mean 'sharded'?" in errors["placement"]
        assert errors["group"].startswith("TypeError: group= takes a process group") and "'gloo'" in errors["group"]
        assert "got [0, 1]" in errors["group of DDP"]
        assert errors["steps"].startswith("WireError: Rank ")
        assert "must exchange equally often" in errors["steps"]
        assert "from rank 1: it sent different ones" in errors["lies"]


@pytest.mark.parametrize(
    ("job", "how"),
    [pytest.param(failing_workers.dying, "raises", marks=pytest.mark.slow), (failing_workers.dying_ddp, "dies")],
)
def test_a_lost_rank_ends_the_others_with_its_name(tmp_path: Path, job: object, how: str) -> None:
    with pytest.raises(WorkerFailed, match="Rank 1 failed") as failure:
        spawn(job, 3, str(tmp_path), how)  # type: ignore[arg-type]
    assert ("the data of rank 1 are broken" if how == "raises" else "exit code 3") in str(failure.value)
    for rank in (0, 2):
        seconds, text = (tmp_path / str(rank)).read_text().split(" ", 1)
        assert "ExchangeError" in text and "rank 1 did not answer" in text and "last checkpoint" in text
        assert float(seconds) < 20


def test_loss_scaling_keeps_true_units_and_only_a_majority_skips() -> None:
    ranks = spawn(failing_workers.scaling, 3)
    for results in ranks:
        for case in ("none", "minority", "majority"):
            assert torch.equal(results[case][0], ranks[0][case][0])
        assert torch.equal(results["none"][0], results["unscaled"])
        assert results["none"][1:] == (1024.0, 4)
        assert results["minority"][1:] == (1024.0, 4)
        assert results["majority"][1:] == (512.0, 3)
