"""Real processes that sign their ballots: who lies to some is named, and the others go on without it."""

from pathlib import Path
from signal import SIGKILL

import pytest

from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.net.certificates import write_certificates
from gradvote.engines.elastic.signing.keys import write
from gradvote.engines.elastic.stores.opening import storage_on
from tests.engines.elastic.processes import Processes, processes
from tests.engines.elastic.simulated import simulated
from tests.engines.elastic.test_faults import notes

SIGNED = {"signed": True, "deadline": 5.0, "grace": 0.3, "timeout": 30.0}


def start_in_order(run: Processes, liar: int, **options: object) -> None:
    """The liar comes last, and has the highest ticket."""
    others = [worker for worker in range(run.options["workers"]) if worker != liar]
    for worker in others:
        run.start(worker)
    run.until(lambda: Register(storage_on(run.store)).num_tickets() == len(others))
    run.start(liar, **options)


def test_a_healthy_signed_group_equals_the_simulation(tmp_path: Path) -> None:
    with processes(tmp_path, 3, 2, 20, pace=0, **{**SIGNED, "deadline": 15.0}) as run:
        run.finish()
        assert run.check_alike()[20] == simulated(20, 3)
        for worker in range(3):
            assert run.lines(worker, "slow") == [0] and run.lines(worker, "notes") == [[]]


def test_a_two_faced_worker_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    with processes(tmp_path, 0, 3, 30, workers=5, held_out=True, **SIGNED) as run:
        start_in_order(run, 1, lie="two-faced", lies=[8])
        run.finish(0, 2, 3, 4)
        known = run.check_alike()
        assert len(known) == 30
        for worker in (0, 2, 3, 4):
            assert run.lines(worker, "stats")[0]["1"]["lied"] == 1 and run.lines(worker, "retried") == [0]
            assert "worker 1 signed two different ballots for step 8; it is left out for good" in notes(run, worker)
            assert all(standing["lied"] == 0 for k, standing in run.lines(worker, "stats")[0].items() if k != "1")
        losses = run.lines(0, "loss")
        assert losses[-1] < losses[0]
        [error] = run.lines(1, "error")
        assert error.startswith("Excluded: worker 1 signed two different ballots for step 8") and run.at(1) <= 9
        run.start(1)
        run.until(lambda: bool(run.lines(1, "error")))
        assert run.lines(1, "error")[0].startswith("Excluded: worker 1 signed"), "the register knows of it"


def test_who_was_left_out_stays_so_when_all_have_died(tmp_path: Path) -> None:
    with processes(tmp_path, 0, 2, 40, workers=4, checkpoints=True, **SIGNED) as run:
        start_in_order(run, 3, lie="two-faced", lies=[8])
        run.until(lambda: min(run.at(worker) for worker in range(3)) >= 16)
        for worker in range(3):
            run.signal(worker, SIGKILL)
        run.until(lambda: not run.processes[3].is_alive())
        for worker in range(4):
            run.start(worker)
        run.finish(0, 1, 2)
        assert len({run.lines(worker, "step")[-1]["digest"] for worker in range(3)}) == 1
        assert run.lines(3, "error")[0].startswith("Excluded") and not run.lines(3, "joined")
        assert "3" in run.lines(0, "stats")[0] and run.lines(0, "stats")[0]["3"]["counted"] == 0


@pytest.mark.parametrize(
    ("how", "text"), [("unsigned", "is not signed by worker 1"), ("forger", "is not signed by worker 0")]
)
def test_forged_ballots_are_abstentions_or_nothing(tmp_path: Path, how: str, text: str) -> None:
    with processes(tmp_path, 0, 2, 20, workers=3, **SIGNED) as run:
        start_in_order(run, 1, lie=how, lies=[8, 12])
        run.finish()
        assert len(run.check_alike()) == 20
        standings = run.lines(2, "stats")[0]
        assert standings["1"]["forged"] >= 2 and standings["0"]["forged"] == 0 and text in notes(run, 2)
        assert all(standing["lied"] == 0 for standing in standings.values())
        assert standings["0"]["missed"] == 0 and (standings["1"]["counted"] == 20) == (how == "forger")


def test_a_false_witness_is_left_out_and_harms_nobody(tmp_path: Path) -> None:
    with processes(tmp_path, 0, 2, 30, workers=3, **SIGNED) as run:
        start_in_order(run, 2, lie="false witness", lies=list(range(8, 14)))
        run.finish()
        assert len(run.check_alike()) == 30
        for worker in (0, 1):
            standings = run.lines(worker, "stats")[0]
            assert standings["2"]["forged"] >= 1 and standings["2"]["excluded"] >= 1 and standings["2"]["lied"] == 0
            assert all(standings[other]["excluded"] == 0 for other in ("0", "1"))
            assert "says more than those it names have signed" in notes(run, worker)


def test_who_has_no_public_key_with_the_others_cannot_join(tmp_path: Path) -> None:
    with processes(tmp_path, 2, 2, 60, **SIGNED) as run:
        run.until(lambda: run.at(0) >= 1)
        write(tmp_path / "all", 3)
        write_certificates(tmp_path / "keys", 3)
        for path in (tmp_path / "keys").iterdir():
            (tmp_path / "all" / path.name).write_bytes(path.read_bytes())
        run.start(2, keys=str(tmp_path / "all"), timeout=6.0)
        run.finish(0, 1)
        run.check_alike()
        for worker in (0, 1):
            assert "worker 2 cannot join: its public key is not known here" in notes(run, worker)
            assert run.lines(worker, "retried") == [0] and "2" not in run.lines(worker, "stats")[0]


def test_signed_and_unsigned_workers_do_not_mix(tmp_path: Path) -> None:
    with processes(tmp_path, 2, 2, 10**6, **SIGNED) as run:
        run.until(lambda: run.at(0) >= 1)
        write_certificates(tmp_path / "keys", 3)
        (tmp_path / "certificates").mkdir()
        for name in ("ca.pem", "worker-2.pem", "worker-2.key"):
            (tmp_path / "certificates" / name).write_bytes((tmp_path / "keys" / name).read_bytes())
        run.start(2, keys=str(tmp_path / "certificates"))
        run.until(lambda: bool(run.lines(2, "error")))
        assert "This one does not sign its ballots, unlike worker" in run.lines(2, "error")[0]
        write_certificates(tmp_path / "others", 3)
        for folder, text in ((None, "This one has no keys"), (str(tmp_path / "others"), "This one has keys")):
            run.start(2, keys=folder)
            run.until(lambda: bool(run.lines(2, "error")))
            assert f"{text}: all workers need certificates of one authority" in run.lines(2, "error")[0]
        assert all(run.processes[worker].is_alive() for worker in (0, 1))
