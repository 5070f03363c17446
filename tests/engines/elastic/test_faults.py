"""Real processes, real signals, real sockets."""

from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM

import pytest

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.catch_up.teaching import FRESH
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.net.connections import Arrived
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.peers import ready
from gradvote.engines.elastic.stores.opening import storage_on
from gradvote.engines.elastic.voting import VotingRound
from tests.engines.elastic.played import member, sent
from tests.engines.elastic.processes import Processes, processes
from tests.engines.elastic.simulated import simulated

PLACEMENTS = ("replicated", "sharded")


SLOWLY = ("replicated", pytest.param("sharded", marks=pytest.mark.slow))


@pytest.fixture(params=PLACEMENTS)
def placement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def notes(run: Processes, worker: int) -> str:
    return "\n".join(run.lines(worker, "notes")[0])


@pytest.mark.parametrize("algorithm", ["dist-ef-sgdm", "dropsignsgd", "signum"])
def test_a_healthy_group_equals_the_simulation(tmp_path: Path, placement: str, algorithm: str) -> None:
    with processes(tmp_path, 3, 2, 20, algorithm=algorithm, pace=0, deadline=15.0, placement=placement) as run:
        run.finish()
        known = run.check_alike()
        assert known[20] == simulated(20, 3, algorithm) and len(known) == 20
        for worker in range(3):
            assert run.lines(worker, "steps") == [20] and run.lines(worker, "slow") == [0]
            assert all(s["counted"] == 20 for s in run.lines(worker, "stats")[0].values())


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_costs_no_step_and_comes_back(tmp_path: Path, placement: str, victim: int) -> None:
    with processes(tmp_path, 3, 2, 80, deadline=15.0, timeout=30.0, placement=placement) as run:
        other = 2
        run.until(lambda: run.at(other) >= 10)
        run.signal(victim, SIGKILL)
        before = run.at(other)
        run.until(lambda: run.at(other) >= before + 10)
        run.start(victim)
        run.finish()
        assert len(run.check_alike()) == 80
        assert run.lines(victim, "joined")[0] >= before
        assert run.lines(other, "steps") == [80] and run.lines(other, "retried") == [0]
        assert f"worker {victim} was left out: its connection was closed, seen by" in notes(run, other)
        assert f"worker {victim} joined" in notes(run, other)
        assert max(run.gaps(other)) < 10.0  # a closed connection is not waited for


def test_a_stopped_worker_is_left_out_and_catches_up(tmp_path: Path, placement: str) -> None:
    with processes(tmp_path, 3, 2, 80, deadline=0.5, grace=0.1, placement=placement) as run:
        run.until(lambda: run.at(0) >= 10)
        run.signal(1, SIGSTOP)
        run.until(lambda: run.at(0) >= 50)
        run.signal(1, SIGCONT)
        run.finish()
        assert len(run.check_alike()) == 80
        assert run.lines(0, "retried") == [0] and "worker 1 joined" in notes(run, 0)
        assert run.at(1) == 80


@pytest.mark.parametrize("placement", SLOWLY)
def test_a_worker_that_is_asked_to_stop_leaves_between_steps(tmp_path: Path, placement: str) -> None:
    with processes(tmp_path, 3, 2, 40, placement=placement) as run:
        run.until(lambda: run.at(0) >= 10)
        run.signal(0, SIGTERM)
        run.finish()
        assert 10 <= run.at(0) < 40 and run.at(1) == run.at(2) == 40
        assert "worker 0 has left" in notes(run, 1)
        run.check_alike()


@pytest.mark.parametrize("placement", SLOWLY)
def test_fresh_workers_join_and_take_the_state(tmp_path: Path, placement: str) -> None:
    with processes(tmp_path, 2, 2, 80, model_seed=0, placement=placement) as run:
        run.until(lambda: run.at(0) >= 10)
        for new in (2, 3, 4):
            run.start(new, model_seed=7)
        run.finish()
        assert len(run.check_alike()) == 80
        assert {run.at(worker) for worker in range(5)} == {80}
        assert len(run.lines(0, "stats")[0]) == 5


def test_below_min_workers_the_run_waits(tmp_path: Path, placement: str) -> None:
    with processes(tmp_path, 2, 2, 40, placement=placement) as run:
        run.until(lambda: run.at(0) >= 10)
        run.signal(1, SIGKILL)
        run.start(1)
        run.finish()
        assert len(run.check_alike()) == 40
        assert run.lines(0, "retried") == [1]


@pytest.mark.slow
def test_all_but_one_are_killed_and_come_back(tmp_path: Path, placement: str) -> None:
    """Where one makes a step. In `sharded` a shard's memory, or the step they die in, goes with both who held it."""
    with processes(tmp_path, 3, 1, 10**6, deadline=2.0, timeout=30.0, placement=placement) as run:
        for alone in (0, 2, 1):
            run.until(lambda: min(run.at(worker) for worker in range(3)) >= 10)
            others = {0, 1, 2} - {alone}
            for other in others:
                run.processes[other].kill()
            seen = run.at(alone)
            run.until(lambda: run.at(alone) >= seen + 5, f"steps of {alone} alone")  # noqa: B023  # called here
            for other in others:
                run.processes[other].join()
                run.start(other)
            seen = run.at(alone)
            run.until(lambda: min(run.at(worker) for worker in range(3)) >= seen + 5)  # noqa: B023  # called here
            run.check_alike()


