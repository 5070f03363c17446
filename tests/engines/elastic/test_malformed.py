"""Whatever a peer sends: a fault that is counted, never an error that ends the training."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote import algorithms
from gradvote.elastic import attach
from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.digests import digest_of
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic import bootstrap, membership, node, peers
from gradvote.engines.elastic.catch_up.learning import Learner
from gradvote.engines.elastic.consensus.members import Member, Proof, proofs_to_raw
from gradvote.engines.elastic.consensus.presence import Presence
from gradvote.engines.elastic.consensus.records import Outcome, Record, held_from, held_to_json, record_from
from gradvote.engines.elastic.net.connections import Arrived, Connection
from gradvote.engines.elastic.net.frames import STATE_FRAMES, Frame, FrameKind
from gradvote.engines.elastic.servers.server import SHORT_BYTES, SPARE_BYTES
from gradvote.engines.elastic.signing.keys import Keys, write
from gradvote.engines.elastic.signing.names import RUN_BYTES, Naming, SignedNames, convicts
from gradvote.engines.elastic.snapshots import DecidedStep, snapshot_from
from gradvote.engines.elastic.voting import VotingRound
from tests.engines.elastic.test_bootstrap import ME, PEER, one_with_a_peer

NOW = Slot(3)
DEEP, LONG = b"[" * 100_000, "x" * 200_000
LIST = {"held": {}, "closed": 0, "proofs": [], "lacks": []}
RECORD: dict[str, Any] = {
    "slot": [3, 0], "outcome": "void", "counted": {}, "members": [], "text": "", "proofs": [], "holders": [],
    "moves": [], "reasons": [], "given_up": None,
}  # fmt: skip
LISTS: list[dict[str, Any]] = [
    {"held": []}, {"held": {"1": 5}}, {"held": {"x": ""}}, {"proofs": 5}, {"proofs": [[1, 2, 3]]}, {"lacks": [-1]},
    {"lacks": 5}, {"proofs": {"abcdefg": 0}}, {"proofs": [[LONG, 0, 0, 0, 0, "", ""]]},
    {"proofs": [[2**63, 0, 0, 0, 0, "", ""]]}, {"proofs": [[-1, 0, 0, 0, 0, "", ""]]},
    {"proofs": [[float("inf"), 0, 0, 0, 0, "", ""]]},
]  # fmt: skip
RECORDS: list[dict[str, Any]] = [
    {"slot": [3], "outcome": LONG}, {"slot": [3, 0, 0]}, {"holders": 5}, {"holders": [[-1]]}, {"moves": [[1]]},
    {"reasons": [[1, "LATE"]]}, {"given_up": 5}, {"given_up": ["TOO_FEW", 0, [[1, "LATE", 2]], [], 1, 2]},
    {"given_up": ["TOO_FEW", 0, [], [], 1]},
]  # fmt: skip
TEXTS = [
    b"", b"\xff\xfe", b"\x00" * 8, b"{}", b"[]", b"null", b"7", DEEP, b'{"held":' + DEEP, b"9" * 9000,
    b'{"held": 1e999}',
    *(json.dumps(LIST | wrong).encode() for wrong in LISTS),
    *(json.dumps(RECORD | wrong).encode() for wrong in RECORDS),
]  # fmt: skip
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
LIKE = {"slot": [3, 0], "held": {}, "closed": False, "counted": {}, "members": [[1, 0]], "generation": 1, "text": "",
        "outcome": "void", "proofs": [[1, 3, 0, 1, 0, "aa", "bb"]], "lacks": [0], "holders": [[1]],
        "moves": [[0, 1]], "seen": {"1": "LATE"}, "reasons": [[1, "LATE", [0, 2]]],
        "given_up": ["UNSERVED", 2, [[1, "CLOSED", [0, 2]]], [1], 2, 3]}  # fmt: skip


def packed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


@given(changed=st.dictionaries(st.sampled_from(sorted(LIKE)), ANY_JSON, max_size=3))
@example(changed={"generation": float("inf")})
@example(changed={"members": [[-1, 0]]})
@example(changed={"seen": {"x": "LATE"}})
@example(changed={"seen": {"1": "NONE"}})
@example(changed={"reasons": [[1, ["LATE"], [0]]]})
def test_a_text_is_read_or_refused(changed: dict[str, Any]) -> None:
    text = json.dumps({**LIKE, **changed}).encode()
    for parse in (record_from, held_from, lambda text: snapshot_from(packed(text, b"state"))):
        try:
            parse(text)
        except ValueError as error:
            assert "This is not a" in str(error)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_snapshot_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a state"):
        snapshot_from(packed(text, b"state"))


@pytest.mark.parametrize("kind", [FrameKind.BALLOT, FrameKind.HELD, FrameKind.RECORD])
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_round_counts_it_and_goes_on(kind: FrameKind, text: bytes) -> None:
    with one_with_a_peer() as (own, connection):
        own.enter(1, NOW, (ME, PEER), {})
        here = VotingRound(own, Ballot(own.node.slot, b"ballot", [], [], [], []))
        here._handle(Arrived(connection, Frame(kind, PEER.ticket, NOW, text, digest_of(text))))
        assert own.node.counts.workers[PEER.number].malformed == 1 and not here.agreement.heard
        assert all(len(note) < node.NOTE + 100 for _, note in own.node.counts.notes)


def step(slot: Slot, bodies: dict[int, bytes], outcome: Outcome = Outcome.APPLY) -> bytes:
    record = Record(slot, outcome, {t: digest_of(body) for t, body in bodies.items()}, (PEER,))
    return DecidedStep(record, bodies).pack()


STEPS: list[Callable[[bytes], bytes]] = [
    lambda ballot: step(Slot(4), {PEER.ticket: ballot}),
    lambda ballot: step(NOW, {99: ballot}),
    lambda ballot: step(NOW, {PEER.ticket: ballot[1:]}),
    lambda ballot: step(NOW, {PEER.ticket: ballot + b"x"}),
    lambda ballot: step(NOW, {}),
    lambda ballot: step(NOW, {PEER.ticket: ballot}, Outcome.VOID),
    lambda ballot: step(NOW, {}, Outcome.STOP),
    *(lambda ballot, text=text: packed(text) for text in TEXTS),
]


@pytest.mark.parametrize("wrong", STEPS, ids=range(len(STEPS)))
def test_who_catches_up_counts_it_and_asks_another(wrong: Callable[[bytes], bytes]) -> None:
    with one_with_a_peer() as (own, connection):
        own.enter(1, NOW, (ME, PEER), {})
        own.node.mesh.connections[PEER.ticket] = connection
        vote = own.server.replica.vote(NOW)
        learner, ballot = Learner(own, fresh=False, pending=vote), vote.check + vote.body
        learner._handle(Arrived(connection, Frame(FrameKind.STEP, PEER.ticket, NOW, wrong(ballot))))
        assert (
            own.node.counts.workers[PEER.number].malformed == 1 and own.node.slot == NOW and learner.pending is not None
        )
        learner._handle(Arrived(connection, Frame(FrameKind.STEP, PEER.ticket, NOW, step(NOW, {PEER.ticket: ballot}))))
        assert own.node.slot == Slot(4)


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Naming]:
    folder = tmp_path_factory.mktemp("keys")
    return {number: SignedNames(Keys.load(folder, number), bytes(RUN_BYTES)) for number in write(folder, 2)}


def proof_by(naming: Naming, author: Member, *ballots: bytes) -> Proof:
    first, second = (naming.name(naming.sign(1, NOW, author, ballot)) for ballot in ballots)
    return Proof(1, NOW, author, (first, second))


def test_a_flood_of_proofs_costs_one(signers: dict[int, Naming], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that holds is enough, and so is one that does not."""
    checked: list[Proof] = []

    def check(naming: Naming, proof: Proof) -> bool:
        checked.append(proof)
        return convicts(naming, proof)

    monkeypatch.setattr(membership, "convicts", check)
    good = proof_by(signers[1], PEER, b"a", b"b")
    bad = proof_by(signers[1], ME, b"a", b"b")
    with one_with_a_peer(signers[0]) as (own, connection):
        own.enter(1, NOW, (ME, PEER), {})
        here = VotingRound(own, Ballot(own.node.slot, b"ballot", [], [], [], []))
        for proofs in ([bad] * 1000, [good] * 1000):
            text = held_to_json({}, True, proofs).encode()
            here._handle(Arrived(connection, Frame(FrameKind.HELD, PEER.ticket, NOW, text)))
        standing = own.node.counts.workers[PEER.number]
        assert checked == [bad, good] and (standing.forged, standing.lied) == (1, 1)
        assert list(own.node.membership.state.proofs) == [PEER.number] and list(here.agreement.proofs) == [PEER.ticket]


