"""What outlives every worker: a key-value store that keeps the first proposal for each slot, and who is where.

It is trusted, and a healthy round does not touch it. `gradvote launch` runs it in its own process; under torchrun it is
the store of the agent.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta

from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Proof, proofs_from_raw, proofs_to_raw
from gradvote.engines.elastic.consensus.records import Record, record_from
from gradvote.engines.elastic.net.addresses import families, split

PREFIX = "gradvote/elastic"


class RegisterLost(RuntimeError):
    """The store does not answer: members cannot agree on anything out of the ordinary any more."""


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


class Register:
    """One writer wins, everyone reads the same. `generation` counts the groups founded so far."""

    def __init__(self, store: Store, name: str = "") -> None:
        self._store, self._prefix = store, f"{PREFIX}/{name}"
        self._generation = 0

    def ticket(self) -> int:
        """A number that no other process has or will have, from 1."""
        return self._add("tickets", 1)

    def num_tickets(self) -> int:
        """How many tickets there are."""
        return self._add("tickets", 0)

    def free_number(self) -> int:
        """A worker number that was not given before."""
        return self._add("numbers", 1) - 1

    def publish(self, place: Presence) -> None:
        """Tell all where this process is."""
        self._call("set", self._key(f"places/{place.ticket}"), json.dumps(asdict(place)))

    def place(self, ticket: int) -> Presence | None:
        """Where a process is; None before it has said so."""
        text = self._get(f"places/{ticket}")
        return None if text is None else Presence(**json.loads(text))

    def generation(self) -> int:
        """The number of groups founded so far: 0 before the first one."""
        while self._get(f"founded/{self._generation + 1}") is not None:
            self._generation += 1
        return self._generation

    def found(self, generation: int, record: Record) -> Record:
        """Found the group of this generation, or learn who has."""
        return record_from(self._first(f"founded/{generation}", record.to_json()))

    def founders(self, generation: int) -> Record | None:
        """The record with which a group began."""
        text = self._get(f"founded/{generation}")
        return None if text is None else record_from(text)

    def decide(self, generation: int, record: Record) -> Record:
        """The decision on the record's slot: this one, where none was there before."""
        return record_from(self._first(self._slot(generation, record.slot), record.to_json()))

    def decision(self, generation: int, slot: Slot) -> Record | None:
        """The decision on a slot, where the register made it."""
        text = self._get(self._slot(generation, slot))
        return None if text is None else record_from(text)

    def run_id(self) -> bytes:
        """16 random bytes: the same for all who ask, and for no other run."""
        return bytes.fromhex(self._first("run", secrets.token_hex(16)).decode())

    def accuse(self, proof: Proof) -> None:
        """Keep a proof for groups that are founded later."""
        self._call("set", self._key(f"proofs/{self._add('proofs', 1)}"), json.dumps(proofs_to_raw([proof])))

    def accusations(self) -> list[Proof]:
        """The proofs that were kept; the same lie may be among them more than once."""
        texts = (self._get(f"proofs/{k}") for k in range(1, self._add("proofs", 0) + 1))
        return [proof for text in texts if text is not None for proof in proofs_from_raw(json.loads(text))]

    def end(self, generation: int, step: int) -> None:
        """Tell those who come too late that the last step was taken."""
        self._call("set", self._key(f"ended/{generation}"), str(step))

    def ended(self) -> int | None:
        """The number of steps with which the present group ended; None while it is at work."""
        text = self._get(f"ended/{self.generation()}")
        return None if text is None else int(text)

    def _slot(self, generation: int, slot: Slot) -> str:
        return f"slots/{generation}/{slot.step}/{slot.attempt}"

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def _add(self, name: str, amount: int) -> int:
        return int(self._call("add", self._key(name), amount))

    def _first(self, name: str, value: str) -> bytes:
        return bytes(self._call("compare_set", self._key(name), "", value))

    def _get(self, name: str) -> bytes | None:
        key = self._key(name)
        return bytes(self._call("get", key)) if self._call("check", [key]) else None

    def _call(self, method: str, *args: object) -> bytes:
        try:
            result: bytes = getattr(self._store, method)(*args)
        except RuntimeError as error:
            raise RegisterLost(
                "The store that members agree through does not answer: its process ended or cannot be reached. "
                "Start the run again from its last checkpoint, with a new store."
            ) from error
        return result


def store_at(address: str, timeout: float) -> TCPStore:
    """A client of the store at HOST:PORT.

    Raises:
        ValueError: the address is not of that form, its name does not resolve, or nobody answers there.
    """
    host, port = split(address)
    families(host)
    try:
        return TCPStore(host, port, is_master=False, timeout=timedelta(seconds=timeout))
    except RuntimeError as error:
        raise ValueError(f"No store answers at {address}. Start the run with `gradvote launch` or torchrun.") from error
