"""Placement `sharded`: real processes whose servers are shards, each with a buddy."""

from pathlib import Path
from signal import SIGKILL

import pytest

from tests.engines.elastic.processes import Processes, processes
from tests.engines.elastic.simulated import simulated

LOST = "was lost with both workers that held it"


def notes(run: Processes, worker: int) -> str:
    return "\n".join(run.lines(worker, "notes")[0])


@pytest.mark.parametrize(("num", "algorithm"), [(1, "dist-ef-sgdm"), (2, "dropsignsgd"), (5, "dist-ef-sgdm")])
def test_a_healthy_group_equals_the_simulation(tmp_path: Path, num: int, algorithm: str) -> None:
    with processes(tmp_path, num, num, 10, algorithm=algorithm, pace=0, deadline=15.0, placement="sharded") as run:
        run.finish()
        assert run.check_alike()[10] == simulated(10, num, algorithm)
        assert all(run.lines(worker, "slow") == [0] for worker in range(num))


def test_deaths_one_after_the_other_lose_no_memory(tmp_path: Path) -> None:
    with processes(tmp_path, 4, 1, 100, deadline=15.0, timeout=30.0, placement="sharded", pace=0.02) as run:
        for victim in (1, 3, 0):
            before = run.at(2)
            run.until(lambda before=before: run.at(2) >= before + 8)  # type: ignore[misc]
            run.signal(victim, SIGKILL)
        run.finish(2)
        assert len(run.check_alike()) == 100
        assert LOST not in notes(run, 2) and run.lines(2, "retried") == [0]


def test_a_memory_that_both_holders_take_with_them_is_said_to_be_lost(tmp_path: Path) -> None:
    """Two of three die between two steps, before their ballots of the next one are out: frozen, then killed."""
    with processes(tmp_path, 3, 1, 60, deadline=15.0, timeout=30.0, placement="sharded", pace=0.1) as run:
        run.until(lambda: min(run.at(worker) for worker in range(3)) >= 10)
        for worker in range(3):
            run.until(lambda worker=worker: run.at(worker) == run.at(0))  # type: ignore[misc]
        run.signal(1, SIGKILL)
        run.signal(2, SIGKILL)
        run.until(lambda: not run.processes[0].is_alive())
        known, error = run.check_alike(), run.lines(0, "error")
        if error:  # they died in the middle of a step after all
            assert error[0].startswith("ShardLost: Nobody that is left knows the decision on shard")
        else:
            assert len(known) == 60 and LOST in notes(run, 0) and run.lines(0, "retried") == [1]


def test_two_of_three_come_back_from_their_checkpoints_with_all_memories(tmp_path: Path) -> None:
    options = {"checkpoints": True, "deadline": 15.0, "timeout": 30.0, "gather": 0.5, "placement": "sharded"}
    with processes(tmp_path, 3, 2, 60, **options) as run:
        run.until(lambda: min(run.at(worker) for worker in range(3)) >= 12)
        run.kill_all()
        for worker in (0, 2):
            run.start(worker)
        run.finish(0, 2)
        first, second = ({line["step"]: line["digest"] for line in run.lines(worker, "step")} for worker in (0, 2))
        assert first == second and max(first) == 60 and min(first) > 10
        assert LOST not in notes(run, 0) + notes(run, 2)


def test_a_server_that_decides_falsely_is_found_before_anything_is_applied(tmp_path: Path) -> None:
    with processes(tmp_path, 0, 2, 20, workers=3, placement="sharded") as run:
        for worker in range(3):
            run.start(worker, **({"lie": "false server", "lies": [8]} if worker == 1 else {}))
        run.until(lambda: all(run.lines(worker, "error") for worker in (0, 2)))
        run.check_alike()
        for worker in (0, 2):
            assert run.at(worker) == 8
            error = run.lines(worker, "error")[0]
            assert error.startswith("Equivocation: At step 8") and "said different things of the decision" in error
            assert "worker 1" in error


def test_signed_ballots_convict_a_two_faced_worker(tmp_path: Path) -> None:
    with processes(tmp_path, 0, 2, 30, workers=4, deadline=1.0, placement="sharded", signed=True) as run:
        for worker in range(4):
            run.start(worker, **({"lie": "two-faced", "lies": [8]} if worker == 1 else {}))
        run.finish(0, 2, 3)
        assert len(run.check_alike()) == 30
        for honest in (0, 2, 3):
            assert run.lines(honest, "stats")[0]["1"]["lied"] == 1


def test_who_trains_with_another_placement_is_refused(tmp_path: Path) -> None:
    with processes(tmp_path, 2, 2, 40, placement="sharded") as run:
        run.until(lambda: run.at(0) >= 1)
        run.start(2, placement="replicated")
        run.until(lambda: bool(run.lines(2, "error")))
        assert "trains with other settings than this one: placement " in run.lines(2, "error")[0]
        run.finish(0, 1)


def test_less_is_sent_than_to_everyone(tmp_path: Path) -> None:
    """A shard's part of a ballot goes to two holders, not to four others; decisions of 32 bits go to all."""
    sizes = {}
    for placement in ("replicated", "sharded"):
        folder = tmp_path / placement
        folder.mkdir()
        with processes(folder, 5, 5, 20, algorithm="sgd", pace=0, deadline=15.0, placement=placement) as run:
            run.finish()
            sizes[placement] = sum(run.lines(worker, "sent")[0] for worker in range(5))
    assert sizes["sharded"] < 0.95 * sizes["replicated"]  # half of it is what frames are wrapped in
