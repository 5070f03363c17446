"""The server's half of a round, without Flower's grid: ballots as bytes in, a decision and the next model out."""

import copy
import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradvote import wire
from gradvote.core import Algorithm, Context, Payload, State
from gradvote.engines.common.ballot import differ, parsed
from gradvote.engines.common.fellows import Fellows, tally_in
from gradvote.engines.common.protocol import Protocol
from gradvote.engines.flower.model import Model, Outer
from gradvote.engines.flower.records import Decided
from gradvote.staging import CPU
from gradvote.wire import Header, Kind

LOG = 64
"""Decisions that are kept, at most: a client that missed more gets the model."""


@dataclass
class FederatedServer:
    """The model, the memory of the server's half, and the last decisions. `version` counts rounds that are over.

    With `fellows` whoever calls asks first whom a round's ballots let it doubt (`heard`, `doubted_by`), and decides
    with those of the others.
    """

    algorithm: Algorithm
    seed: int
    outer: Outer
    model: Model
    history: str = field(default_factory=lambda: secrets.token_hex(8))
    version: int = 0
    momenta: list[Tensor] = field(default_factory=list)
    log: OrderedDict[int, Decided] = field(default_factory=OrderedDict)
    fellows: Fellows | None = None
    tally: Tensor | None = field(default=None, init=False)
    protocol: Protocol = field(init=False)
    memory: Sequence[State] = field(init=False)
    _known: tuple[int, float, int] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.protocol = self.model.protocol(self.algorithm, self.seed)
        self.memory = self.protocol.init_server(self.model.flat(self.protocol))
        self.tally = None if self.fellows is None else self.fellows.init()

    @property
    def doubted(self) -> frozenset[int]:
        """The workers that contradict their fellows, all rounds together."""
        return self.doubted_by(self.tally)

    def doubted_by(self, tally: Tensor | None) -> frozenset[int]:
        """The workers that contradict their fellows by this tally."""
        return frozenset() if self.fellows is None or tally is None else self.fellows.doubted(tally)

    def heard(self, ballots: Mapping[int, memoryview], lr: float) -> Tensor | None:
        """The tally of fellows with the ballots of the present round, which is given when the round is closed."""
        if self.fellows is None or self.tally is None:
            return None
        workers = sorted(ballots)
        present = [workers[place] for place in self.fellows.present(workers)]
        if not present:
            return self.tally
        read, ctxs = self._read(present, ballots, lr)
        return self.fellows.heard(self.tally, self.protocol, read, ctxs, present)

    def open(self, worker: int, message: bytes, lr: float) -> memoryview:
        """The body of a worker's ballot of the present round, where it lies in the message.

        Raises:
            WireError: it cannot be one; the sentence says why.
        """
        header = Header(Kind.BALLOT, worker, self.version, 0, self.protocol.recipe)
        body = wire.body_of(message, header)
        wire.check_length(len(body), self._length(worker, lr))
        return body

    def _length(self, worker: int, lr: float) -> int:
        """Bytes of the body of a worker's ballot; of all alike, unless its planes depend on who sends them."""
        if self._known is not None and self._known[:2] == (self.version, lr):
            return self._known[2]
        planes = self.protocol.planes(Kind.BALLOT, self.protocol.contexts(self.version, worker, lr))
        length = wire.body_bytes(planes, [len(g.blocks) for g in self.protocol.layout.groups])
        self._known = None if differ(planes) else (self.version, lr, length)
        return length

    def decide(
        self,
        ballots: Mapping[int, memoryview],
        lr: float,
        weights: Mapping[int, float] | None,
        tally: Tensor | None = None,
    ) -> Decided:
        """Close the round with the bodies of these workers' ballots, at least one, and take the step.

        `tally` is what was `heard` in it; None: that of fellows stays.
        """
        workers = sorted(ballots)
        message, ctxs = self._decision(workers, ballots, lr, weights)
        self._step(message, lr, ctxs)
        return self._close(Decided(self.version + 1, lr, message, frozenset(workers)), tally)

    def _decision(
        self, workers: list[int], bodies: Mapping[int, memoryview], lr: float, weights: Mapping[int, float] | None
    ) -> tuple[bytes, Sequence[Context]]:
        """The decision's message. The ballots are read for as long as it takes, and not beside the step."""
        ballots, ctxs = self._read(workers, bodies, lr)
        weighed = self.protocol if weights is None else _weighed(self.protocol, workers, weights)
        decision, memory = weighed.combine(ballots, self.memory, ctxs)
        message = self.protocol.send(Kind.DECISION, decision, self.protocol.planes(Kind.DECISION, ctxs), ctxs[0])
        self.memory = memory
        return message, ctxs

    def _read(
        self, workers: list[int], bodies: Mapping[int, memoryview], lr: float
    ) -> tuple[Sequence[Payload], Sequence[Context]]:
        """These workers' ballots of the present round."""
        senders = torch.tensor(workers, dtype=torch.int64, device=CPU)[:, None]
        ctxs = self.protocol.contexts(self.version, senders, lr)
        planes = self.protocol.planes(Kind.BALLOT, ctxs)
        return parsed(self.protocol, [bodies[n] for n in workers], planes, CPU), ctxs

    def close_undecided(self, lr: float, tally: Tensor | None = None) -> None:
        """Close the round without a decision: nobody's ballot counted. What was `heard` is known all the same."""
        self._close(Decided(self.version + 1, lr, b""), tally)

    def _close(self, decided: Decided, tally: Tensor | None) -> Decided:
        self.version = decided.number
        self.tally = self.tally if tally is None else tally
        self.log[decided.number] = decided
        while len(self.log) > LOG:
            self.log.popitem(last=False)
        return decided

    def since(self, version: int) -> list[Decided] | None:
        """The decisions since a version; None where the model is cheaper, or they are not known any more.

        A single one is sent whatever it costs: it may hold what clients learn beside the direction.
        """
        if not 0 <= version <= self.version:
            return None
        missed = range(version + 1, self.version + 1)
        if any(n not in self.log for n in missed):
            return None
        found = [self.log[n] for n in missed]
        whole = sum(p.numel() * p.element_size() for p in self.model.params)
        return found if len(found) < 2 or sum(len(own.message) for own in found) < whole else None

    def counted_since(self, version: int) -> list[Decided]:
        """Whose ballots counted in the rounds since a version, as far as it is known, without the decisions."""
        return [replace(own, message=b"") for number, own in self.log.items() if number > version]

    def state_dict(self) -> dict[str, object]:
        """All of it, for a checkpoint: numbers, texts and tensors."""
        log = [(d.number, d.lr, _tensor(d.message), sorted(d.counted)) for d in self.log.values()]
        arrays = {name: torch.from_numpy(np.array(own)) for name, own in self.model.arrays().items()}
        own = {"version": self.version, "history": self.history, "log": log, "momenta": self.momenta}
        asked = {"recipe": self.protocol.recipe_text, "outer": asdict(self.outer), "voted": [*self.model.names]}
        fellows = {} if self.fellows is None or self.tally is None else {"fellows": self.fellows.saved(self.tally)}
        return {**own, **asked, **fellows, "arrays": arrays, "memory": copy.deepcopy(self.memory)}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        """Continue where `state_dict` was taken.

        Raises:
            ValueError: it was taken with another algorithm, model or seed; nothing has been changed.
        """
        if state["recipe"] != self.protocol.recipe_text:
            raise ValueError(
                f"The checkpoint is of {state['recipe']}, but this strategy is {self.protocol.recipe_text}. Use the "
                "algorithm, model and seed it was saved with, or another checkpoint file."
            )
        tensors: Mapping[str, Tensor] = state["arrays"]  # type: ignore[assignment] # written by state_dict
        arrays: dict[str, NDArray[np.generic]] = {name: own.numpy() for name, own in tensors.items()}
        _check_kinds(arrays, self.model.arrays())
        tally = tally_in(self.fellows, state.get("fellows"), "strategy")
        self.model = Model(arrays, self.model.names)
        self.version, self.history = int(str(state["version"])), str(state["history"])
        self.momenta, self.memory = state["momenta"], state["memory"]  # type: ignore[assignment] # as above
        self.tally = tally
        entries: list[tuple[int, float, Tensor, list[int]]] = state["log"]  # type: ignore[assignment] # as above
        self.log = OrderedDict(
            (n, Decided(n, lr, raw.numpy().tobytes(), frozenset(own))) for n, lr, raw, own in entries
        )

    def _step(self, message: bytes, lr: float, ctxs: Sequence[Context]) -> None:
        """The step that every client takes: from the bytes they get, not from what they were made of."""
        planes = self.protocol.planes(Kind.DECISION, ctxs)
        payloads = self.protocol.receive(Kind.DECISION, message, planes, ctxs[0])
        direction, _ = self.protocol.decode(payloads, self._of_nobody(), ctxs)
        at, voted = replace(self.outer, lr=lr), self.protocol.decided(payloads)
        self.momenta = self.model.step(self.protocol, direction, voted, at, self.momenta)

    def _of_nobody(self) -> Sequence[State]:
        """A worker's state to decode with: empty, unless workers learn from decisions."""
        if self.protocol.algorithm.up.reports:
            return self.protocol.init_worker(self.model.flat(self.protocol))
        return [{} for _ in self.protocol.layout.groups]


