"""Every entry of the table of shortcuts gives the bits of the plain way: over all samples of its types, and algorithms.

`fast_paths.off()` is the plain way. That an entry serves at all, and none does within `off`, is tested as well.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from gradvote import core
from gradvote.aggregators import MajorityVote, Mean
from gradvote.codecs import Dense, ErrorFeedback, Masked, Sign, WrapperCodec, chain, fast_paths
from gradvote.core import Aggregator, Algorithm, Codec, Context, Payload, State, Transform, Units
from gradvote.transforms import Noise
from tests.contract.parts import (
    AGGREGATORS,
    ALGORITHMS,
    CODECS,
    TRANSFORMS,
    blanked,
    context,
    same,
    senders,
    updates,
)

M, B = 4, 3
SIZES = (1, 65)
UNITS = Units(27, torch.tensor([0, 5, 26]))
"""Of the blocks' zeros."""


def at(step: int, lr: float = 0.1) -> Context:
    return context(senders(M), B, step, lr, units=UNITS)


def gradients(n: int, step: int) -> Tensor:
    """With units of zeros, an infinity, a number too large for a memory, and, once, a block that nobody can send."""
    x = blanked(updates(M, B, n, seed=step), UNITS, step)
    if step:
        x[0, 1, n // 2], x[1, 2, 0] = torch.inf, 3e38
    if step == 2:
        x[:, 0, 0] = torch.nan
    return x


def alike(a: Any, b: Any) -> bool:
    """The same bits, all through payloads and states; of a block without its flag there is nothing to compare."""
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, Payload):
        return same(a.valid, b.valid) and same(_said(a), _said(b))
    return same(a, b)


def _said(payload: Payload) -> dict[str, Tensor]:
    return {name: plane[payload.valid] for name, plane in payload.planes.items()}


@contextmanager
def counted() -> Iterator[dict[tuple[object, ...], int]]:
    """How often each entry serves."""
    served = dict.fromkeys(fast_paths.TABLE, 0)

    def counting(key: tuple[object, ...], way: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: object) -> Any:
            found = way(*args)
            served[key] += found is not None
            return found

        return run

    with pytest.MonkeyPatch.context() as patch:
        for key, way in fast_paths.TABLE.items():
            patch.setitem(core.SHORTCUTS, key, counting(key, way))
        yield served


def encoded(codec: Codec) -> Iterator[tuple[Payload, State]]:
    """Payloads and states of four rounds, at other rates, among them zero."""
    for n in SIZES:
        state = codec.init(torch.zeros(M, B, n))
        for step, lr in enumerate((0.1, 0.05, 0.0, 0.2)):
            payload, state = codec.encode(gradients(n, step), deepcopy(state), at(step, lr))
            yield payload, state


@functools.cache
def ballots(codec: Codec, n: int) -> Payload:
    """Of two of three blocks, from most workers."""
    payload, _ = codec.encode(gradients(n, 0), codec.init(torch.zeros(M, B, n)), at(0))
    valid = torch.rand(M, B, generator=torch.Generator().manual_seed(n)) < 0.7
    valid[:, 2] = False
    return Payload(payload.valid & valid, payload.planes)


def reduced(codec: Codec, rule: Aggregator) -> Iterator[Tensor]:
    for n in SIZES:
        yield codec.reduce(ballots(codec, n), rule, at(0), n)


def combined(algorithm: Algorithm) -> Iterator[tuple[Tensor, Tensor, State]]:
    """A decision by its flags and what it stands for: bits in units of zeros say nothing."""
    for n in SIZES:
        state = algorithm.down.init(torch.zeros(B, n))
        decision, state = algorithm.combine(ballots(algorithm.up, n), state, at(0), n)
        yield decision.valid, algorithm.down.decode(decision, at(0).as_server(), n), state


def decoded(codec: Codec) -> Iterator[Tensor]:
    """Written over NaN, beside what must stay."""
    for n in SIZES:
        payload, _ = codec.encode(gradients(n, 1)[0], codec.init(torch.zeros(B, n)), at(1).as_server())
        expected = codec.decode(payload, at(1).as_server(), n)
        around = expected.new_full((B, n + 2), 7.0)
        around[..., 1:-1] = torch.nan
        out, _ = Algorithm(Sign(), Mean(), codec).decode(payload, {}, at(1), n, around[..., 1:-1])
        assert same(out, expected) and same(out, around[..., 1:-1])
        yield around


def chained(transform: Transform, codec: Codec) -> Iterator[tuple[Payload, State]]:
    yield from encoded(chain(transform, codec))


def remembered(memory: ErrorFeedback, codec: Codec) -> Iterator[tuple[Payload, State]]:
    yield from encoded(ErrorFeedback(codec, memory.track_lr))


CASES: dict[object, Callable[..., Iterator[Any]]] = {
    "transform and encode": chained,
    "encode": remembered,
    "reduce": reduced,
    "combine": lambda up, rule, down: combined(Algorithm(up, rule, down)),
    "decode into": decoded,
}
"""How what the table says is done; a new word for it needs a line here."""


