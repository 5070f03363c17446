"""The compiled memory step gives the bits of its definition, and leaves what it was given as it is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradvote.kernels import feedback_reference, reference
from gradvote.kernels.cpu import feedback
from gradvote.kernels.feedback_reference import Feedback, Inertia
from gradvote.rng import Draw

SIZES = (0, 1, 7, 63, 64, 65, 1025, 16384, 16385)
MOVES = (None, False, True)
BELOW = 2.0**64 * (1 - 2**-24)
"""The greatest number below `reference.LIMIT`."""


def _inputs(n: int, lead: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(*lead, n, generator=generator) for _ in range(3)]
    for x in tensors:
        x[..., ::5] = 0
        x[..., 3::10] = -0.0
    return tensors[0], tensors[1], tensors[2]


def _draw(key: int, lead: tuple[int, ...]) -> Draw:
    sender = torch.arange(lead[0])[:, None] if len(lead) > 1 else torch.tensor(3)
    return Draw(key, torch.arange(lead[-1]), sender)


def _assert_same_bits(got: Feedback, expected: Feedback) -> None:
    for name, a, b in zip(got._fields, got, expected, strict=True):
        assert (a is None) == (b is None), name
        if a is None or b is None:
            continue
        assert a.dtype == b.dtype, name
        if name == "scale":
            assert torch.equal(a.nan_to_num(-1), b.nan_to_num(-1))
        elif a.dtype == torch.float32:
            assert torch.equal(a.contiguous().view(torch.int32), b.contiguous().view(torch.int32)), name
        else:
            assert torch.equal(a, b), name


def _check(n: int, lead: tuple[int, ...], nesterov: bool | None, l1: bool, granularity: int, broken: float) -> None:
    x, memory, momentum = _inputs(n, lead)
    if broken and n:
        x[..., 0, n // 2] = broken
    keep = reference.keep_bits(_draw(77, lead), n, 20000, granularity) if granularity else None
    scale = None if l1 else torch.linspace(0.1, 1, lead[-1])
    inertia = None if nesterov is None else Inertia(momentum, 0.9, nesterov)
    given = x, memory, torch.linspace(0.5, 2, lead[-1]).expand(lead), inertia, keep, _draw(2**63 + 5, lead), scale
    before = [t.clone() for t in (x, memory, momentum)]
    _assert_same_bits(feedback.feedback_step(*given), feedback_reference.feedback_step(*given))
    for now, then in zip((x, memory, momentum), before, strict=True):
        assert torch.equal(now.view(torch.int32), then.view(torch.int32))


@pytest.mark.parametrize("l1", [False, True])
@pytest.mark.parametrize("nesterov", MOVES)
@pytest.mark.parametrize("n", SIZES)
def test_step_has_the_bits_of_its_definition(n: int, nesterov: bool | None, l1: bool) -> None:
    for granularity in (0, 1, 64):
        _check(n, (2, 3), nesterov, l1, granularity, 0.0)


@pytest.mark.parametrize("l1", [False, True])
@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 3e38, -(2.0**64), BELOW])
def test_blocks_that_are_not_finite_or_too_large_keep_their_state(broken: float, l1: bool) -> None:
    for nesterov in MOVES:
        _check(65, (2, 3), nesterov, l1, 1, broken)


@pytest.mark.parametrize("broken", [-(2.0**64), 1e38, BELOW])
@pytest.mark.parametrize("nesterov", MOVES)
def test_what_is_too_large_enters_no_state(nesterov: bool | None, broken: float) -> None:
    """At 2⁶⁴ and beyond neither; just below the momentum takes it, but x + μm is beyond, and the memory does not."""
    x, memory, momentum = _inputs(65, (1,))
    x[0, 3] = broken
    inertia = None if nesterov is None else Inertia(momentum, 0.9, nesterov)
    step = feedback.feedback_step(x, memory, torch.ones(1), inertia, None, True, torch.tensor(0.5))
    assert step.valid.tolist() == [broken == BELOW and not nesterov]
    assert step.valid.item() or torch.equal(step.memory, memory)
    assert step.momentum is None or torch.equal(step.momentum, momentum) == (broken != BELOW)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [1100032, 1100003])
def test_large_blocks(n: int, threads: int) -> None:
    """Split over threads; results past the caches where their lines are aligned, and not where they are not."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        _check(n, (1,), True, False, 64, 0.0)
    finally:
        torch.set_num_threads(before)


def test_rows_apart_in_memory_and_other_formats() -> None:
    x, memory, momentum = (t.transpose(-1, -2) for t in _inputs(3, (1, 70)))
    given = (Inertia(momentum, 0.9, True), None, True, torch.tensor(0.5))
    for x_, memory_ in ((x, memory), (x.double(), memory.double()), (x.bfloat16(), memory)):
        call = x_, memory_, torch.ones(1, 3), *given
        _assert_same_bits(feedback.feedback_step(*call), feedback_reference.feedback_step(*call))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 300), st.sampled_from(MOVES), st.booleans(), st.sampled_from([0, 1, 64]))
def test_any_size(n: int, nesterov: bool | None, l1: bool, granularity: int) -> None:
    _check(n, (2,), nesterov, l1, granularity, 0.0)


@pytest.mark.parametrize("layout", ["broadcast", "strided", "wide ratios"])
@pytest.mark.parametrize("n", [7, 64, 65, 129])
def test_masks_of_any_layout(n: int, layout: str) -> None:
    x, memory, _ = _inputs(n, (4, 1))
    words = reference.num_words(n)
    keep = reference.keep_bits(_draw(5, (4, 1)), n, 1 << 15)
    if layout == "broadcast":
        keep = keep[:1, :1]
    elif layout == "strided":
        keep = torch.stack([keep, ~keep], -1).reshape(4, 1, 2 * words)[..., ::2]
    ratio = torch.ones(4, 1, dtype=torch.float64 if layout == "wide ratios" else torch.float32)
    for scale in (None, torch.full((4, 1), 0.5)):
        got = feedback.feedback_step(x, memory, ratio, None, keep, True, scale)
        _assert_same_bits(got, feedback_reference.feedback_step(x, memory, ratio.float(), None, keep, True, scale))
