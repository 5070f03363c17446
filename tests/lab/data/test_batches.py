"""Batches: no repetition in an epoch, random access equals sequential access, equal sizes."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradvote.lab.data import Batches

sizes = st.integers(1, 70)


def indices(num):
    """Not consecutive, so that positions and indices cannot be confused."""
    return torch.arange(num) * 3 + 5


@given(num=sizes, batch_size=sizes, seed=st.integers(0, 2**40), sender=st.integers(0, 1000))
def test_an_epoch_covers_without_repetition(num, batch_size, seed, sender):
    batches = Batches(indices(num), batch_size, seed, sender)
    for epoch in range(3):
        steps = range(epoch * batches.per_epoch, (epoch + 1) * batches.per_epoch)
        seen = torch.cat([batches.at(step) for step in steps]).tolist()
        assert len(set(seen)) == len(seen) == batches.per_epoch * batches.size
        assert set(seen) <= set(indices(num).tolist())
        assert num - len(seen) < batches.size


@given(num=sizes, batch_size=sizes, steps=st.lists(st.integers(0, 200), min_size=1, max_size=8))
def test_random_access_equals_sequential_access(num, batch_size, steps):
    batches = Batches(indices(num), batch_size, 1, 2)
    sequential = [batches.at(step).clone() for step in range(max(steps) + 1)]
    for step in steps:
        assert torch.equal(batches.at(step), sequential[step])
        assert torch.equal(Batches(indices(num), batch_size, 1, 2).at(step), sequential[step])
        assert len(sequential[step]) == batches.size


@pytest.mark.parametrize("batch_size", [None, 7, 8, 1000])
def test_full_batch_is_always_the_same(batch_size):
    batches = Batches(indices(7), batch_size, 0, 0)
    assert batches.is_full and batches.size == 7 and batches.per_epoch == 1
    assert all(torch.equal(batches.at(step), indices(7)) for step in (0, 1, 99))


def test_epochs_senders_and_seeds_differ():
    orders = [
        torch.cat([Batches(indices(40), 20, seed, sender).at(2 * epoch + k) for k in (0, 1)]).tolist()
        for seed, sender, epoch in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert all(sorted(order) == indices(40).tolist() for order in orders)


def test_only_one_order_is_kept():
    batches = Batches(indices(10), 3, 0, 0)
    for step in range(30):
        batches.at(step)
    assert list(batches._orders) == [9]
    assert torch.equal(pickle.loads(pickle.dumps(batches)).at(4), batches.at(4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(0, dtype=torch.int64), 3, 0, 4), "Worker 4 has no samples"),
        ((torch.arange(3), 0, 0, 0), "The batch size is 0"),
        ((torch.arange(3), 1, -1, 0), "Seed -1"),
        ((torch.arange(3), 1, 0, -1), "sender -1"),
        ((torch.zeros(3), 1, 0, 0), "int64 vector"),
        ((torch.zeros(3, 1, dtype=torch.int64), 1, 0, 0), "int64 vector"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Batches(*arguments)


def test_a_negative_step_is_refused():
    with pytest.raises(ValueError, match="The step is -1"):
        Batches(torch.arange(3), 1, 0, 0).at(-1)
