"""Networks that are cut in parts, both ways and one way; who was away for long; who comes with what is old."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGSTOP, SIGTERM
from typing import Any

import pytest

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.agreement import Agreement
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.net.addresses import listening
from gradvote.engines.elastic.round_clock import RoundClock
from gradvote.engines.elastic.stores.opening import storage_on
from gradvote.engines.elastic.stores.server import serve
from gradvote.engines.elastic.timeouts import Timeouts, TooFewWorkers
from tests.engines.elastic.namespaces import HUB, Namespaces, namespaces, needs_root
from tests.engines.elastic.processes import Processes, keys_in, processes

FOREVER, ALL = 10**6, (0, 1, 2, 3)
BRISK = {"deadline": 0.5, "grace": 0.1, "timeout": 60.0}


@contextmanager
def four(folder: Path, **options: Any) -> Iterator[tuple[Processes, Namespaces]]:
    """Four workers, each on a host of its own, two of which make a step; the register is on a fifth host."""
    with namespaces(4) as place:
        server = place.register(keys_in(folder, 4))
        with processes(folder, 0, 2, FOREVER, workers=4, store=server, **BRISK, **options) as run:
            for worker in ALL:
                run.start(worker, **place.options(worker))
            run.until(lambda: run.at(0) >= 5)
            yield run, place
        server.close()


def goes_on(run: Processes, *workers: int, steps: int = 5) -> None:
    seen = max(run.at(worker) for worker in workers)
    run.until(lambda: min(run.at(worker) for worker in workers) >= seen + steps, f"steps of {workers}")


def end(run: Processes, *workers: int) -> None:
    """All stop, and none of them has ever held other parameters than the others after the same step."""
    for worker in workers:
        run.signal(worker, SIGTERM)
    run.finish(*workers)
    run.check_alike()


@needs_root
@pytest.mark.slow
def test_of_two_halves_the_one_that_reaches_the_register_goes_on(tmp_path: Path) -> None:
    """Shards whose holders are all in the other half begin anew; nobody waits for what these said before the cut."""
    with four(tmp_path, placement="sharded") as (run, place):
        place.part({0, 1, HUB}, {2, 3})
        seen = run.at(0)
        goes_on(run, 0, 1, steps=8)
        assert max(run.at(2), run.at(3)) <= seen + 1
        place.mend()
        goes_on(run, *ALL)
        end(run, *ALL)


@needs_root
@pytest.mark.slow
@pytest.mark.parametrize("placement", ["replicated", "sharded"])
def test_parts_and_links_that_carry_one_way_only(tmp_path: Path, placement: str) -> None:
    with four(tmp_path, placement=placement) as (run, place):
        for cut in ("halves", "three parts", "one link, one way", "deaf", "dumb", "register, one way"):
            seen = max(run.at(worker) for worker in ALL)
            if cut == "halves":
                place.part({0, 1}, {2, 3})
            elif cut == "three parts":
                place.part({0, 1, HUB}, {2}, {3})
            elif cut == "one link, one way":
                place.cut(0, [1])
            elif cut == "deaf":
                for sender in (0, 1, 2):
                    place.cut(sender, [3])
            elif cut == "dumb":
                place.cut(3, [0, 1, 2])
            else:
                place.cut(0, [HUB])
            run.until(lambda seen=seen: max(run.at(worker) for worker in ALL) >= seen + 8, cut)  # type: ignore[misc]
            place.mend()
            goes_on(run, *ALL)
        end(run, *ALL)


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["replicated", "sharded"])
def test_a_worker_that_was_stopped_for_longer_than_the_timeout_comes_back(tmp_path: Path, placement: str) -> None:
    """Its number was given to nobody; and then, where it was, the newer process stays."""
    with processes(tmp_path, 4, 2, FOREVER, deadline=0.5, grace=0.1, timeout=3.0, placement=placement) as run:
        run.until(lambda: run.at(0) >= 5)
        run.signal(3, SIGSTOP)
        time.sleep(5.0)
        run.signal(3, SIGCONT)
        goes_on(run, *ALL)
        old = run.processes[3]
        run.signal(3, SIGSTOP)
        run.start(3)
        goes_on(run, *ALL)
        assert old.pid is not None
        old_life = run.lives[3] - 1
        run.processes[3], new = old, run.processes[3]
        run.signal(3, SIGCONT)
        run.processes[3] = new
        run.until(lambda: not old.is_alive(), "the older process")
        assert run.lines(3, "error", old_life)[0].startswith("Replaced")
        end(run, *ALL)


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["replicated", "sharded"])
def test_a_number_that_is_taken_goes_to_the_newest_process(tmp_path: Path, placement: str) -> None:
    """Two processes are worker 2, from the start or later: the older one ends, and the others lose no step."""
    with processes(tmp_path, 0, 2, FOREVER, workers=3, timeout=60.0, placement=placement) as run:
        for worker in (0, 1, 2):
            run.start(worker)
        register = Register(storage_on(run.store))
        run.until(lambda: register.num_tickets() >= 3, "the tickets, which say who is newer")
        for _ in range(2):
            old, life = run.processes[2], run.lives[2]
            run.start(2)
            run.until(lambda old=old: not old.is_alive(), "the older process")  # type: ignore[misc]
            assert run.lines(2, "error", life)[0].startswith("Replaced")
            goes_on(run, 0, 1, 2)
        end(run, 0, 1, 2)


@pytest.mark.slow
def test_a_stale_checkpoint_on_one_machine_is_not_gone_on_from(tmp_path: Path) -> None:
    with processes(tmp_path, 3, 2, FOREVER, checkpoints=True, deadline=15.0, timeout=60.0) as run:
        run.until((tmp_path / "checkpoint.2").exists)
        stale = (tmp_path / "checkpoint.2").read_bytes()
        goes_on(run, 0, 1, 2, steps=20)
        run.kill_all()
        newest = min(run.at(worker) for worker in (0, 1))
        (tmp_path / "checkpoint.2").write_bytes(stale)
        for worker in (0, 1, 2):
            run.start(worker)
        run.until(lambda: min(run.at(worker) for worker in (0, 1, 2)) >= newest)
        assert run.lines(2, "joined")[0] >= newest - 5
        goes_on(run, 0, 1, 2)
        lives = [{line["step"]: line["digest"] for line in run.lines(worker, "step")} for worker in (0, 1, 2)]
        both = lives[0].keys() & lives[2].keys()
        assert both and all(lives[0][step] == lives[2][step] for step in both)


@pytest.mark.slow
def test_a_worker_exactly_at_the_deadline_again_and_again(tmp_path: Path) -> None:
    with processes(tmp_path, 0, 2, FOREVER, workers=4, deadline=0.4, grace=0.05, timeout=60.0) as run:
        for worker in ALL:
            run.start(worker, pace=0.41 if worker == 3 else 0.01)
        run.until(lambda: run.at(0) >= 40)
        goes_on(run, 0, 1, 2)
        end(run, *ALL)


def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"'127.0.0.1:{port}'.*and a port that is free"):
            listening("127.0.0.1", port)
        with pytest.raises(ValueError, match="a port that is free"):
            serve("127.0.0.1", port)


def test_who_was_stopped_has_not_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    agreement = Agreement(1, Slot(), [Member(1, 0), Member(2, 1)], 2)
    now = [100.0]
    monkeypatch.setattr("gradvote.engines.elastic.round_clock.time.monotonic", lambda: now[0])
    clock = RoundClock(Timeouts(timeout=10.0))
    clock.start()
    for now[0] in (200.0, 202.0, 204.0, 206.0, 208.0):  # SIGSTOP, SIGCONT, and on
        clock.look(agreement)
    now[0] = 210.5
    with pytest.raises(TooFewWorkers):
        clock.look(agreement)
