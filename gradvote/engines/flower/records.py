"""What travels as Flower's records: names, how they are made, and how they are read without trusting their sender.

To a client: `gradvote` (ConfigRecord, the same object for all: which round, from which version), one `gradvote.N` for
each decision N that it may have missed (again the same object for all), or `gradvote.model` (ArrayRecord) with all of
the model. Back: `gradvote` with the packed ballot as bytes, or why there is none.
"""

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, RecordDict

NAME = "gradvote"
MODEL, MOMENTA = f"{NAME}.model", f"{NAME}.momenta"
WORDS, NUMBERS = ("asks", "history", "recipe", "key"), ("number", "base", "seed")
T = TypeVar("T", int, float, str, bytes)


class ReplyError(ValueError):
    """A record that cannot be what its sender should have sent; says what was found and what was expected."""


@dataclass(frozen=True)
class Decided:
    """What round `number` came to: the decision's message (empty: none), its rate, and whose ballots counted."""

    number: int
    lr: float
    message: bytes
    counted: frozenset[int] = field(default_factory=frozenset)

    def record(self) -> ConfigRecord:
        """As a record."""
        counted = b"".join(struct.pack("<I", n) for n in sorted(self.counted))
        return ConfigRecord({"number": self.number, "lr": self.lr, "message": self.message, "counted": counted})

    @staticmethod
    def read(record: ConfigRecord) -> "Decided":
        """The inverse of `record`."""
        raw = taken(record, "counted", bytes)
        if len(raw) % 4:
            raise ReplyError(f"The list of counted workers has {len(raw)} bytes; a multiple of 4 was expected.")
        counted = frozenset(n for (n,) in struct.iter_unpack("<I", raw))
        lr = taken(record, "lr", float)
        return Decided(taken(record, "number", int), lr, taken(record, "message", bytes), counted)


@dataclass(frozen=True)
class Call:
    """What the server `asks`: a "gradient" or a "difference" to vote with in round `number`, the "arrays" of the model
    to evaluate, or only who one is ("hello").

    `base` is the version of the model that the round begins with, `history` names the run it belongs to, `key`
    the record in which the train function gets its arrays. `proposed` is a worker's number for one that has none,
    `voted` the names of what is trained, where the model is sent. `recipe` is the algorithm's text, or `digest_of` it.
    """

    asks: str
    number: int
    base: int
    lr: float
    seed: int
    history: str
    recipe: str
    key: str
    outer: Mapping[str, float]
    voted: tuple[str, ...] = ()
    proposed: int = -1

    def record(self) -> ConfigRecord:
        """As a record."""
        outer = {f"outer.{key}": float(value) for key, value in self.outer.items() if value}
        own = {name: getattr(self, name) for name in (*WORDS, *NUMBERS, "lr")}
        own |= {} if self.proposed < 0 else {"proposed": self.proposed}
        return ConfigRecord({**own, **outer, "voted": [*self.voted]})

    @staticmethod
    def read(record: ConfigRecord) -> "Call":
        """The inverse of `record`."""
        words: dict[str, Any] = {name: taken(record, name, str) for name in WORDS}
        given = (*NUMBERS, "proposed") if "proposed" in record else NUMBERS
        numbers: dict[str, Any] = {name: taken(record, name, int) for name in given}
        outer = {key.removeprefix("outer."): taken(record, key, float) for key in record if key.startswith("outer.")}
        voted = record.get("voted", [])
        names = tuple(str(name) for name in voted) if isinstance(voted, list) else ()
        return Call(**words, **numbers, lr=taken(record, "lr", float), outer=outer, voted=names)


@dataclass(frozen=True)
class Reply:
    """What a client answers: its number, the version of the model it has, and its ballot or why there is none."""

    worker: int
    version: int
    ballot: bytes = b""
    reason: str = ""

    def record(self) -> ConfigRecord:
        """As a record."""
        return ConfigRecord(
            {"worker": self.worker, "version": self.version, "ballot": self.ballot, "reason": self.reason}
        )

    @staticmethod
    def read(content: RecordDict) -> "Reply":
        """The reply in a message's content.

        Raises:
            ReplyError: there is none, or a field of another type.
        """
        record = config_in(content)
        numbers = {name: taken(record, name, int) for name in ("worker", "version")}
        return Reply(**numbers, ballot=taken(record, "ballot", bytes), reason=taken(record, "reason", str))


def digest_of(recipe: str) -> str:
    """A name of an algorithm that is shorter than its text."""
    return hashlib.blake2b(recipe.encode(), digest_size=8).hexdigest()


def config_in(content: RecordDict) -> ConfigRecord:
    """The record of this library in a message's content."""
    record = content.config_records.get(NAME)
    if record is None:
        raise ReplyError(
            f"The message has no record {NAME!r} ({', '.join(content) or 'it is empty'}): the other end does not run "
            "gradvote. Give the ClientApp mods=[gradvote.flower.client_mod(algorithm)] as its first mod, and the "
            "ServerApp the strategy gradvote.flower.GradVote."
        )
    return record


def taken(record: ConfigRecord, name: str, kind: type[T]) -> T:
    """A field of a record, of this type and, for a float, finite."""
    value: Any = record.get(name)
    endless = isinstance(value, float) and not math.isfinite(value)
    if isinstance(value, kind) and not isinstance(value, bool) and not endless:
        return kind(value)
    raise ReplyError(f"The field {name!r} of the record is {_short(value)}; {kind.__name__} was expected.")


def arrays_in(content: RecordDict, name: str) -> ArrayRecord | None:
    """The arrays of this name, if there are any."""
    return content.array_records.get(name)


def _short(value: Any) -> str:
    text = f"{type(value).__name__} of {len(value)} bytes" if isinstance(value, bytes) else repr(value)
    return text if len(text) < 80 else text[:77] + "..."
