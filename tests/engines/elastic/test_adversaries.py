"""Workers that lie alike to everyone, up to a minority of them; gradients that are no numbers; clocks that jump."""

from pathlib import Path

import pytest

from gradvote import faults
from gradvote.faults import Faulty
from tests.engines.elastic.processes import processes
from tests.engines.elastic.simulated import simulated

STEPS = 40


@pytest.mark.parametrize(
    ("fault", "num", "workers"), [("invert", 1, 3), ("invert", 2, 5), ("random", 2, 5), ("blind", 2, 5)]
)
def test_a_lying_minority_is_outvoted(tmp_path: Path, fault: str, num: int, workers: int) -> None:
    """Bit by bit as in the simulation, where the loss falls."""
    quorum = workers // 2 + 1
    options = {"algorithm": "signum", "faults": [fault, num], "books": False, "deadline": 15.0, "timeout": 30.0}
    with processes(tmp_path, workers, quorum, STEPS, pace=0, held_out=True, **options) as run:
        run.finish()
        known = run.check_alike()
        losses = run.lines(0, "loss")
        assert len(known) == STEPS and losses[-1] < 0.9 * losses[0]
        assert known[STEPS] == simulated(STEPS, workers, "signum", (Faulty(faults.create(fault), num=num),))


def test_a_worker_with_nan_abstains(tmp_path: Path) -> None:
    with processes(tmp_path, 0, 2, 20, workers=3, held_out=True) as run:
        for worker in range(3):
            run.start(worker, nan=worker == 2)
        run.finish()
        losses = run.lines(0, "loss")
        assert len(run.check_alike()) == 20 and losses[-1] < losses[0]


@pytest.mark.parametrize("hours", [30.0, -30.0])
def test_jumps_of_the_clock_do_nothing(tmp_path: Path, hours: float) -> None:
    """A wall clock that jumps in one worker before every vote, in a run whose deadlines are far away."""
    with processes(tmp_path, 0, 2, 20, workers=3, deadline=15.0, timeout=30.0) as run:
        for worker in range(3):
            run.start(worker, **({"clock": hours} if worker == 1 else {}))
        run.finish()
        assert run.check_alike()[20] == simulated(20, 3)
        assert all(run.lines(worker, "retried") == [0] for worker in range(3))
        assert run.lines(1, "clock")[0] >= 20, "the worker never read its clock after a jump"
