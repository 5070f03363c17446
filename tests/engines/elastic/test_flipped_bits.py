"""A bit that turns in one worker's memory: named, and healed from most; the run stops where there is no majority."""

from pathlib import Path

import pytest

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.bootstrap import _founders
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.presence import Presence
from tests.engines.elastic.processes import Processes, processes
from tests.engines.elastic.test_bootstrap import ME, one_with_a_peer

STEPS = 30
NOTE = (
    "worker 1 takes over the state of the others: it holds other parameters than most, seen by 0 and 2, in "
    "'0.weight' to '2.bias'"
)


def found(run: Processes, worker: int) -> list[str]:
    """What a worker has noted of parameters that differ."""
    return [text for text in run.lines(worker, "notes")[0] if "other parameters" in text]


@pytest.mark.parametrize("placement", ["replicated", "sharded"])
def test_a_turned_bit_is_named_and_healed(tmp_path: Path, placement: str) -> None:
    """Of a weight, and of a momentum, which the parameters show a step later; that of an own memory is an own vote."""
    flips = {5: "weight", 12: "momentum", 20: "own memory", STEPS - 1: "weight"}
    with processes(tmp_path, 0, 2, STEPS, workers=3, deadline=15.0, timeout=30.0, placement=placement) as run:
        for worker in range(3):
            run.start(worker, **({"flips": flips} if worker == 1 else {}))
        run.finish()
        histories = run.histories()
        apart = [step for step in range(1, STEPS + 1) if len({known[step] for known in histories}) > 1]
        assert apart == [13], "healed before the step after the one that shows it"
        for worker in range(3):
            assert found(run, worker) == [NOTE] * 3
            counts = run.lines(worker, "stats")[0]
            assert {number: own["differed"] for number, own in counts.items()} == {"0": 0, "1": 3, "2": 0}
            assert run.lines(worker, "steps") == [STEPS] and run.lines(worker, "retried") == [0]
            assert all(own["excluded"] == 0 for own in counts.values()), "its vote is not lost either"


def test_a_turned_bit_of_the_servers_memory_is_healed(tmp_path: Path) -> None:
    """`replicated`: one worker works out another decision; nobody else sees it but by the parameters."""
    with processes(tmp_path, 0, 3, 20, workers=3, deadline=15.0, timeout=30.0) as run:
        for worker in range(3):
            run.start(worker, **({"flips": {8: "server's memory"}} if worker == 0 else {}))
        run.finish()
        assert len({known[20] for known in run.histories()}) == 1
        assert all("worker 0 takes over" in found(run, worker)[0] for worker in range(3))


@pytest.mark.parametrize(("workers", "odd"), [(2, [1]), (4, [0, 3])])
def test_without_a_majority_all_stop(tmp_path: Path, workers: int, odd: list[int]) -> None:
    """One of two; two of four, whose bits are the same one."""
    with processes(tmp_path, 0, 2, STEPS, workers=workers, deadline=15.0, timeout=30.0) as run:
        for worker in range(workers):
            run.start(worker, **({"flips": {5: "weight"}} if worker in odd else {}))
        run.until(lambda: all(run.lines(worker, "error") for worker in range(workers)))
        sides = "worker 0 and worker 1" if workers == 2 else "worker 0, 3 and worker 1, 2"
        for worker in range(workers):
            error = run.lines(worker, "error")[0]
            assert f"ParametersDiffer: At step 5 the parameters differ between {sides}, in" in error
            assert run.at(worker) == 5


def test_a_run_begins_with_the_state_of_most() -> None:
    """A bit turned in the checkpoint of the process with the first ticket."""
    with one_with_a_peer() as (own, connection):
        node, third = own.node, Member(3, 2)
        for member, state in ((ME, "turned"), (connection.peer, "state"), (third, "state")):
            node.register.publish(Presence(member.ticket, member.number, "127.0.0.1", 1, 7, state))
        node.mesh.connections[third.ticket] = connection
        record = _founders(node, 0)
        assert record.slot == Slot(7) and record.members == (connection.peer, third)
