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
from gradvote.engines.elastic import checks, founding, group
from gradvote.engines.elastic.ballots import Ballot
from gradvote.engines.elastic.frames import Frame, Kind, digest_of
from gradvote.engines.elastic.learning import Learner
from gradvote.engines.elastic.links import Arrived, Link
from gradvote.engines.elastic.parcels import Entry, parcel_from
from gradvote.engines.elastic.records import (
    Member,
    Outcome,
    Proof,
    Record,
    Slot,
    held_from,
    held_to_json,
    proofs_to_raw,
    record_from,
)
from gradvote.engines.elastic.register import Place
from gradvote.engines.elastic.rounds import Round
from gradvote.engines.elastic.seals import RUN_BYTES, Seals, Signed, convicts
from gradvote.engines.elastic.signing import Keys, write
from tests.engines.elastic.test_founding import ME, PEER, group_with_a_peer

NOW = Slot(3)
DEEP, LONG = b"[" * 100_000, "x" * 200_000
LIST = {"held": {}, "closed": 0, "proofs": [], "lacks": []}
RECORD = {"slot": [3, 0], "outcome": "void", "counted": {}, "members": [], "text": "", "proofs": [], "holders": [],
          "moves": []}  # fmt: skip
LISTS: list[dict[str, Any]] = [
    {"held": []}, {"held": {"1": 5}}, {"held": {"x": ""}}, {"proofs": 5}, {"proofs": [[1, 2, 3]]}, {"lacks": [-1]},
    {"lacks": 5}, {"proofs": {"abcdefg": 0}}, {"proofs": [[LONG, 0, 0, 0, 0, "", ""]]},
    {"proofs": [[2**63, 0, 0, 0, 0, "", ""]]}, {"proofs": [[-1, 0, 0, 0, 0, "", ""]]},
    {"proofs": [[float("inf"), 0, 0, 0, 0, "", ""]]},
]  # fmt: skip
RECORDS: list[dict[str, Any]] = [
    {"slot": [3], "outcome": LONG}, {"slot": [3, 0, 0]}, {"holders": 5}, {"holders": [[-1]]}, {"moves": [[1]]},
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
        "moves": [[0, 1]], "seen": {"1": "LATE"}, "reasons": [[1, "LATE", [0, 2]]]}  # fmt: skip


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
    for parse in (record_from, held_from, lambda text: parcel_from(packed(text, b"state"))):
        try:
            parse(text)
        except ValueError as error:
            assert "This is not a" in str(error)


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_parcel_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match="not a state"):
        parcel_from(packed(text, b"state"))


@pytest.mark.parametrize("kind", [Kind.BALLOT, Kind.HELD, Kind.RECORD])
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_round_counts_it_and_goes_on(kind: Kind, text: bytes) -> None:
    with group_with_a_peer() as (own, link):
        own.enter(1, NOW, (ME, PEER), {})
        here = Round(own, Ballot(own.slot, b"ballot", [], [], [], []))
        here._handle(Arrived(link, Frame(kind, PEER.ticket, NOW, text, digest_of(text))))
        assert own.tallies.workers[PEER.number].malformed == 1 and not here.agreement.heard
        assert all(len(note) < group.NOTE + 100 for _, note in own.tallies.notes)


def entry(slot: Slot, bodies: dict[int, bytes], outcome: Outcome = Outcome.APPLY) -> bytes:
    record = Record(slot, outcome, {t: digest_of(body) for t, body in bodies.items()}, (PEER,))
    return Entry(record, bodies).pack()


ENTRIES: list[Callable[[bytes], bytes]] = [
    lambda ballot: entry(Slot(4), {PEER.ticket: ballot}),
    lambda ballot: entry(NOW, {99: ballot}),
    lambda ballot: entry(NOW, {PEER.ticket: ballot[1:]}),
    lambda ballot: entry(NOW, {PEER.ticket: ballot + b"x"}),
    lambda ballot: entry(NOW, {}),
    lambda ballot: entry(NOW, {PEER.ticket: ballot}, Outcome.VOID),
    lambda ballot: entry(NOW, {}, Outcome.STOP),
    *(lambda ballot, text=text: packed(text) for text in TEXTS),
]


