"""Replicas that die, fail, lie and come back, under a real lighthouse."""

import time
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

import pytest

pytest.importorskip("torchft", reason="needs the extra gradvote[torchft]")

from gradvote.engines.torchft.greetings import GREETING_BYTES
from gradvote.engines.torchft.verdicts import verdict_bytes
from gradvote.wire import HEADER_BYTES
from tests.engines.elastic.simulated import simulated
from tests.engines.elastic.worker import new_model
from tests.engines.torchft.processes import Replicas, replicas
from tests.engines.torchft.worker import ROUNDS

ALGORITHMS = ("dist-ef-sgdm", "dropsignsgd", "noisy-signsgd", "mediansgd")


def ballot_bytes() -> int:
    """Of the first algorithm: one rate, and for each of four tensors a scale and its signs in words; four flags."""
    words = sum(-(-p.numel() // 64) for p in new_model().parameters())
    return 8 + 4 * 4 + 8 * words + 1


def test_a_healthy_group_equals_the_simulation(tmp_path: Path) -> None:
    with replicas(tmp_path, 3, 3, 8, ALGORITHMS) as run:
        run.finish()
        last = [line for w in range(3) for line in run.lines(w, "step") if line["step"] == 8]
        assert len(last) == 3 * len(ALGORITHMS)
        for name in ALGORITHMS:
            assert {line["digest"] for line in last if line["algorithm"] == name} == {simulated(8, 3, name)}, name
        assert run.lines(0, "refused") == [0] * len(ALGORITHMS)
        step = 2 * (GREETING_BYTES + HEADER_BYTES + ballot_bytes() + verdict_bytes(3))  # to two others, and from them
        assert run.lines(1, "sent")[0] == run.lines(1, "received")[0] == 8 * step


@pytest.mark.parametrize("async_quorum", [True, False])
def test_a_killed_worker_comes_back_and_heals(tmp_path: Path, async_quorum: bool) -> None:
    with replicas(tmp_path, 3, 2, 60, async_quorum=async_quorum) as run:
        run.until(lambda: run.at(0) >= 10)
        run.signal(1, SIGKILL)
        run.until(lambda: run.at(0) >= 20)
        run.start(1)
        run.finish()
        assert len(run.check_alike()) == 60
        assert run.lines(1, "healed") == [1] and run.lines(0, "healed") == [0]
        assert run.lines(0, "refused")[0] <= 1
        silent = run.lines(0, "stats")[0]["1"]["abstained"]
        assert silent == (1 if async_quorum else 0)  # torchft heals while that step is computed, or before


@pytest.mark.parametrize("where", ROUNDS)
def test_a_death_in_the_middle_of_a_step_leaves_all_as_it_was(tmp_path: Path, where: str) -> None:
    with replicas(tmp_path, 3, 2, 12, each={1: {"die": [5, where]}}) as run:
        run.until(lambda: not run.processes[1].is_alive())
        run.finish(0, 2)
        assert len(run.check_alike()) == 12
        for worker in (0, 2):
            assert run.lines(worker, "at_step") == [5] and run.lines(worker, "unchanged") == [True]


def test_who_did_not_hear_that_a_step_was_taken_learns_it(tmp_path: Path) -> None:
    """Worker 0 refuses a step that the others take: it heals from them, and its ballot has counted."""
    with replicas(tmp_path, 3, 2, 12, each={0: {"deaf": [5, "verdicts"]}}) as run:
        run.finish()
        known = run.check_alike()
        assert len(known) == 12 and known[6] == simulated(6, 3)
        assert run.lines(0, "at_step") == [5] and run.lines(1, "at_step") == []
        assert run.lines(0, "healed") == [1]


def test_a_stopped_worker_is_left_out_and_heals(tmp_path: Path) -> None:
    with replicas(tmp_path, 3, 2, 60, limit=1.0) as run:
        run.until(lambda: run.at(0) >= 10)
        run.signal(1, SIGSTOP)
        run.until(lambda: run.at(0) >= 25)
        run.signal(1, SIGCONT)
        run.finish()
        assert len(run.check_alike()) == 60
        assert run.lines(1, "healed")[0] >= 1


def test_a_worker_with_nan_abstains(tmp_path: Path) -> None:
    with replicas(tmp_path, 3, 3, 8, each={2: {"nan": True}}) as run:
        run.finish()
        run.check_alike()
        stats = run.lines(0, "stats")[0]
        assert stats["2"] == {"counted": 8, "abstained": 0, "malformed": 0, "blocks": 8 * 4}
        assert stats["1"]["blocks"] == 0


def test_first_models_are_made_alike_by_torchft(tmp_path: Path) -> None:
    with replicas(tmp_path, 3, 3, 8, each={w: {"model_seed": w} for w in range(3)}, init_sync=True) as run:
        run.finish()
        assert len(run.check_alike()) == 8
        assert sorted(run.lines(w, "healed")[0] for w in range(3)) == [0, 1, 1]


@pytest.mark.parametrize(
    ("other", "kind", "text"),
    [
        ({"model_seed": 7}, "Diverged", "Worker 2 has applied other ballots"),
        ({"seed": 7}, "ValueError", "Worker 2 was attached with another"),
    ],
)
def test_who_is_not_like_the_others_is_named_and_ends(
    tmp_path: Path, other: dict[str, int], kind: str, text: str
) -> None:
    with replicas(tmp_path, 3, 2, 6, each={2: other}) as run:
        run.finish(0, 1)
        run.until(lambda: bool(run.lines(2, "error")))
        assert run.lines(2, "error")[0].startswith(f"{kind}: {text}")
        assert all(run.lines(w, "notes")[0][0].startswith(f"not taken: {text}") for w in (0, 1))
        assert len(run.check_alike()) == 6


def test_a_failure_of_one_is_told_to_all_before_it_is_raised(tmp_path: Path) -> None:
    with replicas(tmp_path, 3, 2, 8, each={1: {"fails": 5}}) as run:
        run.finish(0, 2)
        assert run.lines(1, "error") == ["MemoryError: no room"]
        for worker in (0, 2):
            assert run.lines(worker, "notes") == [["not taken: Worker 1 failed before it voted."]]
            assert run.lines(worker, "unchanged") == [True]
        assert len(run.check_alike()) == 8


def test_an_error_that_the_script_reports_spoils_the_step_for_all(tmp_path: Path) -> None:
    with replicas(tmp_path, 3, 3, 8, each={1: {"reports": 5}}) as run:
        run.finish()
        assert len(run.check_alike()) == 8
        for worker in range(3):
            assert run.lines(worker, "at_step") == [5] and run.lines(worker, "unchanged") == [True]
        assert run.check_alike()[8] == simulated(8, 3)  # no attempt was spent: no ballot had been sent


def test_different_ballots_stop_everyone_before_anything_is_applied(tmp_path: Path) -> None:
    with replicas(tmp_path, 3, 2, 12, each={1: {"two_faced": 5}}) as run:
        for worker in range(3):
            run.until(lambda worker=worker: bool(run.lines(worker, "error")))  # type: ignore[misc]
            text = run.lines(worker, "error")[0]
            assert text.startswith("Equivocation: Workers ") and "different ballots of worker 1" in text
            assert run.at(worker) == 5
        run.check_alike()


def test_a_ballot_that_is_altered_for_all_is_an_abstention(tmp_path: Path) -> None:
    with replicas(tmp_path, 3, 3, 12, each={1: {"garbled": 5}}) as run:
        run.finish()
        assert len(run.check_alike()) == 12
        own = run.lines(0, "stats")[0]["1"]
        assert (own["counted"], own["abstained"], own["malformed"]) == (11, 1, 1)


def test_all_start_again_from_their_checkpoints(tmp_path: Path) -> None:
    with replicas(tmp_path, 3, 3, 16, until=8) as run:
        run.finish()
        again(run)
        run.finish()
        assert run.check_alike()[16] == simulated(16, 3)


def test_a_checkpoint_without_that_of_the_manager_is_refused(tmp_path: Path) -> None:
    with replicas(tmp_path, 2, 2, 16, until=4) as run:
        run.finish()
        again(run, leave_out=["manager"])
        run.until(lambda: all(run.lines(worker, "error") for worker in range(2)))
        assert "checkpoint is of step 4, but the manager is at step 0" in run.lines(0, "error")[0]


def again(run: Replicas, **options: list[str]) -> None:
    time.sleep(0.7)  # until the lighthouse has forgotten the former processes
    for worker in run.processes:
        run.start(worker, resume=True, until=run.steps, **options)
