"""Rows of unequal length on a card: each kernel gives the bits of its definition."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from gradvote.kernels import Betas, Inertia, Moments, ragged_reference, reference
from gradvote.kernels.cuda import ragged_adam, ragged_bits, ragged_bytes, ragged_feedback, ragged_signs
from gradvote.layout import layout_of
from gradvote.ragged import Ragged
from gradvote.rng import Draw
from tests.kernels.cuda.both import check, slow
from tests.kernels.inputs import same
from tests.on_card import DEVICE

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in the interpreter

LAYOUTS = {
    "odd": ([1, 7, 63, 64, 65, 300, 2049], None, [64, 64, 3, 64, 65, 64, 64]),
    "even": ([4096, 64, 128, 2048], 2048, None),
    "cut": ([300, 200, 65], 100, [64, 3, 65]),
}
ROOMS = (ragged_signs, ragged_bits, ragged_feedback, ragged_adam)


def on_card(name: str) -> Callable[..., Any]:
    return next(getattr(room, name) for room in ROOMS if hasattr(room, name))


class Rows:
    """A layout's rows, numbers with zeros and a value of some kind, and draws."""

    def __init__(self, name: str, odd: float, zeros: float, seed: int) -> None:
        self.rows: Ragged = layout_of(*LAYOUTS[name]).ragged
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(self.rows.size, generator=generator)
        self.x[torch.rand(len(self.x), generator=generator) < zeros] = 0
        self.x[: len(self.x) // 3] = 0 if zeros else 1e-3
        self.x[-5] = odd
        self.draw = Draw(2**60 + 7 * seed, self.rows.block, torch.tensor(3))

    def __call__(self, name: str, *args: Any) -> None:
        check(on_card(name), getattr(ragged_reference, name), *args, self.rows)


CASES = [
    pytest.param(Rows(name, odd, zeros, seed), id=f"{name}-{odd}-{zeros}")
    for seed, (name, odd, zeros) in enumerate(
        [("odd", 1.0, 0.0), ("odd", torch.nan, 0.5), ("even", 1.0, 0.9), ("even", -torch.inf, 0.0), ("cut", 1e30, 0.8)]
    )
]
each = pytest.mark.parametrize("case", CASES)


@each
@pytest.mark.parametrize("still", [False, True])
def test_signs(case: Rows, still: bool) -> None:
    for zeros in (case.draw, True, False):
        case("ragged_signs", case.x, zeros, still)


@each
def test_noisy_signs(case: Rows) -> None:
    case("ragged_noisy_signs", case.x, 0.3, case.draw, "gaussian", case.draw)
    case("ragged_noisy_signs", case.x, torch.rand(case.rows.num_rows), case.draw, "laplace", True)


@each
def test_units(case: Rows) -> None:
    marks = ragged_reference.ragged_signs(case.x, True, True, case.rows)[2]
    assert marks is not None
    case("ragged_outside_units", marks)
    case("ragged_whole_units", ragged_reference.ragged_outside_units(~marks, case.rows))


@each
@pytest.mark.parametrize("granularity", [1, 64])
def test_masks(case: Rows, granularity: int) -> None:
    for threshold in (20000, torch.tensor(1), torch.tensor([65536])):
        case("ragged_keep_bits", case.draw, threshold, granularity)
    keep = ragged_reference.ragged_keep_bits(case.draw, 30000, granularity, case.rows)
    words = ragged_reference.ragged_random_bits(Draw(5, case.rows.block, torch.tensor(1)), case.rows)
    case("ragged_counts", keep)
    case("ragged_compact", words, keep)
    case("ragged_expand", ragged_reference.ragged_compact(words, keep, case.rows), keep)


@each
def test_numbers_from_bits(case: Rows) -> None:
    words = ragged_reference.ragged_random_bits(case.draw, case.rows)
    keep = ragged_reference.ragged_keep_bits(case.draw, 30000, 1, case.rows)
    for kept in (None, keep):
        for scales in (torch.rand(case.rows.num_rows), torch.tensor(0.5)):
            check(_unpacked(on_card("ragged_unpack")), _unpacked(ragged_reference.ragged_unpack), words, kept, scales,
                  case.rows)  # fmt: skip


def _unpacked(kernel: Callable[..., None]) -> Callable[..., Tensor]:
    def into(words: Tensor, keep: Tensor | None, scales: Tensor, rows: Ragged) -> Tensor:
        out = torch.full((rows.size,), torch.nan, device=words.device)
        kernel(words, keep, scales, out, rows)
        return out

    return into


@each
def test_averages(case: Rows) -> None:
    old = case.x.flip(0).nan_to_num(0)
    case("ragged_average", old, 0.9, case.x, 0.1)
    weights = torch.rand(2, case.rows.num_rows, generator=torch.Generator().manual_seed(4))
    case("ragged_adam_step", case.x, Moments(old, old.square(), *weights), Betas(0.8, 0.999, 1e-8))
    case("ragged_averaged_signs", old, case.x, (0.9, 0.1), (0.9, 0.1), case.draw, True)
    case("ragged_averaged_signs", old, case.x, (0.9, 0.1), (0.99, 0.01), False, False)


@each
@pytest.mark.parametrize(
    ("nesterov", "masked", "given"),
    [(None, False, True), (True, True, True), (False, False, False), (None, True, False)],
)
def test_memory_steps(case: Rows, nesterov: bool | None, masked: bool, given: bool) -> None:
    memory, momentum = torch.randn(2, len(case.x), generator=torch.Generator().manual_seed(3))
    inertia = None if nesterov is None else Inertia(momentum, 0.9, nesterov)
    keep = ragged_reference.ragged_keep_bits(case.draw, 20000, 1, case.rows) if masked else None
    scale = torch.tensor(0.01) if given else None
    case("ragged_feedback_step", case.x, memory, torch.rand(case.rows.num_rows), inertia, keep, case.draw, scale)
    case("ragged_mean_abs", case.x, keep)


@pytest.mark.parametrize("n", [1024 * 1500, slow(1024 * 9000 + 5)])
def test_means_of_long_rows(n: int) -> None:
    """More sums of tiles than one program folds at once."""
    rows = layout_of([n, 2000], None).ragged
    sums = torch.rand(int(rows.starts(1024)[-1]), generator=torch.Generator().manual_seed(0)).to(DEVICE)
    expected = [reference._fold(own) for own in (sums[:-2].cpu(), sums[-2:].cpu())]
    counts = torch.zeros(2, dtype=torch.int32, device=DEVICE)
    found = ragged_feedback._folded(sums.clone(), counts, rows, False)
    assert same(found.cpu(), torch.stack(expected) / torch.tensor([n, 2000]))


@pytest.mark.parametrize("unit", [1, 2, 8])
def test_stretches_of_bytes(unit: int) -> None:
    source, table = torch.arange(100, dtype=torch.uint8), unit * torch.tensor([[3, 9, 4], [6, 0, 1], [2, 1, 0]]).numpy()
    found, expected = torch.zeros(80, dtype=torch.uint8, device=DEVICE), torch.zeros(80, dtype=torch.uint8)
    ragged_bytes.ragged_copy(source.to(DEVICE), table[0], found, table[1], table[2])
    ragged_reference.ragged_copy(source, table[0], expected, table[1], table[2])
    assert torch.equal(found.cpu(), expected)
