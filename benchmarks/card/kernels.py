"""Each kernel at the size of a ResNet-50 and of a small GPT-2: bandwidth over the copy's, and rivals.

The bytes of a kernel are those that it cannot do without: each input read once, each output written once. A time is
kept only if the result on the card has the bits of the same kernel on the processor.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from card.rivals import CUPY, eager_memory, eager_noisy, eager_pack, eager_unpack, eager_vote
from card.timing import Time, copies, time_of
from gradvote import kernels
from gradvote.kernels import Inertia
from gradvote.layout import layout_of
from gradvote.rng import Draw

BLOCK, WORDS = 16384, 256
SIZES = {"25.6M": 1563, "124M": 7569}
"""Blocks of 16,384 coordinates."""
SMALL = (1, 16, 256)
"""Blocks, for the table of microseconds."""
DEVICE = "cuda"
Args = tuple[Any, ...]


@dataclass(frozen=True)
class Case:
    """A kernel, the i-th of its inputs, and the bytes that must be moved for one."""

    name: str
    num_bytes: float
    kernel: Callable[..., Any]
    make: Callable[[int], Args]
    target: float | None = None
    """The least share of the copy's bandwidth that is wanted."""
    rivals: dict[str, Callable[..., Any]] = field(default_factory=dict)
    wanted: dict[str, float] = field(default_factory=dict)
    """How many times as fast as a rival it is to be."""


@dataclass(frozen=True)
class Found:
    """What was measured of a case: the share of the copy's bandwidth, and the rivals' times over ours."""

    name: str
    size: str
    bandwidth: float
    time: Time
    rivals: dict[str, float]
    target: float | None
    wanted: dict[str, float]


def cases(blocks: int) -> Iterator[Case]:
    """Everything, for so many blocks."""
    yield from _signs(blocks)
    yield from _votes(blocks)
    yield from _memories(blocks)
    yield from _masks(blocks)
    yield from _numbers(blocks)


def _signs(blocks: int) -> Iterator[Case]:
    d, zeros = blocks * BLOCK, draw(blocks)
    for dtype, rivals in ((torch.float32, {"eager": eager_pack, **CUPY}), (torch.bfloat16, {})):
        yield Case(
            f"sign and pack, {str(dtype)[6:]}", d * (dtype.itemsize + 1 / 8), kernels.checked_pack_signs,
            lambda i, dtype=dtype: (normal(blocks, BLOCK, seed=i).to(dtype), zeros), 0.85, rivals,
        )  # fmt: skip
    for name in ("gaussian", "laplace", "logistic", "uniform"):
        yield Case(
            f"noisy signs, {name}", d * (4 + 1 / 8), kernels.noisy_pack_signs,
            lambda i, name=name: (normal(blocks, BLOCK, seed=i), 0.5, zeros, name, zeros), 0.60,
            {"eager": eager_noisy} if name == "gaussian" else {},
        )  # fmt: skip
    yield Case(
        "unpack", d * (4 + 1 / 8), kernels.unpack_signs,
        lambda i: (words(blocks, WORDS, seed=i), BLOCK, 1.0, torch.empty(blocks, BLOCK, device=DEVICE)), 0.85,
        {"eager": eager_unpack},
    )  # fmt: skip


def _votes(blocks: int) -> Iterator[Case]:
    d, ties = blocks * BLOCK, words(blocks, WORDS, seed=99)
    for m in (3, 7, 15, 31):
        valid = torch.ones(m, blocks, dtype=torch.bool, device=DEVICE)
        yield Case(
            f"vote, M = {m}", (m + 3) * d / 8, kernels.majority,
            lambda i, m=m, valid=valid: (words(m, blocks, WORDS, seed=i), None, valid, ties),
            0.85 if m <= 15 else None, {"eager": eager_vote} if m == 7 else {},
        )  # fmt: skip
    scales = normal(4, blocks).abs()
    yield Case(
        "mean of signs, M = 4", d * (4 + 4 / 8), kernels.mean_signs,
        lambda i: (words(4, blocks, WORDS, seed=i), None, BLOCK, scales, torch.full((blocks,), 4.0, device=DEVICE)),
    )  # fmt: skip


