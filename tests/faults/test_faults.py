"""What each fault does to numbers and to packed signs."""

import math

import pytest
import torch

from gradvote import faults, kernels
from gradvote.core import Context
from gradvote.faults.blind import Blind
from gradvote.faults.drop import Drop
from gradvote.faults.invert import Invert
from gradvote.faults.nan import Nan
from gradvote.faults.random import Random
from gradvote.faults.rescale import Rescale
from gradvote.rng import Stream, draw

M, B = 3, 2
SIZES = [1, 63, 64, 65, 1000]


def position(step=0, seed=1):
    sender = torch.arange(M)[:, None]
    return draw(Context(seed, step, torch.arange(B), sender), Stream.FAULT)


def numbers(n):
    return torch.randn(M, B, n, generator=torch.Generator().manual_seed(n))


def words(n):
    return kernels.pack_bits(numbers(n) > 0)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(
    "fault", [Invert(), Rescale(-3), Rescale(2), Rescale(2, 10), Random(), Blind(), Nan()], ids=str
)
def test_shapes_types_and_reproducibility(fault, n):
    x, bits = numbers(n), words(n)
    changed, spoilt = fault.on_values(x, position()), fault.on_bits(bits, position())
    assert changed.shape == x.shape and changed.dtype == x.dtype
    assert spoilt.shape == bits.shape and spoilt.dtype == torch.int64
    torch.testing.assert_close(changed, fault.on_values(x, position()), rtol=0, atol=0, equal_nan=True)
    assert torch.equal(spoilt, fault.on_bits(bits, position()))
    assert torch.equal(x, numbers(n)) and torch.equal(bits, words(n))  # nothing is changed in place


@pytest.mark.parametrize("n", SIZES)
def test_inverted(n):
    assert torch.equal(Invert().on_values(numbers(n), position()), -numbers(n))
    flipped = kernels.unpack_signs(Invert().on_bits(words(n), position()), n)
    assert torch.equal(flipped, -kernels.unpack_signs(words(n), n))


def test_rescaled_by_a_factor():
    x = numbers(65)
    assert torch.equal(Rescale(-1000).on_values(x, position()), x * -1000)
    assert torch.equal(Rescale(1000).on_bits(words(65), position()), words(65))
    assert torch.equal(Rescale(-1000).on_bits(words(65), position()), ~words(65))


def test_rescaled_by_a_positive_vector_within_its_bounds():
    ratio = Rescale(2.0, spread=10).on_values(torch.ones(M, B, 5000), position())
    assert 0.2 * 0.999 < float(ratio.min()) < 0.21 and 19 < float(ratio.max()) < 20 * 1.001
    assert float(ratio.log().mean()) == pytest.approx(math.log(2), abs=0.03)  # symmetric in the logarithm


def test_random_values_and_signs_know_nothing_of_what_is_sent():
    x = Random(std=3).on_values(numbers(5000), position())
    assert float(x.std()) == pytest.approx(3, rel=0.02) and float(x.mean()) == pytest.approx(0, abs=0.1)
    assert torch.equal(x, Random(std=3).on_values(-numbers(5000), position()))
    ones = kernels.count_bits(Random().on_bits(words(6400), position()))
    assert bool(((ones > 3000) & (ones < 3400)).all())


def test_every_worker_block_and_step_has_its_own_draw():
    one, other = (Random().on_values(numbers(100), position(step)) for step in (0, 1))
    rows = torch.cat([one, other]).flatten(0, 1)
    assert len({tuple(row.tolist()) for row in rows}) == len(rows)


def test_blind_multiplies_each_coordinate_by_chance():
    ratio = Blind(scale=2).on_values(numbers(5000), position()) / numbers(5000)
    assert float(ratio.std()) == pytest.approx(2, rel=0.02)
    assert torch.allclose(ratio, Blind(scale=2).on_values(torch.ones(M, B, 5000), position()), rtol=1e-5)
    flipped = kernels.count_bits(Blind().on_bits(words(6400), position()) ^ words(6400))
    assert bool(((flipped > 3000) & (flipped < 3400)).all())


def test_nothing_but_nan():
    assert bool(Nan().on_values(numbers(7), position()).isnan().all())
    assert torch.equal(Nan().on_bits(words(7), position()), words(7))


def test_only_drop_drops():
    assert [name for name in faults.names() if faults.fault_class(name).drops] == ["drop"]
    assert torch.equal(Drop().on_values(numbers(7), position()), numbers(7))
    assert torch.equal(Drop().on_bits(words(7), position()), words(7))


@pytest.mark.parametrize("name", faults.names())
def test_by_name(name):
    fault = faults.create(name)
    assert eval(repr(fault), vars(__import__(type(fault).__module__, fromlist=["_"]))) == fault
    assert faults.summary(name) and "\n" not in faults.summary(name)


def test_all_are_listed():
    assert {"alie", "anti-sign", "blind", "drop", "invert", "nan", "random", "rescale"} <= set(faults.names())


@pytest.mark.parametrize(
    ("name", "options", "words_of_the_error"),
    [
        ("rescale", {"factor": 0.0}, "a finite factor other than 0"),
        ("rescale", {"factor": float("inf")}, "a finite factor other than 0"),
        ("rescale", {"factor": float("nan")}, "a finite factor other than 0"),
        ("rescale", {"spread": 0.5}, "a spread of at least 1"),
        ("random", {"std": -1.0}, "at least 0; got -1.0"),
        ("blind", {"scale": 0.0}, "a positive, finite scale"),
        ("rescale", {"factr": 1}, "Did you mean 'factor'"),
        ("invrt", {}, "Did you mean 'invert'"),
    ],
)
def test_mistakes(name, options, words_of_the_error):
    with pytest.raises(ValueError, match=words_of_the_error):
        faults.create(name, **options)
