"""What each replica received, compared by all before anything is applied."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from gradvote.engines.common.digests import SHORT_DIGEST_BYTES
from gradvote.engines.common.errors import Equivocation
from gradvote.engines.torchft.greetings import Refused

_HEAD, _ENTRY = struct.Struct(f"<?{SHORT_DIGEST_BYTES}s"), struct.Struct(f"<B{SHORT_DIGEST_BYTES}s")


class Found(IntEnum):
    """A ballot as it arrived: none, one that can be counted, or one that cannot (wrong header, altered)."""

    NONE = 0
    SOUND = 1
    UNSOUND = 2


def verdict_bytes(num: int) -> int:
    """The length of a verdict on the ballots of so many replicas."""
    return _HEAD.size + num * _ENTRY.size


@dataclass(frozen=True)
class Verdict:
    """Whether this replica failed, the digest of all greetings, and what it found of each replica's ballot."""

    failed: bool
    greetings: bytes
    found: tuple[tuple[Found, bytes], ...]

    def pack(self) -> bytes:
        """As bytes (`verdict_bytes`)."""
        return _HEAD.pack(self.failed, self.greetings) + b"".join(_ENTRY.pack(*pair) for pair in self.found)


def verdict_from(raw: bytes) -> Verdict:
    """The verdict in these bytes.

    Raises:
        Refused: they are none.
    """
    failed, greetings = _HEAD.unpack_from(raw)
    try:
        found = tuple((Found(status), digest) for status, digest in _ENTRY.iter_unpack(raw[_HEAD.size :]))
    except ValueError as error:
        raise Refused(f"A verdict cannot be read: {error}.") from error
    return Verdict(failed, greetings, found)


def countable(verdicts: Sequence[Verdict], numbers: Sequence[int]) -> list[bool]:
    """Which replicas' ballots count, by rank; `numbers` are the workers' numbers by rank.

    Raises:
        Equivocation: two replicas hold different ballots of one worker, both as their sender made them.
        Refused: a replica failed, or holds something that was altered on its way, or no ballot counts.
    """
    failed = [str(number) for v, number in zip(verdicts, numbers, strict=True) if v.failed]
    if failed:
        raise Refused(f"Worker {', '.join(failed)} failed before it had received the ballots.")
    _compare_greetings(verdicts, numbers)
    counts = [_counts([v.found[rank] for v in verdicts], rank, numbers) for rank in range(len(numbers))]
    if not any(counts):
        raise Refused("No ballot of this step can be counted.")
    return counts


def _compare_greetings(verdicts: Sequence[Verdict], numbers: Sequence[int]) -> None:
    for v, number in zip(verdicts, numbers, strict=True):
        if v.greetings != verdicts[0].greetings:
            raise Equivocation(
                f"Workers {numbers[0]} and {number} were greeted differently by some replica, or one of them says so "
                "falsely. Nothing was applied. Look at the machines of this quorum before starting again."
            )


def _counts(held: Sequence[tuple[Found, bytes]], rank: int, numbers: Sequence[int]) -> bool:
    sound = {digest: numbers[i] for i, (status, digest) in reversed(list(enumerate(held))) if status == Found.SOUND}
    if len(sound) > 1:
        first, second = sorted(sound.values())[:2]
        raise Equivocation(
            f"Workers {first} and {second} hold different ballots of worker {numbers[rank]}: it sent different ones, "
            "or one of them says so falsely. Nothing was applied. Look at that worker's machine before starting again."
        )
    altered = [str(numbers[i]) for i, (status, _) in enumerate(held) if status != Found.SOUND]
    if sound and altered:
        raise Refused(f"The ballot of worker {numbers[rank]} arrived altered at worker {', '.join(altered)}.")
    return bool(sound)
