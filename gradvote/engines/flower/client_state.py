"""What a client keeps from one message to the next: its copy of the model, its memory, and the ballot on its way.

Flower keeps it in `Context.state`, which lives as long as a run; with a folder it is in a file, too, for the next run.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from flwr.app import ConfigRecord, RecordDict
from numpy.typing import NDArray
from torch import Tensor

from gradvote.core import Algorithm, State
from gradvote.engines.common.protocol import Protocol
from gradvote.engines.flower import leaves
from gradvote.engines.flower.model import Model, Outer, numpy_of, record_of
from gradvote.engines.flower.records import NAME, Call, Decided
from gradvote.wire import Kind

Arrays = dict[str, NDArray[np.generic]]
KEPT, FACTS = f"{NAME}.kept", f"{NAME}.facts"
FORMAT = 1


@dataclass(frozen=True)
class CastBallot:
    """A ballot of which it is not known yet whether it counted; `metrics` went with it, as JSON."""

    number: int
    lr: float
    message: bytes
    metrics: str


@dataclass
class ClientState:
    """One client's half. `secret` keys its private draws; None: derived from the seed, reproducible, no privacy."""

    worker: int
    history: str
    secret: bytes | None
    protocol: Protocol | None = None
    model: Model | None = None
    version: int = -1
    momenta: list[Tensor] = field(default_factory=list)
    memory: Sequence[State] = field(default_factory=list)
    pending: CastBallot | None = None
    releases: int = 0
    """Ballots under an account of privacy so far."""

    def adopt(self, model: Model, momenta: list[Tensor], version: int, protocol: Protocol, counted: bool) -> None:
        """Take over a whole model. A ballot on its way stays unsent, unless it is known to have `counted`."""
        if self.pending is not None and self.pending.number <= version:
            self._settle(counted)
        if self.model is not None:
            model.others = self.model.others
        if self.protocol is None:
            self.memory = protocol.init_worker(model.flat(protocol))
        self.model, self.momenta, self.version, self.protocol = model, momenta, version, protocol

    def hear(self, decided: Decided, outer: Outer) -> None:
        """Take the step of the next round."""
        assert self.model is not None and self.protocol is not None and decided.number == self.version + 1
        if self.pending is not None:
            own = self.pending.number == decided.number and self.worker in decided.counted
            self._settle(counted=own)
        if decided.message:
            ctxs = self.protocol.contexts(decided.number - 1, self.worker, decided.lr, secret=self.secret)
            planes = self.protocol.planes(Kind.DECISION, ctxs)
            payloads = self.protocol.receive(Kind.DECISION, decided.message, planes, ctxs[0])
            direction, self.memory = self.protocol.decode(payloads, self.memory, ctxs)
            at = replace(outer, lr=decided.lr)
            voted = self.protocol.decided(payloads)
            self.momenta = self.model.step(self.protocol, direction, voted, at, self.momenta)
        self.version = decided.number

    def vote(self, update: Tensor, call: Call, metrics: str) -> bytes:
        """The ballot on an update (d,)."""
        assert self.protocol is not None
        ctxs = self.protocol.contexts(call.number - 1, self.worker, call.lr, secret=self.secret)
        payloads, self.memory = self.protocol.encode(update, self.memory, ctxs)
        message = self.protocol.send(Kind.BALLOT, payloads, self.protocol.planes(Kind.BALLOT, ctxs), ctxs[0])
        self.pending = CastBallot(call.number, call.lr, message, metrics)
        return message

    def _settle(self, counted: bool) -> None:
        """What became of the ballot on its way."""
        assert self.protocol is not None and self.pending is not None
        last, self.pending = self.pending, None
        if not counted:
            ctxs = self.protocol.contexts(last.number - 1, self.worker, last.lr, secret=self.secret)
            planes = self.protocol.planes(Kind.BALLOT, ctxs)
            payloads = self.protocol.receive(Kind.BALLOT, last.message, planes, ctxs[0])
            self.memory = self.protocol.undelivered(self.memory, payloads, ctxs)

    def saved(self) -> tuple[Arrays, str]:
        """Arrays, and the rest as JSON."""
        arrays: Arrays = {f"memory.{name}": raw for name, raw in leaves.saved(self.memory).items()}
        arrays |= {f"momentum.{i}": own.numpy() for i, own in enumerate(self.momenta)}
        facts: dict[str, Any] = {"format": FORMAT, "worker": self.worker, "history": self.history}
        facts |= {"version": self.version, "secret": None if self.secret is None else self.secret.hex()}
        facts["releases"] = self.releases
        if self.model is not None:
            arrays |= {f"model.{name}": array for name, array in self.model.arrays().items()}
            facts["voted"] = [*self.model.names]
        if self.pending is not None:
            arrays["ballot"] = np.frombuffer(self.pending.message, np.uint8)
            facts["pending"] = [self.pending.number, self.pending.lr, self.pending.metrics]
        return arrays, json.dumps(facts)

    @staticmethod
    def loaded(arrays: Mapping[str, NDArray[np.generic]], text: str, algorithm: Algorithm, seed: int) -> "ClientState":
        """The inverse of `saved`.

        Raises:
            ValueError: it was saved by another version, or with another algorithm.
        """
        facts = json.loads(text)
        if facts.get("format") != FORMAT:
            raise ValueError(f"A client's file of format {facts.get('format')} was found; {FORMAT} was expected.")
        secret = None if facts["secret"] is None else bytes.fromhex(facts["secret"])
        state = ClientState(facts["worker"], facts["history"], secret, version=facts["version"])
        state.releases = facts["releases"]
        own = {name.removeprefix("model."): x for name, x in arrays.items() if name.startswith("model.")}
        if own:
            state.model = Model(own, facts["voted"])
            state.protocol = state.model.protocol(algorithm, seed)
            memory = {
                k.removeprefix("memory."): np.asarray(v, np.uint8) for k, v in arrays.items() if k[:7] == "memory."
            }
            state.memory = leaves.loaded(state.protocol.init_worker(state.model.flat(state.protocol)), memory)
            count = sum(name.startswith("momentum.") for name in arrays)
            state.momenta = [torch.from_numpy(np.array(arrays[f"momentum.{i}"])) for i in range(count)]
        if "pending" in facts:
            number, lr, metrics = facts["pending"]
            state.pending = CastBallot(number, lr, arrays["ballot"].tobytes(), metrics)
        return state


def keep(state: ClientState, records: RecordDict, file: Path | None) -> None:
    """Keep a state in a client's records, and in a file where one is given: whole or not at all."""
    arrays, facts = state.saved()
    records[KEPT], records[FACTS] = record_of(arrays), ConfigRecord({"facts": facts})
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".new")
        with beside.open("wb") as out:
            np.savez(out, facts=np.frombuffer(facts.encode(), np.uint8), **arrays)  # type: ignore[arg-type] # numpy's stub takes the names for its own options
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)


def kept(records: RecordDict, file: Path | None, algorithm: Algorithm, seed: int) -> ClientState | None:
    """The state that was kept last; None at the first message."""
    if KEPT in records.array_records:
        facts = str(records.config_records[FACTS]["facts"])
        return ClientState.loaded(numpy_of(records.array_records[KEPT]), facts, algorithm, seed)
    if file is None or not file.is_file():
        return None
    try:
        with np.load(file, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
    except (ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{file.name} in the folder of client_mod cannot be read: {error}") from error
    return ClientState.loaded(arrays, arrays.pop("facts").tobytes().decode(), algorithm, seed)