def test_a_proof_that_came_while_a_group_gathers_is_looked_up(signers: dict[int, Naming]) -> None:
    with one_with_a_peer(signers[0]) as (own, _):
        for member in (ME, PEER):
            own.node.register.publish(Presence(member.ticket, member.number, "127.0.0.1", 1, 0, "state"))
        assert bootstrap._founders(own.node, 0).members == (ME, PEER)
        for _ in range(3):
            own.node.register.accuse(proof_by(signers[1], PEER, b"a", b"b"))
        assert bootstrap._founders(own.node, 0).members == (ME,)
        assert own.node.counts.workers[PEER.number].lied == 1


def test_only_ballots_may_be_long() -> None:
    """A text grows in memory when it is read."""
    model = nn.Linear(1000, 1000)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    own = attach(model, optimizer, algorithms.create("sgd"), min_workers=1, worker=0, store=HashStore())
    limits = own._node.mesh.limits
    states = {limits.pop(kind) for kind in STATE_FRAMES}
    assert 12 * 10**6 < min(states) <= max(states) < 2 * 10**8, "known from the model"
    assert limits.pop(FrameKind.BALLOT) > 4 * 10**6 and max(limits.values()) == SPARE_BYTES
    assert limits[FrameKind.PULL] == limits[FrameKind.OUTSIDE] == SHORT_BYTES and FrameKind.HELLO not in limits
    assert len(held_to_json(dict.fromkeys(range(2000), bytes(96)), True)) < SPARE_BYTES
    assert len(json.dumps(proofs_to_raw([Proof(1, NOW, ME, (bytes(96),) * 2)] * 2000))) < SPARE_BYTES


def test_a_peer_that_floods_a_learner_keeps_nobody_elses_frames_out() -> None:
    with one_with_a_peer() as (own, connection):
        other = Connection(connection.channel, Member(99, 7), own.node.peers._inbox, {})
        own.node.peers.keep_latest(Arrived(other, Frame(FrameKind.BALLOT, 99, NOW)))
        for step in range(2 * peers.KEPT_EARLY):
            own.node.peers.keep_latest(Arrived(connection, Frame(FrameKind.BALLOT, PEER.ticket, Slot(step))))
        kept = [e.frame.slot.step for e in own.node.peers._early if e.connection is connection]
        assert kept == list(range(peers.KEPT_EARLY, 2 * peers.KEPT_EARLY))
        assert [e.connection for e in own.node.peers._early if e.connection is not connection] == [other]