def samples(kind: object) -> list[Any]:
    """Those that a server can have, too: it is nobody among the workers."""
    known: dict[Any, list[Any]] = {**TRANSFORMS, **CODECS, **AGGREGATORS}
    return [part for part in known[kind] if "PerWorker" not in repr(part)]


def named(entry: tuple[object, ...]) -> str:
    return "-".join(str(getattr(part, "__name__", part)).replace(" ", "_") for part in entry)


@pytest.mark.parametrize("entry", fast_paths.TABLE, ids=named)
def test_an_entry_gives_the_bits_of_the_plain_way(entry: tuple[object, ...]) -> None:
    run, served = CASES[entry[0]], 0
    for parts in product(*map(samples, entry[1:])):
        with counted() as count:
            fast = list(run(*parts))
        if not count[entry]:
            continue
        served += 1
        with counted() as count, fast_paths.off():
            plain = list(run(*parts))
        assert not any(count.values())
        assert len(fast) == len(plain) and all(map(alike, fast, plain)), parts
    assert served, f"It never serves; give a sample for which it does, or remove it: {entry}."


@pytest.mark.parametrize("name", ALGORITHMS)
def test_rounds_of_algorithms_have_the_bits_of_the_plain_way(name: str) -> None:
    with counted() as count:
        fast = list(rounds(ALGORITHMS[name]))
    with fast_paths.off():
        assert all(map(alike, fast, rounds(ALGORITHMS[name])))
    assert any(count.values()) or "sign" not in name


def rounds(algorithm: Algorithm) -> Iterator[tuple[Any, ...]]:
    n = SIZES[-1]
    worker, server = algorithm.up.init(torch.zeros(M, B, n)), algorithm.down.init(torch.zeros(B, n))
    for step in range(4):
        ctx = at(step)
        payload, worker = algorithm.encode(gradients(n, step), worker, ctx)
        decision, server = algorithm.combine(payload, server, ctx, n)
        direction, worker = algorithm.decode(decision, worker, ctx, n, torch.full((B, n), torch.nan))
        told = {plane.name: decision[plane.name] for plane in algorithm.up.reports}
        yield deepcopy((payload, decision.valid, told, direction, worker, server))


@pytest.mark.parametrize("kind", CODECS, ids=lambda k: k.__name__)
def test_decoding_into_a_tensor_is_decoding(kind: type[Codec]) -> None:
    for codec in samples(kind):
        with fast_paths.off():
            plain = list(decoded(codec))
        assert all(map(alike, decoded(codec), plain))


def test_votes_on_plain_signs_are_elected() -> None:
    def elected(up: Codec, rule: Aggregator, down: Codec) -> bool:
        with counted() as count:
            list(combined(Algorithm(up, rule, down)))
        return any(count[entry] for entry in count if entry[0] == "combine")

    for up in (Sign(), Sign(zero="abstain"), Masked(0.5, Sign()), Sign(still=True), chain(Noise(0.1), Sign())):
        assert elected(up, MajorityVote(), Sign()) and elected(up, MajorityVote(still=True), Sign(still=True))
        assert elected(ErrorFeedback(up), MajorityVote(), Sign())
        assert not elected(up, Mean(), Sign()) and not elected(up, MajorityVote("abstain"), Sign())
        assert not elected(up, MajorityVote(), Sign("l1")) and not elected(up, MajorityVote(still=True), Sign())


class Halved(Sign):
    """Signs that read other numbers than they were given."""

    def decode_kept_into(self, payload: Payload, keep: Tensor | None, ctx: Context, n: int, out: Tensor) -> None:
        super().decode_kept_into(payload, keep, ctx, n, out)
        out /= 2


@dataclass(frozen=True)
class Doubled(WrapperCodec):
    """A wrapper that adds to what is read."""

    codec: Codec

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        payload, inner = self.codec.encode(x, state["inner"], ctx)
        return payload, {"inner": inner}

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        return self.codec.decode(payload, ctx, n) * 2


class LastWord(MajorityVote):
    """A rule that is none."""

    def __call__(self, x: Tensor, valid: Tensor, ctx: Context) -> Tensor:
        return x[-1]


class Louder(Noise):
    def __call__(self, x: Tensor, state: State, ctx: Context) -> tuple[Tensor, State]:
        return x * -1, state


@pytest.mark.parametrize(
    ("up", "rule", "down"),
    [
        (Halved(), Mean(), Dense()),
        (Masked(0.5, Halved()), Mean(), Masked(0.5, Halved())),
        (Doubled(Sign()), Mean(), Doubled(Sign())),
        (chain(Noise(0.1), Doubled(Sign("l1"))), Mean(), ErrorFeedback(Doubled(Sign()))),
        (Sign(), LastWord(), Sign()),
        (chain(Louder(0.1), Sign()), MajorityVote(), Halved()),
        (ErrorFeedback(Halved()), Mean(), ErrorFeedback(Masked(0.5, Halved()))),
    ],
    ids=repr,
)  # fmt: skip
def test_no_shortcut_goes_around_what_a_part_of_somebody_else_changes(up: Codec, rule: Aggregator, down: Codec) -> None:
    fast = list(rounds(Algorithm(up, rule, down)))
    with fast_paths.off():
        assert all(map(alike, fast, rounds(Algorithm(up, rule, down))))
