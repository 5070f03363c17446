"""What an exchange will cost: bytes, seconds, and whether compression pays at all.

Exchange of d coordinates among M ranks, u and v the bits per coordinate up and down, B the goodput of each rank's link
in each direction, L the latency:

    sharded      (M−1)/M·d(u+v)/B + 2L      central     (M−1)·d(u+v)/B + 2L
    replicated   (M−1)·d·u/B + 2L           all-reduce  2(M−1)/M·32d/B + 2(M−1)L

and the work of encoding, combining and decoding, which overlaps with the wire except at the ends, where one chunk, a
share f of all, is worked on or travels alone: max(wire, work) + f·min(wire, work), for the number of chunks with which
that is least; each chunk costs its calls, too, whatever its size. With S shards to a worker each of its ranks exchanges
d/S coordinates, and they share the worker's link. A step is a third of the computation (forward), then the longer of
backward pass and exchange; votes of shards begin when the backward pass has ended. After H local steps a step is the
computation and 1/H of the rounds of P fragments of d/P coordinates, each but for what τ steps of delay hide:
compute + P/H·max(exchange − τ·compute, 0). What it needs in memory: `gradvote.lab.memory`.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from gradvote import algorithms
from gradvote.core import Algorithm, Codec, Context
from gradvote.engines.common.flat_buffer import Decode
from gradvote.engines.common.part import edge_share, part_of
from gradvote.engines.common.placement import PLACEMENTS, served
from gradvote.engines.common.protocol import Protocol
from gradvote.engines.distributed.chunking import numbers_for
from gradvote.engines.distributed.part_round import PartRound, RankRound
from gradvote.engines.distributed.pipeline import is_wide
from gradvote.engines.distributed.seat import seat_of
from gradvote.engines.distributed.transport import Mail
from gradvote.lab.memory import NOTHING, Memory, memory
from gradvote.layout import Layout, layout_of
from gradvote.staging import CPU
from gradvote.wire import joined

GOODPUT = 1448 / 1514
BACKWARD = 2 / 3
ALL_REDUCE = "all-reduce"
SAMPLE = 1 << 22
SMALLER = 128
"""By what a round is smaller whose time is nearly all calls."""
REPEATS = 9
"""The median counts: where ranks share cores, the best of them is a lucky one."""
FEWER = 5
"""So many times as often for the small round: its calls take about a millisecond, which a pause would double."""
TINY = 0.01
BLOCK = 16384
DEFAULT = ("signsgd", "dropsignsgd", "dist-ef-sgdm", "ef-signsgd")


@dataclass(frozen=True)
class Link:
    """Each rank's own link: bits per second in each direction, and one-way latency in seconds.

    `overlaps`: votes travel during the backward pass.
    """

    bandwidth: float
    latency: float = 0.0
    overlaps: bool = True


@dataclass(frozen=True)
class Work:
    """Seconds per coordinate: of each rank to make a ballot and read a decision, and of the server for each ballot.

    `chunk` are those of each chunk's calls, whatever its size. The bytes are written and read, but not sent.
    """

    worker: float
    server: float
    chunk: float = 0.0


@dataclass(frozen=True)
class Prediction:
    """One way to exchange: bytes that the busiest rank sends, seconds, and what it needs in memory (`lab.memory`)."""

    name: str
    placement: str
    bytes_sent: float
    wire: float
    work: float
    exchange: float
    step: float
    memory: Memory = NOTHING


@dataclass(frozen=True)
class Plan:
    """All predictions, fastest step first."""

    predictions: tuple[Prediction, ...]

    @property
    def best(self) -> Prediction:
        """The fastest."""
        return self.predictions[0]

    @property
    def baseline(self) -> Prediction:
        """The float32 all-reduce."""
        return next(p for p in self.predictions if p.name == "fp32")

    @property
    def pays(self) -> bool:
        """Whether a vote beats every all-reduce by more than a tenth of the step, which the model's error may hide."""
        plain = min(p.step for p in self.predictions if p.placement == ALL_REDUCE)
        return self.best.step < 0.9 * plain


