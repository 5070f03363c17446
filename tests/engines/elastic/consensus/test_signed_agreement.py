"""The agreement where ballots are signed: who tells different members different things is left out, and alone."""

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.agreement import Agreement, Propose, Tell
from gradvote.engines.elastic.consensus.members import Member, Proof
from gradvote.engines.elastic.consensus.records import Outcome, Record, record_from
from tests.engines.elastic.consensus.test_agreement import EVENTS, PICK, Life, calm
from tests.engines.elastic.world import World

A, B, LIAR = 1, 2, 3
MEMBERS = [Member(t, t - 1) for t in (A, B, LIAR)]
X, Y = {A: b"a", B: b"b", LIAR: b"x"}, {A: b"a", B: b"b", LIAR: b"y"}


class SignedLife(Life):
    """The same life, in which any member may tell some of the others another ballot; its lists are honest."""

    @initialize(num=st.integers(1, 5), quorum=st.integers(1, 4))
    def begin(self, num: int, quorum: int) -> None:
        self.world = World(num, min(num, quorum), signed=True)

    @rule(pick=PICK, faces=st.integers(1, 2**8 - 1))
    def lie(self, pick: int, faces: int) -> None:
        self.world.processes[self.any_of(pick)].faces = faces


SignedLife.TestCase.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
TestSignedLife = SignedLife.TestCase


ALL = -1


def stirred(seed: int) -> World:
    """Some slots of a group with one or two who show two faces, in an order of events drawn at random."""
    draw = random.Random(seed)
    world = World(draw.randint(3, 5), 2, signed=True)
    everyone = sorted(world.processes)
    for _ in range(draw.randint(2, 3)):
        for liar in draw.sample(sorted(world.processes), min(draw.randint(0, 2), len(world.processes))):
            world.processes[liar].faces = draw.choice([ALL, draw.randrange(2 << len(everyone))])
            world.processes[liar].words |= draw.choice([0, ALL, draw.randrange(2 << len(everyone))])
        for ticket in draw.sample(sorted(world.processes), len(world.processes)):
            world.vote(ticket)
        for _ in range(draw.randint(0, 80)):
            if world.links and draw.random() < 0.93:
                world.deliver(draw.choice(sorted(world.links)))
            else:
                world.event(draw.choice(everyone), EVENTS[draw.choice(list(EVENTS))])
    return world


def test_in_any_order_all_go_one_way() -> None:
    """The world itself checks, at every step, that no two of its members go different ways."""
    left_out = 0
    for seed in range(600):
        world = stirred(seed)
        left_out += any(record.liars for record in world.register.values())
    assert left_out > 60


def member(step: int = 4, me: int = A, quorum: int = 2, held: dict[int, bytes] = X) -> Agreement:
    own = Agreement(me, Slot(step), MEMBERS, quorum, generation=7)
    for author, name in held.items():
        own.ballot(author, name)
    return own


def proposed(agreement: Agreement) -> Record:
    [proposal] = [action for action in agreement.actions() if isinstance(action, Propose)]
    return proposal.record


def test_whom_two_others_convict_is_left_out_and_named() -> None:
    a = member()
    assert list(a.actions()) == [Tell(X, False)]
    a.tells(B, Y, False)
    a.tells(LIAR, X, False)
    record = proposed(a)
    assert record.outcome == Outcome.APPLY and set(record.counted) == {A, B}
    assert record.members == tuple(MEMBERS[:2]) and record.liars == (2,)
    assert record.text == "worker 2 signed two different ballots for step 4"
    assert record.proofs == (Proof(7, Slot(4), MEMBERS[2], (b"x", b"y")),)
    assert record_from(record.to_json()) == record


@pytest.mark.parametrize("closed", [False, True])
def test_the_authors_own_word_breaks_no_promise(closed: bool) -> None:
    """B may have decided already: A goes for the full set, and leaves the liar out in the next slot."""
    a = member()
    list(a.actions())
    a.tells(B, X, False)
    a.tells(LIAR, Y, closed)
    assert proposed(a) == a.whole() and a.decision is None
    [proof] = a.proofs.values()
    later = member(5, held={A: b"a", B: b"b"})
    later.convict(proof)
    assert list(later.actions()) == [Tell({A: b"a", B: b"b"}, True, (proof,))]
    later.tells(B, X, True)
    record = proposed(later)
    assert set(record.counted) == {A, B} and not record.has(LIAR) and record.proofs == (proof,)


def test_a_second_ballot_from_the_author_itself_is_a_proof() -> None:
    a = member(held={A: b"a", LIAR: b"x"})
    a.ballot(LIAR, b"y")
    assert a.held[LIAR] == b"x" and list(a.proofs) == [LIAR]
    a.ballot(B, b"b")
    assert next(action for action in a.actions() if isinstance(action, Tell)).closed


def test_who_is_told_of_a_lie_before_it_says_full_never_says_it() -> None:
    a, b = member(held={A: b"a", B: b"b"}), member(me=B)
    b.ballot(LIAR, b"y")
    [told] = b.actions()
    assert isinstance(told, Tell) and told.closed
    a.convict(told.proofs[0])
    a.tells(B, told.held, told.closed)
    assert set(proposed(a).counted) == {A, B} and a.closed and not a.full


def test_a_proof_counts_against_every_process_of_the_worker() -> None:
    a = member()
    a.convict(Proof(7, Slot(1), Member(99, 2), (b"x", b"y")))
    assert list(a.proofs) == [LIAR]
    a.convict(Proof(7, Slot(1), Member(98, 6), (b"x", b"y")))
    assert list(a.proofs) == [LIAR]


def test_who_lied_proposes_nothing_and_too_few_wait() -> None:
    liar = member(me=LIAR)
    liar.tells(A, X, True)
    liar.tells(B, Y, True)
    liar.impatient = True
    assert not [action for action in liar.actions() if isinstance(action, Propose)]
    a = member(quorum=3)
    a.tells(B, Y, True)
    assert a.proposal() is None
    a.joining = (Member(9, 5),)
    record = a.proposal()
    assert record is not None and record.outcome == Outcome.VOID and record.liars == (2,)
    assert [m.number for m in record.members] == [0, 1, 5]


def test_a_false_witness_is_as_one_who_did_not_answer() -> None:
    a = member()
    list(a.actions())
    a.tells(B, X, False)
    a.doubt(LIAR)
    a.settled = True
    assert proposed(a) == a.whole()
    later = Agreement(A, Slot(5), MEMBERS, 2, 7, suspects=a.doubted)
    for author, name in X.items():
        later.ballot(author, name)
    assert list(later.actions()) == [Tell(X, True)]
    later.tells(B, X, True)
    later.doubt(LIAR)
    later.settled = True
    record = proposed(later)
    assert set(record.counted) == {A, B, LIAR} and not record.has(LIAR) and not record.proofs


@pytest.mark.parametrize("faces", range(1, 2**5))
def test_whatever_two_faces_are_shown_to_whom_the_others_go_on_alike(faces: int) -> None:
    world = World(5, 3, signed=True)
    world.processes[3].faces = faces << 1
    for _ in range(4):
        calm(world)
    honest = [world.processes[t] for t in (1, 2, 4, 5)]
    lied = faces << 1 & 0b110110 != 0
    assert {len(p.history) for p in honest} == {4} and len({p.history for p in honest}) == 1
    for p in honest:
        assert (3 in p.proofs) == lied and len(p.view) == (4 if lied else 5)
