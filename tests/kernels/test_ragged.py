"""Rows of unequal length: each kernel returns the bits of its definition, group by group of equal rows."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradvote import kernels
from gradvote.engines.common.flat_buffer import FlatBuffer
from gradvote.kernels import Betas, Inertia, Moments, ragged_reference
from gradvote.layout import Layout, layout_of
from gradvote.ragged import Ragged
from gradvote.rng import Draw
from gradvote.scattered import Places, Scattered, params_of

LENGTHS = [1, 7, 63, 64, 65, 300]
LONG = 16385


@dataclass
class Case:
    """Rows with a vector, and draws for one sender and for three."""

    layout: Layout
    x: Tensor
    one: Draw
    three: Draw

    @property
    def rows(self) -> Ragged:
        """The layout's."""
        return self.layout.ragged

    def __call__(self, name: str, *args: Any) -> Any:
        """What a kernel gives, which is what its definition gives; also where x is read in several tensors."""
        found, expected = (getattr(module, name)(*args, self.rows) for module in (kernels, ragged_reference))
        check(found, expected)
        if any(arg is self.x for arg in args):
            parts = [apart(self.x, self.layout) if arg is self.x else arg for arg in args]
            check(getattr(kernels, name)(*parts, self.rows), expected)
        return found


def apart(x: Tensor, layout: Layout) -> Scattered:
    """x (d,) in a tensor for each parameter, which stand in memory in another order, with gaps."""
    numels: dict[int, int] = {}
    for piece in layout.pieces:
        numels[piece.param] = max(numels.get(piece.param, 0), piece.start + piece.length)
    room = torch.full((sum(numels.values()) + 3 * len(numels),), torch.nan)
    pieces = room.split([numel + 3 for numel in reversed(numels.values())])
    tensors = {i: piece[2:-1] for i, piece in zip(reversed(numels), pieces, strict=True)}
    found = Places().scattered(layout, tensors, lambda: torch.empty(layout.size))
    assert found is not None
    found.put(x)
    return replace(found, whole=x.clone)