def _memories(blocks: int) -> Iterator[Case]:
    d, zeros, ratio = blocks * BLOCK, draw(blocks), torch.ones(blocks, device=DEVICE)
    scale = torch.full((blocks,), 0.01, device=DEVICE)

    def inputs(i: int, keep: Tensor | None, scale: Tensor | None) -> Args:
        x, memory, momentum = (normal(blocks, BLOCK, seed=3 * i + k) for k in range(3))
        return x, memory, ratio, Inertia(momentum, 0.9, True), keep, zeros, scale

    for granularity in (1, 64):
        keep = kernels.keep_bits(zeros, BLOCK, 19661, granularity)
        yield Case(
            f"memory step, DropSign, granularity {granularity}", d * (20 + 2 / 8), kernels.feedback_step,
            lambda i, keep=keep: inputs(i, keep, scale), 0.80, {"eager": eager_memory},
        )  # fmt: skip
    yield Case(
        "memory step, dist-EF", d * (20 + 1 / 8), kernels.feedback_step, lambda i: inputs(i, None, None), 0.80,
        {"eager": eager_memory},
    )  # fmt: skip
    yield Case(
        "momentum, Signum", d * 12, kernels.moving_average,
        lambda i: (normal(blocks, BLOCK, seed=i), 0.9, normal(blocks, BLOCK, seed=i + 50), 0.1),
    )  # fmt: skip
    rows, weights = layout_of([d], BLOCK).ragged, (0.9, 0.1)
    yield Case(
        "momentum and signs, Signum", d * (12 + 1 / 8 + 1 / 512), kernels.ragged_averaged_signs,
        lambda i: (normal(d, seed=i), normal(d, seed=i + 50), weights, weights, zeros, True, rows), 0.80,
    )  # fmt: skip


def _masks(blocks: int) -> Iterator[Case]:
    d, keep = blocks * BLOCK, kernels.keep_bits(draw(blocks), BLOCK, 19661)
    width = 96
    yield Case("keep masks, granularity 1", d / 8, kernels.keep_bits, lambda i: (draw(blocks, i), BLOCK, 19661))
    yield Case(
        "compaction",
        d / 8 * (2 + width / WORDS),
        kernels.compact,
        lambda i: (words(blocks, WORDS, seed=i), keep, width),
    )
    yield Case("expansion", d / 8 * (2 + width / WORDS), kernels.expand, lambda i: (words(blocks, width, seed=i), keep))


def _numbers(blocks: int) -> Iterator[Case]:
    d, valid = blocks * BLOCK, torch.ones(8, blocks, dtype=torch.bool, device=DEVICE)
    yield Case("mean of |x|", d * 4, kernels.mean_abs, lambda i: (normal(blocks, BLOCK, seed=i),))

    def eight(i: int) -> Args:
        return normal(8, blocks, BLOCK, seed=i), valid

    yield Case("mean, M = 8", d * 36, kernels.mean, eight)
    yield Case(
        "median, M = 8", d * 36, kernels.median, eight, None,
        {"torch.median": lambda x, _: torch.median(x, 0)}, {"torch.median": 20.0},
    )  # fmt: skip
    yield Case("trimmed mean, M = 8", d * 36, kernels.trimmed_mean, lambda i: (*eight(i), 2))


def measure(case: Case, size: str, copy: float, repeats: int, with_rivals: bool) -> Found:
    """A case against its rivals, after its bits were found right."""
    inputs = copies(case.make, round(case.num_bytes))
    check(case, inputs[0])
    own = time_of(lambda args: case.kernel(*args), inputs, repeats)
    slower = {
        name: time_of(lambda args, rival=rival: rival(*args), inputs[:2], 5).card / own.card
        for name, rival in (case.rivals.items() if with_rivals else ())
    }
    return Found(case.name, size, case.num_bytes / own.card / copy, own, slower, case.target, case.wanted)


def check(case: Case, args: Args) -> None:
    """Raises RuntimeError where the card's result has not the bits of the processor's."""
    for a, b in zip(tensors(case.kernel(*args)), tensors(case.kernel(*on_host(args))), strict=True):
        own = a.cpu()
        if not bool(((own == b) | (own.isnan() & b.isnan())).all()):
            raise RuntimeError(f"{case.name}: the card's bits differ from the processor's, so its time says nothing.")


def tensors(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [tensor for part in result or () for tensor in tensors(part)]


def on_host(args: Any) -> Any:
    if isinstance(args, Tensor):
        return args.cpu()
    if isinstance(args, Draw):
        return Draw(args.key, args.block.cpu(), args.sender.cpu())
    if isinstance(args, tuple):
        moved = map(on_host, args)
        return type(args)(*moved) if hasattr(args, "_fields") else tuple(moved)
    return args


def draw(blocks: int, sender: int = 3) -> Draw:
    return Draw(
        0x1234567890ABCDEF,
        torch.arange(blocks, device=DEVICE),
        torch.full((), sender, device=DEVICE, dtype=torch.int64),
    )


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator(DEVICE).manual_seed(seed), device=DEVICE)


def words(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return torch.randint(-(2**63), 2**63 - 1, shape, generator=generator, device=DEVICE)
