"""Asked to stop, a worker waits for nobody who may stay away: real processes, real signals."""

import time
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM

import pytest
import torch
from torch import nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote import algorithms
from gradvote.elastic import TooFewWorkers, attach
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.stores.opening import storage_on
from tests.engines.elastic.processes import Processes, processes

SOON = 6.0
"""Seconds; a step with two seconds' deadline, on a machine that has other work. What was waited for before took 20."""


def ends_soon(run: Processes, worker: int) -> None:
    asked = time.monotonic()
    run.signal(worker, SIGTERM)
    run.finish(worker)
    assert time.monotonic() - asked < SOON


@pytest.mark.parametrize("placement", ["replicated", "sharded"])
def test_who_waits_for_one_that_has_left_ends_too_and_all_go_on_as_one(tmp_path: Path, placement: str) -> None:
    with processes(tmp_path, 2, 2, 5000, placement=placement, checkpoints=True, deadline=1.0) as run:
        run.until(lambda: run.at(1) >= 10)
        run.signal(0, SIGTERM)
        run.finish(0)
        assert run.processes[1].is_alive()  # too few are left, and it has not been asked
        ends_soon(run, 1)
        assert run.at(0) == run.at(1) == len(run.check_alike())
        assert run.lines(1, "steps") == [run.at(1)] and not run.lines(1, "error")


def test_founders_end_while_they_wait_for_each_other(tmp_path: Path) -> None:
    run = Processes(tmp_path, 2, 2, 40)
    try:
        run.start(0)
        run.until(lambda: Register(storage_on(run.store)).place(1) is not None)
        ends_soon(run, 0)
        assert run.lines(0, "joined") == [0] and run.lines(0, "steps") == [0]
    finally:
        run.end()


def test_a_learner_ends_while_nobody_teaches_it(tmp_path: Path) -> None:
    with processes(tmp_path, 3, 2, 5000, deadline=0.5, grace=0.1) as run:
        run.until(lambda: run.at(2) >= 5)
        run.signal(2, SIGSTOP)
        seen = run.at(0)
        run.until(lambda: run.at(0) >= seen + 20)
        for worker in (0, 1):
            run.signal(worker, SIGSTOP)
        run.signal(2, SIGCONT)
        time.sleep(1.0)
        ends_soon(run, 2)


def test_who_has_left_is_told_so_by_the_next_step() -> None:
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    vote = attach(model, optimizer, algorithms.signsgd(), min_workers=2, workers=2, worker=0, store=store)
    vote.stop()
    with vote:
        assert list(vote.steps(10)) == [] and vote.members == ()
        with pytest.raises(TooFewWorkers, match="asked to stop and has left the run at step 0"):
            vote.step()
