"""Triton's memory step gives the bits of its definition, and leaves what it was given as it is."""

import pytest
import torch

from gradvote.kernels import feedback_reference, reference
from gradvote.kernels.cuda import feedback, feedback_rows
from gradvote.kernels.feedback_reference import Inertia
from tests.kernels.cuda.both import check
from tests.kernels.inputs import DTYPES, LAYOUTS, coordinates, draw_for, words_like

pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
NARROW = (torch.float32, torch.bfloat16, torch.float16)
SIZES = (0, 1, 7, 63, 64, 65, 127, 1024, 1025, 2049, 4097)
CASES = [(n, i) for i, n in enumerate((*SIZES, 64, 65, 129, 16385))]


def _check(
    n: int, seed: int, dtype: torch.dtype = torch.float32, odd: float | None = None, lead: tuple[int, ...] = (2, 3)
) -> None:
    """One of all combinations of momentum, mask, zeros and scale, by the digits of the seed."""
    layout = sorted(LAYOUTS)[seed % 5]
    x, memory, momentum = (
        coordinates((*lead, n), kind, seed + 1 + i, layout) for i, kind in enumerate((dtype, *DTYPES[:1] * 2))
    )
    if odd is not None:
        x[..., -1, n // 2] = odd
    inertia = (None, Inertia(momentum, 0.9, True), Inertia(momentum, 0.9, False))[seed % 3]
    keep = words_like((*lead, reference.num_words(n)), seed) if seed // 3 % 2 else None
    zeros = (True, False, draw_for(lead, seed))[seed // 2 % 3]
    scale = None if seed % 4 < 2 else torch.linspace(0.1, 1, lead[-1])
    ratio = torch.linspace(0.5, 2, lead[-1]).expand(lead)
    given = (x, memory, ratio, inertia, keep, zeros, scale)
    check(feedback.feedback_step, feedback_reference.feedback_step, *given)


@pytest.mark.parametrize("n", [0, 65, 1025, 4097])
@pytest.mark.parametrize("seed", [1, 4, 8, 9])
def test_rows_too_long_to_be_held(monkeypatch: pytest.MonkeyPatch, n: int, seed: int) -> None:
    monkeypatch.setattr(feedback_rows, "LONGEST", -1)
    _check(n, seed, odd=torch.nan if n and seed == 9 else None, lead=(1, 2))


@pytest.mark.parametrize(("n", "seed"), CASES)
def test_sizes_and_formats(n: int, seed: int) -> None:
    _check(n, seed, NARROW[seed % 3], lead=(2, 3) if n < 2049 else (1,))


@pytest.mark.parametrize("seed", range(24))
def test_every_kind_of_step(seed: int) -> None:
    _check(65, seed, lead=(2,))


@pytest.mark.parametrize("odd", [torch.nan, torch.inf, 3e38, -(2.0**64), 2.0**64 * (1 - 2**-24)])
def test_blocks_that_are_not_finite_or_too_large_keep_their_state(odd: float) -> None:
    for seed in (1, 3, 5):
        _check(65, seed, odd=odd, lead=(2,))


@pytest.mark.parametrize("layout", ["broadcast", "strided", "wide ratios"])
def test_masks_and_ratios_of_any_layout(layout: str) -> None:
    x, memory, keep = (
        coordinates((4, 1, 129), DTYPES[0], 1),
        coordinates((4, 1, 129), DTYPES[0], 2),
        words_like((4, 1, 3), 3),
    )
    keep = keep[:1] if layout == "broadcast" else torch.stack((keep, ~keep), -1).reshape(4, 1, 6)[..., ::2]
    ratio = torch.ones(4, 1, dtype=DTYPES[layout == "wide ratios"])
    for scale in (None, torch.tensor(0.5).expand(4, 1)):
        given = (None, keep, True, scale)
        expected = feedback_reference.feedback_step(x, memory, ratio.float(), *given)
        check(feedback.feedback_step, lambda *_, expected=expected: expected, x, memory, ratio, *given)


def test_other_formats_take_the_definition() -> None:
    x = coordinates((2, 65), torch.float64, 1)
    given = (torch.ones(2), None, None, True, torch.ones(2))
    check(feedback.feedback_step, feedback_reference.feedback_step, x, x.float(), *given)
    check(feedback.feedback_step, feedback_reference.feedback_step, x, x, *given)