def predict(
    params: int,
    workers: int,
    link: Link,
    compute: float = 0.0,
    names: Sequence[str] | Mapping[str, Algorithm] = DEFAULT,
    placements: Sequence[str] = PLACEMENTS,
    work: Mapping[str, Work] | None = None,
    slowdown: float = 1.0,
    every: int = 1,
    shards: int = 1,
    fragments: int = 1,
    delay: int = 0,
) -> Plan:
    """The predicted step for each algorithm and placement, and for all-reduces in float32 and float16.

    `names` are those of the catalogue, or algorithms by name. `compute` is the seconds of forward and backward pass;
    `work` what `measure` found, measured here where it is None; `slowdown` multiplies it, for ranks that share cores.
    With `every` above 1 the algorithms exchange after as many local steps, and a step has its share of a round, behind
    the computation; all-reduces stay at every step. `fragments` and `delay` are as in `gradvote.local_steps`; bytes and
    the exchange are those of one fragment.
    With `shards` each worker is so many ranks, which share its link; bytes are those of one rank.

    Raises:
        ValueError: a count is not positive, or an algorithm unknown.
    """
    check_plan(params, workers, link, compute, every, shards, fragments, delay)
    params, link = -(-params // shards), replace(link, bandwidth=link.bandwidth / shards, overlaps=shards == 1)
    made = dict(names) if isinstance(names, Mapping) else {name: algorithms.create(name) for name in names}
    work = work or {name: measure(algorithm) for name, algorithm in made.items()}
    rows = [_all_reduce(f"fp{bits}", bits, params, workers, link, compute) for bits in (32, 16)]
    part = -(-params // fragments)
    for name, algorithm in made.items():
        up, down = bits_of(algorithm)
        for placement in placements:
            busy = _work(work[name], placement, part, workers) * slowdown, work[name].chunk * slowdown
            wide = placement != "replicated" and is_wide(algorithm)
            row = _voted(name, placement, (up, down), part, workers, link, busy, compute, wide)
            waited = max(row.exchange - delay * compute, 0.0) * fragments / every
            row = row if every == 1 else replace(row, step=compute + waited)
            rows.append(replace(row, memory=memory(algorithm, params, workers, placement, (up, down))))
    return Plan(tuple(sorted(rows, key=lambda p: p.step)))


def check_plan(
    params: int, workers: int, link: Link, compute: float, every: int, shards: int, fragments: int, delay: int
) -> None:
    """Raise ValueError for what cannot be planned: asked before anything is measured."""
    if params < 1 or workers < 2 or link.bandwidth <= 0 or link.latency < 0 or compute < 0:
        raise ValueError(
            "A plan needs at least 1 parameter and 2 workers, a positive bandwidth, and no negative times; got "
            f"params={params}, workers={workers}, bandwidth={link.bandwidth:g} bit/s, latency={link.latency:g} s, "
            f"compute={compute:g} s."
        )
    if shards < 1:
        raise ValueError(f"A worker has at least one shard; got shards={shards}.")
    if every < 1:
        raise ValueError(f"A round comes after at least 1 local step; got every={every}.")
    if not 1 <= fragments <= every:
        raise ValueError(f"Fragments take turns within the {every} steps of a round; got fragments={fragments}.")
    if not 0 <= delay < max(every // fragments, 1):
        raise ValueError(
            f"A fragment's round is back before the next one is sent, {every // fragments} steps later; got "
            f"delay={delay}."
        )


def bits_of(algorithm: Algorithm, blocks: int = 8) -> tuple[float, float]:
    """Bits per coordinate up and down, flags and scales included, for large tensors."""
    ctx = Context(0, 0, torch.arange(blocks), 0)
    n = min(algorithm.block_size or BLOCK, BLOCK)
    return _bits(algorithm.up, ctx, blocks, n), _bits(algorithm.down, ctx.as_server(), blocks, n)


def measure(algorithm: Algorithm, d: int = SAMPLE, workers: int = 2) -> Work:
    """The work per coordinate on this machine, with the threads that torch now has, from rounds of two sizes."""
    few = max(d // SMALLER, 1)
    (worker, server), (calls, serving) = (
        _round_seconds(algorithm, size, workers, repeats) for size, repeats in ((d, REPEATS), (few, FEWER * REPEATS))
    )
    chunk = max((calls + serving - few / d * (worker + server)) / (1 - few / d), 0.0) if d > few else 0.0
    chunk = min(chunk, calls + serving)
    rest = max(1 - chunk / (worker + server), TINY)
    return Work(worker * rest / d, server * rest / d, chunk)


def _round_seconds(algorithm: Algorithm, d: int, workers: int, repeats: int) -> tuple[float, float]:
    """What a rank works as worker, and as the server of its shard, in a round of d coordinates."""
    protocol = Protocol(algorithm, layout_of([d], algorithm.block_size), 0)
    part = part_of(protocol, protocol.layout, served(protocol.layout, "sharded", workers))
    flat, direction = torch.randn(d), torch.empty(d)
    seats = [seat_of(part, rank, CPU, CPU, ({}, {})) for rank in range(workers)]

    def update(layout: Layout) -> Tensor:
        return flat[: layout.size]

    def write(layout: Layout, decode: Decode) -> None:
        decode(direction[: layout.size])

    def fresh(rank: int) -> PartRound:
        return PartRound(seats[rank], RankRound(0, rank, workers))

    rounds = [fresh(rank) for rank in range(workers)]
    ballots = _posted([each.vote(update) for each in rounds])
    decisions = _posted([each.decide(own) for each, own in zip(rounds, ballots, strict=True)])

    def once() -> tuple[float, float]:
        own, started = fresh(0), time.perf_counter()
        own.vote(update)
        voted = time.perf_counter()
        own.decide(ballots[0])
        decided = time.perf_counter()
        own.hear(decisions[0])
        own.read(write)
        ended = time.perf_counter()
        return ended - decided + voted - started, decided - voted

    found = [once() for _ in range(repeats)]
    return median(worker for worker, _ in found), median(server for _, server in found)


def _posted(mails: Sequence[Mail]) -> list[list[Tensor]]:
    """What each rank gets from all."""
    return [[_joined(mail.messages[rank]) for mail in mails] for rank in range(len(mails))]


def _joined(message: Sequence[Tensor]) -> Tensor:
    return joined(message) if message else torch.empty(0, dtype=torch.uint8)


def _voted(
    name: str,
    placement: str,
    bits: tuple[float, float],
    params: int,
    workers: int,
    link: Link,
    work: tuple[float, float],
    compute: float,
    wide: bool = False,
) -> Prediction:
    """`work` are the seconds for all coordinates, and those of each chunk; `wide`: few chunks are there at once."""
    peers = workers - 1
    share = peers / workers if placement == "sharded" else peers
    sent = params * (bits[0] * peers if placement == "replicated" else share * sum(bits))
    wire = sent / (link.bandwidth * GOODPUT)
    exchange, busy = min(_overlapped(wire, work, chunks) for chunks in numbers_for(params, wide))
    exchange += 2 * link.latency
    step = _step(exchange, compute) if link.overlaps else compute + exchange
    return Prediction(name, placement, sent / 8, wire, busy, exchange, step)


def _overlapped(wire: float, work: tuple[float, float], chunks: int) -> tuple[float, float]:
    """The seconds of an exchange in so many chunks, and those of the work."""
    busy = work[0] + chunks * work[1]
    return max(wire, busy) + min(wire, busy) * edge_share(chunks), busy


def _all_reduce(name: str, bits: int, params: int, workers: int, link: Link, compute: float) -> Prediction:
    sent = 2 * (workers - 1) / workers * bits * params
    wire = sent / (link.bandwidth * GOODPUT)
    exchange = wire + 2 * (workers - 1) * link.latency
    return Prediction(name, ALL_REDUCE, sent / 8, wire, 0.0, exchange, _step(exchange, compute))


def _step(exchange: float, compute: float) -> float:
    return (1 - BACKWARD) * compute + max(BACKWARD * compute, exchange)


def _work(work: Work, placement: str, params: int, workers: int) -> float:
    served = params / workers if placement == "sharded" else params
    return work.worker * params + work.server * workers * served


def _bits(codec: Codec, ctx: Context, blocks: int, n: int) -> float:
    rows = [(p.dtype.itemsize * 8, torch.as_tensor(p.row, dtype=torch.float64)) for p in codec.planes(n, ctx)]
    return (sum(float(size * row.expand(blocks).mean()) for size, row in rows) + 1) / n
