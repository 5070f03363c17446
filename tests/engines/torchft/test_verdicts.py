import pytest

from gradvote.engines.common.digests import short_digest_of
from gradvote.engines.common.errors import Equivocation
from gradvote.engines.torchft.greetings import Refused
from gradvote.engines.torchft.verdicts import Found, Verdict, countable, verdict_bytes, verdict_from

NUMBERS = [4, 0, 2]
GREETINGS = short_digest_of(b"greetings")
BALLOTS = [short_digest_of(bytes([rank])) for rank in range(3)]
OTHER = short_digest_of(b"other")


def verdicts(*statuses: Found) -> list[Verdict]:
    """All found the same; `statuses` by author's rank."""
    found = tuple(zip(statuses, BALLOTS, strict=True))
    return [Verdict(False, GREETINGS, found) for _ in range(3)]


def seen_otherwise(own: list[Verdict], at: int, author: int, status: Found, digest: bytes) -> list[Verdict]:
    found = list(own[at].found)
    found[author] = (status, digest)
    return [*own[:at], Verdict(False, GREETINGS, tuple(found)), *own[at + 1 :]]


def test_verdicts_travel() -> None:
    own = verdicts(Found.SOUND, Found.NONE, Found.UNSOUND)[0]
    raw = own.pack()
    assert len(raw) == verdict_bytes(3) and verdict_from(raw) == own
    with pytest.raises(Refused, match="cannot be read"):
        verdict_from(raw[:17] + b"\x09" + raw[18:])


def test_sound_ballots_count() -> None:
    assert countable(verdicts(Found.SOUND, Found.NONE, Found.UNSOUND), NUMBERS) == [True, False, False]
    with pytest.raises(Refused, match="No ballot"):
        countable(verdicts(Found.UNSOUND, Found.NONE, Found.UNSOUND), NUMBERS)


def test_two_sound_ballots_of_one_worker_end_the_run() -> None:
    own = seen_otherwise(verdicts(*[Found.SOUND] * 3), 1, 2, Found.SOUND, OTHER)
    with pytest.raises(Equivocation, match="Workers 0 and 4 hold different ballots of worker 2"):
        countable(own, NUMBERS)


def test_what_was_altered_on_its_way_spoils_the_step_only() -> None:
    own = seen_otherwise(verdicts(*[Found.SOUND] * 3), 1, 2, Found.UNSOUND, OTHER)
    with pytest.raises(Refused, match="ballot of worker 2 arrived altered at worker 0"):
        countable(own, NUMBERS)


def test_different_greetings_end_the_run() -> None:
    own = verdicts(*[Found.SOUND] * 3)
    with pytest.raises(Equivocation, match="Workers 4 and 2 were greeted differently"):
        countable([*own[:2], Verdict(False, OTHER, own[2].found)], NUMBERS)


def test_one_that_failed_spoils_the_step() -> None:
    own = verdicts(*[Found.SOUND] * 3)
    with pytest.raises(Refused, match="Worker 0 failed"):
        countable([own[0], Verdict(True, GREETINGS, own[1].found), own[2]], NUMBERS)
