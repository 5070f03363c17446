"""A network sorts everything if it sorts every sequence of zeros and ones (Knuth, 5.3.4, Theorem Z)."""

import itertools
import random

import pytest

from gradvote.kernels.cpu.networks import sort


def exchange(a: int, b: int) -> tuple[int, int]:
    return min(a, b), max(a, b)


@pytest.mark.parametrize("n", range(12))
def test_sorts_every_sequence_of_zeros_and_ones(n: int) -> None:
    for bits in itertools.product((0, 1), repeat=n):
        assert sort(list(bits), exchange) == sorted(bits)


@pytest.mark.parametrize("n", [*range(12, 66), 100, 129])
def test_sorts_zeros_and_ones_of_every_weight(n: int) -> None:
    shuffle = random.Random(n).shuffle
    for ones in range(n + 1):
        bits = [1] * ones + [0] * (n - ones)
        shuffle(bits)
        assert sort(bits, exchange) == sorted(bits)


@pytest.mark.parametrize(("n", "exchanges"), [(2, 1), (4, 5), (8, 19), (16, 63), (64, 543)])
def test_takes_as_many_exchanges_as_published(n: int, exchanges: int) -> None:
    taken = []

    def count(a: int, b: int) -> tuple[int, int]:
        taken.append((a, b))
        return exchange(a, b)

    sort(list(range(n)), count)
    assert len(taken) == exchanges
