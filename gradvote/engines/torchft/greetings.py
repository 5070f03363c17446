"""What each replica says of itself before ballots travel: of fixed size, so that all later sizes are known to all.

gloo ends a process that is sent more or less than it waits for. So lengths, steps and recipes are compared here first.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from gradvote.engines.common.digests import SHORT_DIGEST_BYTES
from gradvote.engines.common.errors import ParametersDiffer
from gradvote.engines.common.parameter_check import UNCHECKED, usual
from gradvote.engines.common.slot import Slot

MAGIC = b"GVF1"
HISTORY_BYTES = 16
UNKNOWN = bytes(HISTORY_BYTES)
_FORM = struct.Struct(f"<4sB??xIIQQQ{HISTORY_BYTES}s{SHORT_DIGEST_BYTES}s")
_CHECK = struct.Struct("<I")
GREETING_BYTES = _FORM.size + _CHECK.size
VERSION = 2


class Diverged(RuntimeError):
    """This replica has applied other ballots than most others: it must end; a new process in its place heals."""


class Refused(RuntimeError):
    """This step cannot be taken, and all replicas know it; nothing was applied."""


@dataclass(frozen=True)
class Greeting:
    """`length` is that of the ballot at `slot`; `history` stands for all ballots so far, `check` for the parameters.

    A replica that does not vote (it heals, or is a spare) says so, and its history is not asked for.
    """

    number: int
    slot: Slot
    recipe: int
    length: int
    history: bytes
    votes: bool
    failed: bool = False
    check: bytes = UNCHECKED

    def pack(self) -> bytes:
        """As bytes (`GREETING_BYTES`)."""
        raw = _FORM.pack(
            MAGIC, VERSION, self.votes, self.failed, self.number, self.slot.attempt, self.slot.step, self.recipe,
            self.length, self.history, self.check,
        )  # fmt: skip
        return raw + _CHECK.pack(zlib.crc32(raw))


def greeting_from(raw: bytes) -> Greeting | None:
    """The greeting in these bytes; None where they are none."""
    if _CHECK.unpack_from(raw, _FORM.size)[0] != zlib.crc32(raw[: _FORM.size]):
        return None
    magic, version, votes, failed, number, attempt, step, recipe, length, history, check = _FORM.unpack_from(raw)
    if (magic, version) != (MAGIC, VERSION):
        return None
    return Greeting(number, Slot(step, attempt), recipe, length, history, votes, failed, check)


def agreed_slot(
    found: Sequence[Greeting | None], own: Greeting, expected: Callable[[Slot, int], int], part: str = "some parameter"
) -> tuple[list[Greeting], Slot]:
    """All greetings, by rank, and the slot that their voters take: the latest attempt that one of them is at.

    `expected(slot, number)` is the length that a ballot must have, `part` names the parameters that checks are of.

    Raises:
        ValueError: this replica was built or loaded otherwise than most, or has another one's number.
        Diverged: it has another history, or other parameters, than most.
        ParametersDiffer: no more than half of the voters have the same parameters.
        Refused: so it is with another replica; the text names it.
    """
    greetings = [g for g in found if g is not None]
    if len(greetings) < len(found):
        ranks = ", ".join(str(rank) for rank, g in enumerate(found) if g is None)
        raise Refused(f"The greeting of rank {ranks} cannot be read: it was altered, or is of another version.")
    for kind, odd_ones, what in _PROBLEMS:
        odd = odd_ones(greetings)
        if odd:
            text = f"Worker {', '.join(map(str, sorted(odd)))} {what}. Nothing of this step was applied."
            raise (kind if own.number in odd else Refused)(text)
    wrong = [g for g in greetings if g.votes and g.length != expected(g.slot, g.number)]
    if wrong:
        raise Refused(
            f"The ballot of worker {wrong[0].number} would have {wrong[0].length} bytes; "
            f"{expected(wrong[0].slot, wrong[0].number)} were expected. Are its parameter groups those of the others?"
        )
    voters = [g for g in greetings if g.votes]
    failed = [str(g.number) for g in voters if g.failed]
    if failed or not voters:
        raise Refused(f"Worker {', '.join(failed)} failed before it voted." if failed else "Nobody votes in this step.")
    _compare({g.number: g.check for g in voters}, own.number, part)
    return greetings, max(g.slot for g in voters)


def _compare(checks: Mapping[int, bytes], own: int, part: str) -> None:
    if len(set(checks.values())) == 1:
        return
    most = usual(checks)
    if most is None:
        numbers = ", ".join(map(str, sorted(checks)))
        raise ParametersDiffer(
            f"The replicas of this quorum (workers {numbers}) hold different parameters, in {part}, "
            "and no more than half are alike, so that nobody can tell who is right. Nothing of this step was applied. "
            "A bit has turned in a memory, or a script changes values on some of them only; start again from the last "
            "checkpoints."
        )
    odd = {number for number, check in checks.items() if check != most}
    raise (Diverged if own in odd else Refused)(
        f"Worker {', '.join(map(str, sorted(odd)))} holds other parameters than most, in {part}: a bit has turned in a "
        "memory, or a script changes values there only. End that process, and a new one in its place heals from the "
        "others. Nothing of this step was applied."
    )


def _twice(greetings: Sequence[Greeting]) -> set[int]:
    return {number for number, times in Counter(g.number for g in greetings).items() if times > 1}


def _built(greetings: Sequence[Greeting]) -> set[int]:
    return _odd(greetings, lambda g: g.recipe)


def _step(greetings: Sequence[Greeting]) -> set[int]:
    return _odd(greetings, lambda g: g.slot.step)


def _history(greetings: Sequence[Greeting]) -> set[int]:
    return _odd([g for g in greetings if g.votes], lambda g: g.history)


def _odd(greetings: Sequence[Greeting], key: Callable[[Greeting], Hashable]) -> set[int]:
    """Those who are not of one mind with most; where two opinions are held alike often, the lowest number is right."""
    times = Counter(map(key, greetings))
    usual = max(sorted(greetings, key=lambda g: g.number), key=lambda g: times[key(g)], default=None)
    return set() if usual is None else {g.number for g in greetings if key(g) != key(usual)}


_PROBLEMS: tuple[tuple[type[Exception], Callable[[Sequence[Greeting]], set[int]], str], ...] = (
    (ValueError, _twice, "has the number of another replica; each replica group needs its own (worker=)"),
    (
        ValueError,
        _built,
        "was attached with another algorithm, seed, model, kind of optimizer, number of parameter groups or "
        "check_parameters_every than most",
    ),
    (ValueError, _step, "is at another step than most; all or none must load a checkpoint into the manager"),
    (
        Diverged,
        _history,
        "has applied other ballots than most, or began with other parameters, buffers or settings of its optimizer, so "
        "its model is another one; end that process, and a new one in its place heals from the others",
    ),
)