def test_one_worker_alone_hears_who_wants_to_learn() -> None:
    with member(1, sharded=False) as own:
        own.node.quorum = 1
        own.enter(1, Slot(), [Member(1, 0)], {})
        own.node.peers._inbox.put(Arrived(own.node.mesh.connections[2], Frame(FrameKind.PULL, 2, Slot(), FRESH)))
        own.node.peers._inbox.put(Arrived(own.node.mesh.connections[3], ready(3, Slot(), [1, 2])))
        record = VotingRound(own, own.server.replica.vote(own.node.slot)).run()
        assert record is not None and [m.ticket for m in record.members] == [1, 3]
        assert len(sent(own, 2, FrameKind.SNAPSHOT)) == 1


def test_all_killed_and_started_again(tmp_path: Path, placement: str) -> None:
    with processes(tmp_path, 3, 2, 80, checkpoints=True, deadline=15.0, timeout=30.0, placement=placement) as run:
        run.until(lambda: min(run.at(worker) for worker in range(3)) >= 12)
        run.kill_all()
        for worker in range(3):
            run.start(worker)
        run.finish()
        assert run.check_alike()[80] == simulated(80, 3)


def test_a_process_killed_before_it_said_where_it_is_does_not_hold_up_the_others(tmp_path: Path) -> None:
    with processes(tmp_path, 2, 2, 80, checkpoints=True, deadline=15.0, timeout=30.0) as run:
        run.until(lambda: min(run.at(worker) for worker in range(2)) >= 12)
        run.kill_all()
        Register(storage_on(run.store)).ticket()
        for worker in range(2):
            run.start(worker)
        run.finish()
        assert run.check_alike()[80] == simulated(80, 2)


def test_who_comes_after_the_end_is_told_so(tmp_path: Path) -> None:
    with processes(tmp_path, 2, 1, 5) as run:
        run.finish()
        run.start(2)
        run.until(lambda: bool(run.lines(2, "error")))
        assert run.lines(2, "error")[0].startswith("RunEnded: The run ended with step 5")


LIES = [
    ("altered", "corrupted", "checksum does not fit"),
    ("short", "malformed", "bytes instead of"),
    ("long", "malformed", "bytes instead of"),
    ("huge", "corrupted", "announces 4194304 bytes"),
    ("garbage", "corrupted", "what came by TLS was altered"),
    ("future", "stale", "far ahead"),
    ("replay", "replayed", "has counted already"),
]


SHARDED_LIES = [
    ("altered", "corrupted", "checksum does not fit"),
    ("long", "malformed", "has another part for shard 0 than it announces"),
    ("garbage", "corrupted", "what came by TLS was altered"),
]
ALL_LIES = [("replicated", *lie) for lie in LIES] + [("sharded", *lie) for lie in SHARDED_LIES]


@pytest.mark.parametrize(("where", "how", "counter", "text"), ALL_LIES, ids=[f"{a}-{b}" for a, b, *_ in ALL_LIES])
def test_what_no_honest_worker_sends_is_counted_and_named(
    tmp_path: Path, where: str, how: str, counter: str, text: str
) -> None:
    with processes(tmp_path, 0, 2, 20, deadline=0.5, grace=0.1, workers=3, placement=where) as run:
        for worker in range(3):
            run.start(worker, **({"lie": how, "lies": [8, 12]} if worker == 1 else {}))
        run.finish()
        assert len(run.check_alike()) == 20
        for honest in (0, 2):
            standing = run.lines(honest, "stats")[0]["1"]
            assert standing[counter] >= 1 and "worker 1" in notes(run, honest) and text in notes(run, honest)
            assert run.lines(honest, "stats")[0]["0"][counter] == 0


def test_different_ballots_stop_everyone_before_anything_is_applied(tmp_path: Path, placement: str) -> None:
    with processes(tmp_path, 0, 2, 20, workers=3, placement=placement) as run:
        for worker in range(3):
            run.start(worker, **({"lie": "two-faced", "lies": [8]} if worker == 1 else {}))
        run.until(lambda: all(run.lines(worker, "error") for worker in range(3)))
        assert max(run.check_alike()) == 8
        for worker in range(3):
            assert "hold different ballots of worker 1" in run.lines(worker, "error")[0]


def test_another_recipe_is_refused(tmp_path: Path) -> None:
    with processes(tmp_path, 2, 2, 40) as run:
        run.until(lambda: run.at(0) >= 1)
        run.start(2, seed=1)
        run.until(lambda: bool(run.lines(2, "error")))
        assert "trains with other settings than this one: seed 1 (worker" in run.lines(2, "error")[0]
        run.finish(0, 1)