def check_untouched(given: Mapping[str, NDArray[np.generic]], server: FederatedServer) -> None:
    """What comes back between two rounds is what was given out, or clients and server would part.

    Raises:
        ValueError: somebody has changed it, as Flower's wrappers for differential privacy do.
    """
    own = server.model.arrays()
    if given and any(name not in given or not _same(given[name], value) for name, value in own.items()):
        raise ValueError(
            "The arrays of this round are not those that the strategy gave out: a strategy around GradVote has changed "
            "them, as DifferentialPrivacyServerSideFixedClipping adds noise. Clients hear decisions, not arrays, so "
            "such noise never reaches them. Use GradVote by itself; for an account client_mod(privacy=)."
        )


def check_same_run(given: Mapping[str, NDArray[np.generic]], first: str, server: FederatedServer) -> None:
    """A strategy that starts again goes on: from what it began with (by its digest), or from what it came to.

    Raises:
        ValueError: it was given other arrays, which it would leave alone.
    """
    if digest_of_arrays(given) not in (first, digest_of_arrays(server.model.arrays())):
        raise ValueError(
            f"This strategy has a model already, after {server.version} rounds, and would go on with it, not with the "
            "arrays that start() was given now. For another run make another GradVote, with a checkpoint= file of its "
            "own; to go on, give it result.arrays."
        )


