"""Cables that are pulled out, slow, lossy, or turn bits round."""

import re
from pathlib import Path
from signal import SIGTERM

import pytest

from tests.engines.elastic.namespaces import Namespaces, namespaces, needs_nft, needs_root, needs_tc
from tests.engines.elastic.processes import Processes, processes
from tests.engines.elastic.relay import Relay
from tests.engines.elastic.simulated import simulated

CALM = {"deadline": 15.0, "gather": 30.0, "timeout": 40.0}


def begin(run: Processes, place: Namespaces) -> None:
    for worker in range(3):
        run.start(worker, **place.options(worker))


@needs_root
def test_a_cable_is_pulled_out_and_put_back(tmp_path: Path) -> None:
    with (
        namespaces(3) as place,
        processes(tmp_path, 0, 2, 100, workers=3, store=place.store(), deadline=0.5, grace=0.1) as run,
    ):
        begin(run, place)
        run.until(lambda: run.at(0) >= 10)
        place.leg(1, "down")
        before = run.at(0)
        run.until(lambda: run.at(0) >= before + 20)
        place.leg(1, "up")
        run.finish()
        assert len(run.check_alike()) == 100 and run.at(1) == 100
        notes = "\n".join(run.lines(0, "notes")[0])
        assert (
            # the first whose deadline passes may settle it before the other one has said so, too
            re.search("worker 1 was left out: no ballot of it came before the deadline, seen by (0 and 2|0|2)\n", notes)
            and "worker 1 joined" in notes
        )
        assert run.lines(0, "steps") == [100] and run.lines(0, "retried") == [0]


@needs_root
def test_a_worker_that_hears_and_is_not_heard(tmp_path: Path) -> None:
    """More cuts, one way and both: `tests/engines/elastic/test_partitions.py`, which takes minutes."""
    with (
        namespaces(3) as place,
        processes(tmp_path, 0, 2, 10**6, workers=3, store=place.store(), deadline=2.0, grace=0.5) as run,
    ):
        begin(run, place)
        run.until(lambda: run.at(0) >= 10)
        place.cut(1, [0, 2])
        before = run.at(0)
        run.until(lambda: min(run.at(0), run.at(2)) >= before + 10, "the others going on")
        place.mend()
        mended = run.at(0)
        run.until(lambda: min(map(run.at, range(3))) >= mended + 5, "all three going on")
        for worker in range(3):
            run.signal(worker, SIGTERM)
        run.finish()
        run.check_alike()


@needs_root
@needs_tc
def test_a_slow_link_is_waited_for(tmp_path: Path) -> None:
    with namespaces(3) as place, processes(tmp_path, 0, 2, 20, workers=3, store=place.store(), **CALM) as run:
        place.slow(1, "256kbit")
        begin(run, place)
        run.finish()
        assert run.check_alike()[20] == simulated(20, 3)


@needs_root
@needs_nft
@pytest.mark.parametrize("percent", [1, 5])
def test_lost_packets_cost_time_only(tmp_path: Path, percent: int) -> None:
    with namespaces(3) as place, processes(tmp_path, 0, 2, 30, workers=3, store=place.store(), **CALM) as run:
        place.lossy(percent)
        begin(run, place)
        run.finish()
        assert run.check_alike()[30] == simulated(30, 3)
        assert place.num_lost() > 0


def test_cut_hung_and_slow_links_and_turned_bits(tmp_path: Path) -> None:
    """Over a relay between the workers' real sockets: no rights needed."""
    relay = Relay(tmp_path, 3)
    with processes(tmp_path, 0, 2, 150, workers=3, deadline=0.5, grace=0.1, timeout=40.0) as run:
        for worker in range(3):
            run.start(worker, relay=relay.ports[worker])
        for step, fault in enumerate(
            (
                lambda: relay.cut(0, 1, 0.5),
                lambda: relay.hang(1, 2, 1.0),
                lambda: relay.slow(0, 2, 1.0, rate=5e3, delay=0.05),
                lambda: relay.alter(0, 1, 3),
                lambda: relay.alter(1, 2, 3),
            )
        ):
            run.until(lambda at=20 * (step + 1): max(run.at(0), run.at(1), run.at(2)) >= at)  # type: ignore[misc]
            fault()
        run.finish()
        assert len(run.check_alike()) == 150 and {run.at(worker) for worker in range(3)} == {150}
        found = [standing["corrupted"] for w in range(3) for standing in run.lines(w, "stats")[0].values()]
        assert 6 <= relay.counts["altered"] <= 12, "three chunks on each leg, of which one carries the connection"
        assert sum(found) >= 1
    relay.close()
