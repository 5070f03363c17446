from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradvote.engines.common.slot import Slot
from gradvote.engines.torchft.greetings import (
    GREETING_BYTES,
    HISTORY_BYTES,
    UNKNOWN,
    Diverged,
    Greeting,
    Refused,
    agreed_slot,
    greeting_from,
)

USUAL = Greeting(0, Slot(7), 11, 100, b"h" * HISTORY_BYTES, True)


def processes(num: int = 3, **changes: object) -> list[Greeting]:
    """Greetings of workers 0, 1, ..., of which the last one is another one."""
    own = [replace(USUAL, number=number) for number in range(num)]
    return [*own[:-1], replace(own[-1], **changes)]  # type: ignore[arg-type]


def length(slot: Slot, number: int) -> int:
    return 100


@given(
    st.integers(0, 2**32 - 2), st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1),
    st.binary(min_size=HISTORY_BYTES, max_size=HISTORY_BYTES), st.booleans(), st.booleans(),
)  # fmt: skip
def test_greetings_travel(
    number: int, step: int, attempt: int, recipe: int, history: bytes, votes: bool, failed: bool
) -> None:
    own = Greeting(number, Slot(step, attempt), recipe, 3, history, votes, failed)
    raw = own.pack()
    assert len(raw) == GREETING_BYTES and greeting_from(raw) == own


@given(st.integers(0, GREETING_BYTES - 1), st.integers(1, 255))
def test_an_altered_greeting_is_none(at: int, bits: int) -> None:
    raw = bytearray(USUAL.pack())
    raw[at] ^= bits
    assert greeting_from(bytes(raw)) is None
    with pytest.raises(Refused, match="rank 1 cannot be read"):
        agreed_slot([USUAL, greeting_from(bytes(raw))], USUAL, length)


def test_the_latest_attempt_is_taken() -> None:
    greetings = processes(slot=Slot(7, 2))
    assert agreed_slot(greetings, greetings[0], length) == (greetings, Slot(7, 2))
    idle = processes(slot=Slot(7, 5), votes=False, history=UNKNOWN, length=0)
    assert agreed_slot(idle, idle[2], length) == (idle, Slot(7))


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"number": 1}, ValueError, "Worker 1 has the number of another replica"),
        ({"recipe": 12}, ValueError, "Worker 2 was attached with another"),
        ({"slot": Slot(8)}, ValueError, "Worker 2 is at another step"),
        ({"history": b"x" * HISTORY_BYTES}, Diverged, "Worker 2 has applied other ballots"),
    ],
)
def test_who_is_odd_is_named_to_all(changes: dict[str, object], kind: type[Exception], text: str) -> None:
    greetings = processes(**changes)
    with pytest.raises(kind, match=text):
        agreed_slot(greetings, greetings[2], length)
    with pytest.raises(Refused, match=text):
        agreed_slot(greetings, greetings[0], length)


def test_of_two_the_lower_number_is_right() -> None:
    greetings = [replace(USUAL, number=5, recipe=1), replace(USUAL, number=3, recipe=2)]
    with pytest.raises(Refused, match="Worker 5 was attached"):
        agreed_slot(greetings, greetings[1], length)


def test_who_heals_may_have_any_history_and_may_fail() -> None:
    greetings = processes(votes=False, failed=True, history=UNKNOWN)
    assert agreed_slot(greetings, greetings[0], length)[1] == Slot(7)


def test_a_failed_voter_spoils_the_step() -> None:
    greetings = processes(failed=True)
    with pytest.raises(Refused, match="Worker 2 failed before it voted"):
        agreed_slot(greetings, greetings[0], length)


def test_a_wrong_length_is_found_before_anything_is_sent() -> None:
    greetings = processes(length=99)
    with pytest.raises(Refused, match="worker 2 would have 99 bytes; 100 were expected"):
        agreed_slot(greetings, greetings[0], length)


def test_somebody_must_vote() -> None:
    greetings = [replace(g, votes=False) for g in processes()]
    with pytest.raises(Refused, match="Nobody votes"):
        agreed_slot(greetings, greetings[0], length)