@pytest.mark.parametrize("wrong", ENTRIES, ids=range(len(ENTRIES)))
def test_who_catches_up_counts_it_and_asks_another(wrong: Callable[[bytes], bytes]) -> None:
    with group_with_a_peer() as (own, link):
        own.enter(1, NOW, (ME, PEER), {})
        own.mesh.links[PEER.ticket] = link
        learner, ballot = Learner(own, fresh=False, pending=own.replica.vote(NOW)), own.replica.vote(NOW).body
        learner._handle(Arrived(link, Frame(Kind.ENTRY, PEER.ticket, NOW, wrong(ballot))))
        assert own.tallies.workers[PEER.number].malformed == 1 and own.slot == NOW and learner.pending is not None
        learner._handle(Arrived(link, Frame(Kind.ENTRY, PEER.ticket, NOW, entry(NOW, {PEER.ticket: ballot}))))
        assert own.slot == Slot(4)


@pytest.fixture(scope="module")
def signers(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Seals]:
    folder = tmp_path_factory.mktemp("keys")
    return {number: Signed(Keys.load(folder, number), bytes(RUN_BYTES)) for number in write(folder, 2)}


def proof_by(seals: Seals, author: Member, *ballots: bytes) -> Proof:
    first, second = (seals.name(seals.seal(1, NOW, author, ballot)) for ballot in ballots)
    return Proof(1, NOW, author, (first, second))


def test_a_flood_of_proofs_costs_one(signers: dict[int, Seals], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that holds is enough, and so is one that does not."""
    checked: list[Proof] = []

    def check(seals: Seals, proof: Proof) -> bool:
        checked.append(proof)
        return convicts(seals, proof)

    monkeypatch.setattr(group, "convicts", check)
    good = proof_by(signers[1], PEER, b"a", b"b")
    bad = proof_by(signers[1], ME, b"a", b"b")
    with group_with_a_peer() as (own, link):
        own.seals = signers[0]
        own.enter(1, NOW, (ME, PEER), {})
        here = Round(own, Ballot(own.slot, b"ballot", [], [], [], []))
        for proofs in ([bad] * 1000, [good] * 1000):
            text = held_to_json({}, True, proofs).encode()
            here._handle(Arrived(link, Frame(Kind.HELD, PEER.ticket, NOW, text)))
        standing = own.tallies.workers[PEER.number]
        assert checked == [bad, good] and (standing.forged, standing.lied) == (1, 1)
        assert list(own.proofs) == [PEER.number] and list(here.agreement.proofs) == [PEER.ticket]


def test_a_proof_that_came_while_a_group_gathers_is_looked_up(signers: dict[int, Seals]) -> None:
    with group_with_a_peer() as (own, _):
        own.seals = signers[0]
        for member in (ME, PEER):
            own.register.publish(Place(member.ticket, member.number, "127.0.0.1", 1, 0, "state"))
        assert founding._founders(own).members == (ME, PEER)
        for _ in range(3):
            own.register.accuse(proof_by(signers[1], PEER, b"a", b"b"))
        assert founding._founders(own).members == (ME,)
        assert own.tallies.workers[PEER.number].lied == 1


def test_only_ballots_may_be_long() -> None:
    """A text grows in memory when it is read."""
    model = nn.Linear(1000, 1000)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    own = attach(model, optimizer, algorithms.create("sgd"), min_workers=1, worker=0, store=HashStore())
    limits = own._group.mesh._limits
    assert limits.pop(Kind.BALLOT) > 4 * 10**6 and set(limits.values()) == {checks.SPARE_BYTES}
    assert len(held_to_json(dict.fromkeys(range(2000), bytes(96)), True)) < checks.SPARE_BYTES
    assert len(json.dumps(proofs_to_raw([Proof(1, NOW, ME, (bytes(96),) * 2)] * 2000))) < checks.SPARE_BYTES


def test_a_peer_that_floods_a_learner_keeps_nobody_elses_frames_out() -> None:
    with group_with_a_peer() as (own, link):
        other = Link(link.sock, Member(99, 7), own.inbox, {})
        own.keep(Arrived(other, Frame(Kind.BALLOT, 99, NOW)))
        for step in range(2 * group.KEPT_EARLY):
            own.keep(Arrived(link, Frame(Kind.BALLOT, PEER.ticket, Slot(step))))
        kept = [e.frame.slot.step for e in own.early if e.link is link]
        assert kept == list(range(group.KEPT_EARLY, 2 * group.KEPT_EARLY))
        assert [e.link for e in own.early if e.link is not link] == [other]
