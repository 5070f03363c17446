"""A worker that has proven who it is, and then breaks the rules: it costs the others little, and stops nobody."""

import threading
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote import algorithms
from gradvote.elastic import attach
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.catch_up.teaching import FRESH, packed_snapshot
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.net.authentication import Credentials
from gradvote.engines.elastic.net.certificates import write_certificates
from gradvote.engines.elastic.net.connections import Arrived
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.peers import FRAMES, TAUGHT
from gradvote.engines.elastic.servers.delivery import ShardDelivery
from gradvote.engines.elastic.stores.opening import storage_on
from gradvote.engines.elastic.voting import VotingRound
from tests.engines.elastic.played import member
from tests.engines.elastic.processes import processes
from tests.engines.elastic.strangers import BAD_MEMBERS, STRANGERS, Attacker, enrol, goes_bad
from tests.engines.elastic.test_bootstrap import ME, PEER, one_with_a_peer
from tests.engines.elastic.worker import new_model

FAR = Slot(10**9)


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("decided", [None, Slot(0), Slot(1)])
def test_nobody_goes_to_learn_because_a_member_says_so(sharded: bool, decided: Slot | None) -> None:
    """The group goes on without a member only by the register, which decides on this slot or the next one."""
    with member(1, sharded=sharded) as own:
        here, peer = VotingRound(own, own.server.replica.vote(Slot())), own.node.peers.connections[2]
        own.node.register.found(1, Record(Slot(), Outcome.VOID))
        if decided is not None:
            own.node.register.decide(1, Record(decided, Outcome.VOID))
        says = Arrived(peer, Frame(FrameKind.OUTSIDE, 2, FAR, b"member"))
        here._handle(says)
        assert here.behind == (decided is not None)
        if sharded:
            counted = Record(Slot(), Outcome.APPLY, {1: here.box.name(1)}, tuple(own.node.members.values()))
            delivery = ShardDelivery(here, here.box, own.server.shards, counted)  # type: ignore[arg-type, attr-defined]
            delivery._handle(says)
            assert delivery.behind == (decided is not None)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_decision_far_ahead_is_not_looked_up(sharded: bool) -> None:
    """Whoever tells of it has written it, and may write it again and again; what is near may be the others' own."""
    with member(1, sharded=sharded) as own:
        here, peer = VotingRound(own, own.server.replica.vote(Slot())), own.node.peers.connections[2]
        handlers = [here]
        if sharded:
            counted = Record(Slot(), Outcome.APPLY, {1: here.box.name(1)}, tuple(own.node.members.values()))
            handlers.append(ShardDelivery(here, here.box, own.server.shards, counted))  # type: ignore[arg-type, attr-defined]
        for slot in (FAR, Slot(5)):
            own.node.register.decide(1, Record(slot, Outcome.VOID))
            for handler in handlers:
                handler._handle(Arrived(peer, Frame(FrameKind.RECORD, 2, slot, b"{}")))
                assert handler.behind == (slot != FAR)


def test_a_register_that_is_away_proves_nothing() -> None:
    with member(1) as own, patch.object(own.node.register, "decision", side_effect=RegisterLost):
        assert not own.node.is_behind(Slot(), FAR)


def test_a_flood_of_claims_does_not_keep_the_register_busy() -> None:
    with member(1) as own, patch.object(own.node.register, "decision", return_value=None) as asked:
        for _ in range(1000):
            own.node.is_behind(Slot(), FAR)
        assert 4 <= asked.call_count / 2 <= 20


def test_three_hundred_requests_are_one_state() -> None:
    with one_with_a_peer() as (own, connection):
        own.enter(1, Slot(3), (ME, PEER), {})
        size = len(packed_snapshot(own.node, own.server))
        pull = Frame(FrameKind.PULL, PEER.ticket, Slot(), FRESH)
        for _ in range(300):
            own._serve(connection, pull)
        assert connection.states_waiting() == size, "the others come while it has not been read"
        states = 1
        for _ in range(300):
            connection._waiting.clear()
            own._serve(connection, pull)
            states += connection.states_waiting() > 0
        assert states == TAUGHT and own.node.mesh.gate.refused["asks too often"] == 301 - TAUGHT


def test_who_sends_too_much_in_a_slot_is_cut_off() -> None:
    with one_with_a_peer() as (own, connection):
        own.enter(1, Slot(3), (ME, PEER), {})
        want = Arrived(connection, Frame(FrameKind.WANT, PEER.ticket, Slot(3)))
        for _ in range(FRAMES // 2):
            own.node.peers._inbox.put(want)
            own.take(0)
        own.enter(1, Slot(4), (ME, PEER), {})
        taken = 0
        for _ in range(2 * FRAMES):
            own.node.peers._inbox.put(want)
            taken += own.take(0) is not None
        assert FRAMES <= taken < FRAMES + 500 and own.node.mesh.gate.refused["too many frames"] == 1
        assert connection._closing


def recipe() -> int:
    model = new_model()
    algorithm, optimizer = algorithms.create("dist-ef-sgdm"), torch.optim.AdamW(model.parameters())
    return attach(model, optimizer, algorithm, min_workers=1, worker=0, store=HashStore())._node.mesh.recipe


@pytest.mark.parametrize("insecure", [False, True])
def test_a_run_goes_on_under_attack(tmp_path: Path, insecure: bool) -> None:
    """All of it at once against worker 0, by strangers and by worker 3, which has a certificate and never votes."""
    write_certificates(tmp_path / "others", 1)
    with processes(tmp_path, 3, 2, 10**6, workers=3, insecure=insecure, timeout=60.0, deadline=5.0) as run:
        register = Register(storage_on(run.store))
        run.until(lambda: min(run.at(worker) for worker in range(3)) >= 5)
        places = {place.number: place for k in (1, 2, 3) if (place := register.place(k)) is not None}
        credentials = None
        if not insecure:
            write_certificates(tmp_path / "keys", 4)
            credentials = Credentials.load(tmp_path / "keys", 3)
        attacker = Attacker(places[0].port, 0, None, tmp_path / "others")
        bad = Attacker(places[0].port, recipe(), credentials)
        before = megabytes(run.processes[0].pid)
        attacks = [threading.Thread(target=attack, args=(attacker,)) for attack in STRANGERS.values()]
        attacks += [
            threading.Thread(target=goes_bad, args=(bad, how, enrol(register, 3), places[0].ticket))
            for how in BAD_MEMBERS
        ]
        for thread in attacks:
            thread.start()
        for thread in attacks:
            thread.join(30)
            assert not thread.is_alive()
        assert megabytes(run.processes[0].pid) < before + 60
        step = max(run.at(worker) for worker in range(3))
        run.until(lambda: min(run.at(worker) for worker in range(3)) >= step + 5, "all three going on")
        run.check_alike()
        assert all(process.is_alive() for process in run.processes.values())


def megabytes(pid: int | None) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20
