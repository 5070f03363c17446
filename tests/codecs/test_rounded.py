"""States in bfloat16: the plain way written out, in slices, of any algorithm; what rounding to the nearest loses."""

from copy import deepcopy
from unittest import mock

import pytest
import torch
from torch import Tensor

from gradvote import algorithms, kernels, recipes
from gradvote.codecs import AfterSteps, Chain, Rounded, rounded
from gradvote.core import Algorithm, Context
from gradvote.rounding import with_state_dtype
from tests.contract.parts import context, same, same_payload, senders, updates

STATEFUL = (
    "signum",
    "lion",
    "sign-momentum",
    "ef-signsgd",
    "dist-ef-sgdm",
    "dropsignsgd",
    "dist-ef-adam",
    "sparseloco",
)
M, B, N = 3, 5, 70


def slices_of(algorithm: Algorithm, rows: int) -> list[object]:
    """Payloads and states of three rounds of workers, worked on in slices of so many rows."""
    state, seen = algorithm.up.init(torch.zeros(M, B, N)), list[object]()
    with mock.patch.object(rounded, "SLICE", rows * M * N):
        for step in range(3):
            lr = torch.tensor([0.1, 0.2, 0.1, 0.0, 0.3]) / (1 + step)
            ctx = context(senders(M), B, step, lr)
            payload, state = algorithm.encode(updates(M, B, N, seed=step), state, ctx)
            seen += [payload, deepcopy(state)]
    return seen


@pytest.mark.parametrize("name", STATEFUL)
def test_slices_have_the_bits_of_the_whole(name: str) -> None:
    algorithm = with_state_dtype(algorithms.create(name), torch.bfloat16)
    whole, cut = slices_of(algorithm, B), slices_of(algorithm, 2)
    for a, b in zip(whole[::2], cut[::2], strict=True):
        assert same_payload(a, b)  # type: ignore[arg-type]  # these are payloads
    assert all(map(same, whole[1::2], cut[1::2]))


def test_a_round_written_out() -> None:
    """Momentum and memory as numbers 0 and 1, each widened, worked on as ever and rounded by its own draw."""
    plain = algorithms.dist_ef_sgdm()
    algorithm, ctx = with_state_dtype(plain, "bfloat16"), context(2, B)
    start = algorithm.up.init(torch.zeros(B, N))
    assert start["0"]["momentum"].dtype == start["codec"]["memory"].dtype == torch.bfloat16
    assert start["codec"]["lr"].dtype == torch.float32
    _, state = algorithm.encode(updates(B, N), start, ctx)
    later, x = context(2, B, step=5), updates(B, N, seed=1)
    wide = {"0": {"momentum": state["0"]["momentum"].float()}, "codec": dict(state["codec"])}
    wide["codec"]["memory"] = state["codec"]["memory"].float()
    expected, new = plain.encode(x, wide, later)
    payload, found = algorithm.encode(x, state, later)
    assert same_payload(payload, expected)
    for number, (part, key) in enumerate((("0", "momentum"), ("codec", "memory"))):
        assert same(found[part][key], kernels.narrow(new[part][key], rounded.draw_of(later, number)))


def heard(rounding: str, rows: int = 64, steps: int = 400) -> float:
    """What came of a gradient of 1/1000 of a vote's size, as a share of it, with error feedback on signs of that size.

    Such a memory is nearly always as large as a vote: beside it the gradient is less than a unit in its last place.
    """
    algorithm = algorithms.dropsignsgd(1.0, 1.0, c=1.0, mu=0.0)
    if rounding != "float32":
        algorithm = with_state_dtype(algorithm, torch.bfloat16, rounding)  # type: ignore[arg-type]  # a rounding
    x, total = torch.full((rows, 64), 1e-3), torch.zeros(rows, 64)
    state = algorithm.up.init(x)
    for step in range(steps):
        ctx = Context(0, step, torch.arange(rows), 0)
        payload, state = algorithm.encode(x, state, ctx)
        total += algorithm.up.decode(payload, ctx, 64)
    unsent = algorithm.unsent(state)
    assert isinstance(unsent, Tensor)
    return float((total + unsent.float()).mean()) / (steps * 1e-3)


def test_what_is_small_is_heard_if_rounding_is_random() -> None:
    assert heard("float32") == pytest.approx(1.0, abs=1e-3)
    assert heard("stochastic") == pytest.approx(1.0, abs=0.1)
    assert abs(heard("nearest") - 1) > 0.5


def test_only_states_are_wrapped_and_once() -> None:
    assert with_state_dtype(algorithms.signsgd(), torch.bfloat16) == algorithms.signsgd()
    assert with_state_dtype(algorithms.signum(), None) == with_state_dtype(algorithms.signum(), "float32")
    signum = with_state_dtype(algorithms.signum(), torch.bfloat16)
    assert isinstance(signum.up, Rounded) and not isinstance(signum.down, Rounded)
    assert with_state_dtype(signum, "bfloat16") == signum
    assert recipes.first_of(repr(signum)) == signum
    with pytest.raises(ValueError, match=r"no type of states named 'float16'.*bfloat16, float32"):
        with_state_dtype(algorithms.signum(), torch.float16)


def test_noise_before_the_vote_stays_behind_the_momentum() -> None:
    own = algorithms.noisy(with_state_dtype(algorithms.signum(), "bfloat16"), 0.1, position="vote")
    assert isinstance(own.up, Rounded) and isinstance(own.up.codec, Chain)
    assert own == with_state_dtype(algorithms.noisy(algorithms.signum(), 0.1, position="vote"), "bfloat16")
    assert AfterSteps(own.up, 4).codec == own.up
