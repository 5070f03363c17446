"""What an exchange will cost: bytes, seconds, and whether compression pays at all.

Exchange of d coordinates among M ranks, u and v the bits per coordinate up and down, B the goodput of each rank's link
in each direction, L the latency:

    sharded      (M−1)/M·d(u+v)/B + 2L      central     (M−1)·d(u+v)/B + 2L
    replicated   (M−1)·d·u/B + 2L           all-reduce  2(M−1)/M·32d/B + 2(M−1)L

and the work of encoding, combining and decoding, which overlaps with the wire except at the ends, where one chunk, a
share f of all, is worked on or travels alone: max(wire, work) + f·min(wire, work). A step is a third of the computation
(forward), then the longer of backward pass and exchange.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from gradvote import algorithms, wire
from gradvote.core import Algorithm, Codec, Context
from gradvote.engines.common.part import edge_share
from gradvote.engines.common.placement import PLACEMENTS
from gradvote.engines.common.protocol import Protocol
from gradvote.engines.distributed.chunking import CHUNK, MAX_CHUNKS
from gradvote.layout import layout_of
from gradvote.wire import Kind

GOODPUT = 1448 / 1514
BACKWARD = 2 / 3
ALL_REDUCE = "all-reduce"
SAMPLE = 1 << 22
BLOCK = 16384
DEFAULT = ("signsgd", "dropsignsgd", "dist-ef-sgdm", "ef-signsgd")


@dataclass(frozen=True)
class Link:
    """Each rank's own link: bits per second in each direction, and one-way latency in seconds."""

    bandwidth: float
    latency: float = 0.0


@dataclass(frozen=True)
class Work:
    """Seconds per coordinate: of each rank to make a ballot and read a decision, and of the server for each ballot.

    The bytes are written and read, but not sent.
    """

    worker: float
    server: float


@dataclass(frozen=True)
class Prediction:
    """One way to exchange: bytes that the busiest rank sends, and seconds."""

    name: str
    placement: str
    bytes_sent: float
    wire: float
    work: float
    exchange: float
    step: float


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
) -> Plan:
    """The predicted step for each algorithm and placement, and for all-reduces in float32 and float16.

    `names` are those of the catalogue, or algorithms by name. `compute` is the seconds of forward and backward pass;
    `work` what `measure` found, measured here where it is None; `slowdown` multiplies it, for ranks that share cores.

    Raises:
        ValueError: a count is not positive, or an algorithm unknown.
    """
    if params < 1 or workers < 2 or link.bandwidth <= 0 or link.latency < 0 or compute < 0:
        raise ValueError(
            "A plan needs at least 1 parameter and 2 workers, a positive bandwidth, and no negative times; got "
            f"params={params}, workers={workers}, {link}, compute={compute}."
        )
    made = dict(names) if isinstance(names, Mapping) else {name: algorithms.create(name) for name in names}
    work = work or {name: measure(algorithm) for name, algorithm in made.items()}
    rows = [_all_reduce(f"fp{bits}", bits, params, workers, link, compute) for bits in (32, 16)]
    for name, algorithm in made.items():
        up, down = bits_of(algorithm)
        for placement in placements:
            busy = _work(work[name], placement, params, workers) * slowdown
            rows.append(_voted(name, placement, (up * params, down * params), workers, link, busy, compute))
    return Plan(tuple(sorted(rows, key=lambda p: p.step)))


def bits_of(algorithm: Algorithm, blocks: int = 8) -> tuple[float, float]:
    """Bits per coordinate up and down, flags and scales included, for large tensors."""
    ctx = Context(0, 0, torch.arange(blocks), 0)
    return _bits(algorithm.up, ctx, blocks), _bits(algorithm.down, ctx.as_server(), blocks)


def measure(algorithm: Algorithm, d: int = SAMPLE, workers: int = 2) -> Work:
    """The work per coordinate on this machine, with the threads that torch now has."""
    protocol = Protocol(algorithm, layout_of([d], algorithm.block_size), 0)
    states, server = protocol.init_worker(torch.zeros(d)), protocol.init_server(torch.zeros(d))
    update, direction = torch.randn(d), torch.empty(d)

    def own() -> Sequence[Context]:
        return protocol.contexts(0, 0, 1.0)

    def everyone() -> Sequence[Context]:
        return protocol.contexts(0, torch.arange(workers)[:, None], 1.0)

    def vote() -> Tensor:
        ctxs = own()
        return wire.pack(protocol.encode(update, states, ctxs)[0], protocol.planes(Kind.BALLOT, ctxs))

    def announce() -> Tensor:
        ctxs = everyone()
        return wire.pack(protocol.combine(batch, server, ctxs)[0], protocol.planes(Kind.DECISION, ctxs))

    def hear() -> None:
        ctxs = own()
        protocol.decode(
            protocol.parse(Kind.DECISION, decision, protocol.planes(Kind.DECISION, ctxs)), states, ctxs, direction
        )

    _, states = protocol.encode(update, states, own())
    batch, _ = protocol.encode(update.expand(workers, d), protocol.init_worker(torch.zeros(workers, d)), everyone())
    ballot, decision, planes = vote(), announce(), protocol.planes(Kind.BALLOT, own())
    opened = _seconds(lambda: protocol.parse(Kind.BALLOT, ballot, planes))
    return Work((_seconds(vote) + _seconds(hear)) / d, (_seconds(announce) / workers + opened) / d)


def _voted(
    name: str,
    placement: str,
    bits: tuple[float, float],
    workers: int,
    link: Link,
    work: float,
    compute: float,
) -> Prediction:
    peers = workers - 1
    share = peers / workers if placement == "sharded" else peers
    sent = bits[0] * peers if placement == "replicated" else share * sum(bits)
    wire = sent / (link.bandwidth * GOODPUT)
    chunks = min(max(int(bits[1]) // CHUNK, 1), MAX_CHUNKS)
    exchange = max(wire, work) + min(wire, work) * edge_share(chunks) + 2 * link.latency
    return Prediction(name, placement, sent / 8, wire, work, exchange, _step(exchange, compute))


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


def _bits(codec: Codec, ctx: Context, blocks: int) -> float:
    rows = [(p.dtype.itemsize * 8, torch.as_tensor(p.row, dtype=torch.float64)) for p in codec.planes(BLOCK, ctx)]
    return (sum(float(size * row.expand(blocks).mean()) for size, row in rows) + 1) / BLOCK


def _seconds(action: Callable[[], object]) -> float:
    """The median of five: where ranks share cores, the best of them is a lucky one."""
    found = []
    for _ in range(5):
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return median(found)
