"""Where a process listens and which one it is, as a text for the register."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gradvote.engines.elastic.consensus.members import UNREADABLE, count

LONGEST, LONGEST_TERM = 256, 1 << 14
"""Characters of a name, and of what stands for an argument."""


@dataclass(frozen=True)
class Presence:
    """Where a process listens, and the state it came with."""

    ticket: int
    number: int
    host: str
    port: int
    step: int
    state: str
    shards: Mapping[str, str] = field(default_factory=dict)
    """Names of the server's memories that it has, by shard."""
    process: str = ""
    """Its name on its machine, see `net.local_processes`."""
    terms: Mapping[str, str] = field(default_factory=dict)
    """What it was given that all must have alike."""

    def to_json(self) -> str:
        """As text for the register."""
        return json.dumps(asdict(self))


def presence_from(text: str) -> Presence:
    """The inverse of `Presence.to_json`.

    Raises:
        ValueError: the text is something else.
    """
    try:
        raw = json.loads(text)
        ticket, number, port, step = (count(raw[name]) for name in ("ticket", "number", "port", "step"))
        host, state, process = (_name(raw[name]) for name in ("host", "state", "process"))
        shards = {_name(shard): _name(memory) for shard, memory in raw["shards"].items()}
        terms = {_name(name): _name(term, LONGEST_TERM) for name, term in raw["terms"].items()}
    except UNREADABLE as error:
        raise ValueError(f"This is not where a process is: {error}") from error
    if port >= 1 << 16:
        raise ValueError(f"This is not where a process is: there is no port {port}")
    return Presence(ticket, number, host, port, step, state, shards, process, terms)


def _name(value: Any, longest: int = LONGEST) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{str(value)[:LONGEST]!r} is not a text of at most {longest} characters")
    return value