def check(found: Any, expected: Any) -> None:
    """Whether two results have the same bits, all the way down."""
    if isinstance(expected, Tensor):
        assert found.shape == expected.shape and found.dtype == expected.dtype
        assert torch.equal(found.isnan(), expected.isnan())
        assert torch.equal(found.nan_to_num(7), expected.nan_to_num(7))
    elif expected is None:
        assert found is None
    else:
        for own, other in zip(found, expected, strict=True):
            check(own, other)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few rows of odd lengths, cut or not, with zeros, and with values that make a row abstain."""
    numels = draw(st.lists(st.sampled_from(LENGTHS) | st.just(LONG), min_size=1, max_size=6))
    units = [draw(st.sampled_from([64, 64, 3, 65])) for _ in numels]
    layout = layout_of(numels, draw(st.sampled_from([None, 64, 100, 16384])), units)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    x = torch.randn(layout.size, generator=generator)
    x[torch.rand(layout.size, generator=generator) < draw(st.sampled_from([0.0, 0.1, 0.95]))] = 0
    x[: draw(st.sampled_from([0, layout.size // 2]))] = 0
    x[draw(st.integers(0, layout.size - 1))] = draw(st.sampled_from([1.0, float("nan"), float("inf"), 1e30]))
    rows, sender = layout.ragged, torch.tensor(3)
    return Case(layout, x, Draw(12345, rows.block, sender), Draw(77, rows.block, torch.arange(3)[:, None]))


SOME = settings(max_examples=12, deadline=None)


@SOME
@given(case=cases(), zeros=st.sampled_from(["random", True, False]), still=st.booleans())
def test_signs(case: Case, zeros: Any, still: bool) -> None:
    rule = case.one if zeros == "random" else zeros
    case("ragged_signs", case.x, rule, still)
    case("ragged_noisy_signs", case.x, 0.3, case.one, "gaussian", rule)


@SOME
@given(case=cases())
def test_units(case: Case) -> None:
    flags = case("ragged_signs", case.x, True, True)[2]
    case("ragged_outside_units", flags)
    bits = case("ragged_random_bits", case.three)
    case("ragged_whole_units", bits | bits.roll(1, 0))


@SOME
@given(case=cases(), granularity=st.sampled_from([1, 64]), each=st.booleans())
def test_masks_and_means(case: Case, granularity: int, each: bool) -> None:
    threshold = torch.tensor([[3], [20000], [65536]]) if each else 20000
    keep = case("ragged_keep_bits", case.three, threshold, granularity)
    words = case("ragged_random_bits", case.three)
    case("ragged_counts", keep)
    case("ragged_expand", case("ragged_compact", words, keep), keep)
    valid = torch.arange(3 * case.rows.num_rows).view(3, -1) % 3 > 0
    counts = valid.sum(0).float()
    scales = torch.rand(3, case.rows.num_rows) * valid
    case("ragged_mean", words, keep, scales, counts.where(counts > 0, torch.nan))
    case("ragged_mean", words, None, scales, counts.where(counts > 0, torch.nan))
    for mask in (None, keep[0]):
        found, expected = torch.full_like(case.x, 9.0), torch.full_like(case.x, 8.0)
        kernels.ragged_unpack(words[0], mask, scales[0], found, case.rows)
        ragged_reference.ragged_unpack(words[0], mask, scales[0], expected, case.rows)
        check(found, expected)
        written = apart(torch.full_like(case.x, 9.0), case.layout)
        kernels.ragged_unpack(words[0], mask, scales[0], written, case.rows)
        there = dict(zip(params_of(case.layout), written.tensors, strict=True))
        check(FlatBuffer(torch.float32).gather(case.layout, there), expected)


@SOME
@given(case=cases(), nesterov=st.sampled_from([None, True]), masked=st.booleans(), given_scale=st.booleans())
def test_memories(case: Case, nesterov: bool | None, masked: bool, given_scale: bool) -> None:
    """Rows beyond 16,384 coordinates have their mean taken apart from the step."""
    memory, momentum = torch.randn(2, len(case.x))
    inertia = None if nesterov is None else Inertia(momentum, 0.9, nesterov)
    keep = kernels.ragged_keep_bits(case.one, 20000, 1, case.rows) if masked else None
    scale = torch.tensor(0.01) if given_scale else None
    ratio = torch.rand(case.rows.num_rows)
    case("ragged_feedback_step", case.x, memory, ratio, inertia, keep, case.one, scale)
    case("ragged_mean_abs", case.x, keep)
    weights = torch.rand(2, case.rows.num_rows)
    case("ragged_adam_step", case.x, Moments(memory, momentum.square(), *weights), Betas(0.8, 0.999, 1e-8))
    case("ragged_average", memory, 0.9, case.x, 0.1)
    case("ragged_averaged_signs", memory, case.x, (0.9, 0.1), (0.9, 0.1), case.one, True)
    case("ragged_averaged_signs", memory, case.x, (0.9, 0.1), (0.99, 0.01), True, False)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_rows(threads: int) -> None:
    """A long row is shared by threads, and so are many short ones."""
    layout = layout_of([300_001, *range(1, 400)], None)
    rows, before = layout.ragged, torch.get_num_threads()
    x = torch.randn(layout.size, generator=torch.Generator().manual_seed(1))
    case = Case(layout, x, Draw(5, rows.block, torch.tensor(0)), Draw(5, rows.block, torch.arange(3)[:, None]))
    torch.set_num_threads(threads)
    try:
        case("ragged_signs", x, case.one, True)
        case("ragged_average", torch.ones_like(x), 0.9, x, 0.1)
        case("ragged_feedback_step", x, x.flip(0), torch.ones(rows.num_rows), Inertia(x, 0.9, True), None, True, None)
        case("ragged_keep_bits", case.one, 20000, 1)
    finally:
        torch.set_num_threads(before)


def test_bytes() -> None:
    source, targets = torch.arange(100, dtype=torch.uint8), torch.zeros(2, 80, dtype=torch.uint8)
    table = torch.tensor([[3, 90, 40], [60, 0, 10], [20, 10, 0]]).numpy()
    kernels.ragged_copy(source, table[0], targets[0], table[1], table[2])
    ragged_reference.ragged_copy(source, table[0], targets[1], table[1], table[2])
    assert torch.equal(targets[0], targets[1]) and targets[0, 60:80].tolist() == list(range(3, 23))