def _check_kinds(found: Mapping[str, NDArray[np.generic]], given: Mapping[str, NDArray[np.generic]]) -> None:
    """Raise ValueError where a checkpoint's arrays are not of the names, types and shapes that were given."""
    kinds, expected = ({name: f"{x.dtype} {x.shape}" for name, x in own.items()} for own in (found, given))
    odd = sorted(name for name in kinds.keys() | expected.keys() if kinds.get(name) != expected.get(name))
    if odd:
        raise ValueError(
            f"The checkpoint has {odd[0]!r} as {kinds.get(odd[0], 'none')}, but the initial arrays as "
            f"{expected.get(odd[0], 'none')}. Give the model that it was saved with, or another checkpoint file."
        )


def digest_of_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    """A name of these arrays, bit by bit."""
    hasher = hashlib.blake2b(digest_size=16)
    for name, own in arrays.items():
        hasher.update(repr((name, own.shape, own.dtype.str)).encode() + own.tobytes())
    return hasher.hexdigest()


def _same(one: NDArray[np.generic], other: NDArray[np.generic]) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def _weighed(protocol: Protocol, workers: list[int], weights: Mapping[int, float]) -> Protocol:
    """The protocol whose rule weighs these workers so."""
    each = tuple(weights.get(n, 0.0) if n in workers else 0.0 for n in range(max(workers) + 1))
    rule: Any = protocol.algorithm.aggregate
    rule = replace(rule, weights=each)
    return replace(protocol, algorithm=replace(protocol.algorithm, aggregate=rule))


def _tensor(message: bytes) -> Tensor:
    """Bytes as torch's own loader takes them."""
    return torch.from_numpy(np.frombuffer(message, np.uint8).copy())
