"""A register that hangs, ends and is started again, under real workers."""

import time
from pathlib import Path
from signal import SIGKILL, SIGTERM

from gradvote.engines.elastic.stores.server import serve
from tests.engines.elastic.processes import keys_in, processes

ALL = (0, 1, 2)


def test_healthy_steps_need_no_register_and_others_wait_for_it(tmp_path: Path) -> None:
    """It hangs, one worker dies meanwhile; it ends, another one comes back meanwhile; it goes on where it was."""
    keys = keys_in(tmp_path, 3)
    server = serve("127.0.0.1", journal=tmp_path / "journal", keys=keys)
    with processes(tmp_path, 3, 2, 10**6, store=server, deadline=15.0, timeout=40.0) as run:
        run.until(lambda: run.at(0) >= 5)
        with server.table._lock:  # every question hangs
            seen = run.at(0)
            run.until(lambda: run.at(0) >= seen + 5)
            run.signal(2, SIGKILL)
            time.sleep(1.5)
            seen = run.at(0)
            time.sleep(0.5)
            assert run.at(0) == seen and run.processes[0].is_alive()
        run.until(lambda: run.at(0) >= seen + 5)
        server.close()
        seen = run.at(0)
        run.until(lambda: run.at(0) >= seen + 5)
        run.start(2)
        time.sleep(0.5)
        server = serve("127.0.0.1", journal=tmp_path / "journal", keys=keys)
        run.until(lambda: run.at(2) >= seen + 5)
        for worker in ALL:
            run.signal(worker, SIGTERM)
        run.finish()
        run.check_alike()
        assert all(run.lines(worker, "retried") == [0] for worker in (0, 1))
    server.close()


def test_a_register_that_stays_away_ends_in_time_who_needs_it(tmp_path: Path) -> None:
    server = serve("127.0.0.1", keys=keys_in(tmp_path, 2))
    with processes(tmp_path, 2, 1, 10**6, store=server, deadline=1.0, grace=0.1, timeout=4.0) as run:
        run.until(lambda: run.at(0) >= 5)
        with server.table._lock:
            run.signal(1, SIGKILL)
            began = time.monotonic()
            run.until(lambda: bool(run.lines(0, "error")))
            assert run.lines(0, "error")[0].startswith("RegisterLost") and time.monotonic() - began < 10.0
            assert "Start it again with its --journal" in run.lines(0, "error")[0]
    server.close()
