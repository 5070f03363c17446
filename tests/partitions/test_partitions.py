"""Partitions: every one splits all samples once, sorted, without an empty worker; and each keeps its own promise."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradvote.lab.data import (
    ByClass,
    Dirichlet,
    Iid,
    Unequal,
    class_histogram,
    describe_partition,
    partition_named,
    partition_names,
    partition_options,
)

LABELS = torch.arange(500) * 7 % 10


def held(part):
    return set(LABELS[part].tolist())


def by_name(partition):
    return repr(partition)


@pytest.mark.parametrize("partition", [Iid(), ByClass(), Dirichlet(0.1), Unequal(50.0)], ids=by_name)
def test_one_worker_holds_everything(partition):
    assert torch.equal(partition(LABELS, 1, 0)[0], torch.arange(500))


@given(num=st.integers(1, 80), workers=st.integers(1, 80))
def test_iid_sizes_differ_by_at_most_one(num, workers):
    labels = torch.zeros(num, dtype=torch.int64)
    if workers > num:
        with pytest.raises(ValueError, match=f"use at most {num} workers"):
            Iid()(labels, workers, 0)
        return
    sizes = [len(part) for part in Iid()(labels, workers, 0)]
    assert sum(sizes) == num and max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("workers", "per_worker"), [(5, [2] * 5), (3, [4, 3, 3]), (10, [1] * 10), (7, [2, 2, 2, 1, 1, 1, 1])]
)
def test_classes_are_exclusive_and_spread_evenly(workers, per_worker):
    parts = ByClass()(LABELS, workers, 3)
    assert [len(held(part)) for part in parts] == per_worker
    assert ((class_histogram(LABELS, parts, 10) > 0).sum(0) == 1).all()


@given(classes=st.integers(1, 12), workers=st.integers(1, 24), redundancy=st.integers(1, 6), seed=st.integers(0, 99))
def test_each_class_is_held_by_exactly_the_redundancy(classes, workers, redundancy, seed):
    labels = torch.arange(classes).repeat(31)
    partition = ByClass(redundancy=redundancy)
    if redundancy > workers or workers > classes * redundancy:
        with pytest.raises(ValueError, match="redundancy"):
            partition(labels, workers, seed)
        return
    counts = class_histogram(labels, partition(labels, workers, seed), classes)
    assert ((counts > 0).sum(0) == redundancy).all() and (counts.sum(0) == 31).all()
    assert counts[counts > 0].max() - counts[counts > 0].min() <= 1
    assert (counts > 0).sum(1).max() - (counts > 0).sum(1).min() <= 1


def test_labels_need_not_be_consecutive():
    labels = torch.tensor([3, 3, -70, -70, 900, 900])
    parts = ByClass()(labels, 3, 0)
    assert sorted(tuple(labels[part].unique().tolist()) for part in parts) == [(-70,), (3,), (900,)]


@pytest.mark.parametrize(
    ("partition", "workers", "message"),
    [
        (ByClass(11), 5, "classes_per_worker is 11, but the data have only 10 classes"),
        (ByClass(1), 5, r"unused.*classes_per_worker = 2, or use 10 workers"),
        (ByClass(2), 10, r"too few classes.*classes_per_worker = 1, or use redundancy = 2, or use 5 workers"),
        (ByClass(3), 7, "leave classes_per_worker out, which spreads the classes as evenly as possible"),
        (ByClass(redundancy=6), 5, "only 5 workers can hold a class"),
        (ByClass(), 25, "Use redundancy = 3 or at most 10 workers"),
        (Iid(), 0, "The number of workers is 0"),
        (Dirichlet(1.0), 501, "use at most 500 workers"),
        (Dirichlet(1e-4), 50, r"alpha is too small for 500 samples of 10 classes over 50 workers.*larger alpha"),
        (Unequal(1e6), 5, "Worker 2 of 5 would hold no samples. Use a ratio below 1e"),
    ],
)
def test_splits_that_do_not_exist_are_refused(partition, workers, message):
    with pytest.raises(ValueError, match=message):
        partition(LABELS, workers, 0)


def test_every_way_of_mending_that_is_named_works():
    for mended, workers in [(ByClass(1), 10), (ByClass(2, 2), 10), (ByClass(2), 5), (ByClass(), 10)]:
        assert len(mended(LABELS, workers, 0)) == workers


def test_a_class_with_fewer_samples_than_holders_is_refused():
    with pytest.raises(ValueError, match=r"would hold no samples.*redundancy = 3; lower it"):
        ByClass(redundancy=3)(torch.tensor([0, 0, 1, 1, 1, 1]), 6, 0)


@pytest.mark.parametrize("make", [lambda: ByClass(0), lambda: ByClass(redundancy=0)])
def test_by_class_options_are_checked(make):
    with pytest.raises(ValueError, match="at least 1"):
        make()


@pytest.mark.parametrize("alpha", [0.0, -1.0, float("nan"), float("inf")])
def test_alpha_must_be_positive(alpha):
    with pytest.raises(ValueError, match="alpha"):
        Dirichlet(alpha)


@pytest.mark.parametrize("ratio", [0.5, -1.0, float("nan"), float("inf")])
def test_ratio_must_be_at_least_one(ratio):
    with pytest.raises(ValueError, match="ratio"):
        Unequal(ratio)


@pytest.mark.parametrize("labels", [torch.zeros(5), torch.zeros(5, 1, dtype=torch.int64)])
def test_labels_must_be_one_integer_vector(labels):
    with pytest.raises(ValueError, match="one vector of whole numbers"):
        Iid()(labels, 2, 0)


def test_alpha_moves_from_skewed_to_even():
    """The largest worker's share of a class, averaged: near 1 for a small alpha, near 1/M for a large one."""
    labels = torch.arange(10).repeat(200)

    def share(alpha):
        counts = class_histogram(labels, Dirichlet(alpha)(labels, 5, 0), 10)
        return (counts.max(0).values / counts.sum(0)).mean().item()

    assert share(0.05) > 0.8
    assert 0.6 > share(1.0) > 0.3
    assert share(1000.0) < 0.22


def test_the_smallest_alpha_gives_whole_classes():
    counts = class_histogram(LABELS, Dirichlet(1e-300)(LABELS, 3, 0), 10)
    assert ((counts > 0).sum(0) == 1).all()


def test_a_draw_with_an_empty_worker_is_repeated():
    """With few samples and a small alpha many a first draw is refused, yet each seed finds a split."""
    labels = torch.arange(4).repeat(10)
    for seed in range(30):
        assert min(len(part) for part in Dirichlet(0.3)(labels, 4, seed)) > 0


@pytest.mark.parametrize(("ratio", "workers"), [(1.0, 7), (10.0, 2), (10.0, 9), (100.0, 5)])
def test_unequal_sizes_fall_by_the_ratio(ratio, workers):
    labels = torch.arange(100_000) % 10
    parts = Unequal(ratio)(labels, workers, 0)
    sizes = [len(part) for part in parts]
    assert all(a >= b - 1 for a, b in pairwise(sizes))
    assert sizes[0] / sizes[-1] == pytest.approx(ratio, rel=0.01)
    shares = class_histogram(labels, parts, 10) / torch.tensor(sizes).unsqueeze(1)
    assert (shares - 0.1).abs().max() < 0.05


def test_histogram_counts():
    parts = [torch.tensor([0, 1]), torch.tensor([2])]
    assert class_histogram(torch.tensor([1, 1, 0]), parts, 3).tolist() == [[0, 2, 0], [1, 0, 0]]
    assert class_histogram(torch.tensor([1]), [], 3).shape == (0, 3)
    with pytest.raises(ValueError, match="with 2 classes"):
        class_histogram(torch.tensor([2]), [torch.tensor([0])], 2)


def test_partitions_are_found_by_name():
    assert {"by-class", "dirichlet", "iid", "unequal"} <= set(partition_names())
    assert partition_named("iid") == Iid()
    assert (
        partition_named("by-class", redundancy=2) == ByClass(redundancy=2) == partition_named("by_class", redundancy=2)
    )
    assert partition_named("dirichlet", alpha=0.5) == Dirichlet(0.5)
    assert partition_options("by-class") == ["classes_per_worker", "redundancy"]
    assert all(len(describe_partition(name)) > 20 for name in partition_names())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("dirichelt", {}, "no partition named 'dirichelt'. Did you mean 'dirichlet'"),
        ("_common", {}, "no partition"),
        ("iid", {"alpha": 1.0}, "'iid' takes no options, but was given 'alpha'"),
        ("dirichlet", {"alhpa": 1.0}, "Did you mean 'alpha'"),
        ("dirichlet", {}, "needs the option 'alpha'"),
        ("dirichlet", {"alpha": -1.0}, "above 0"),
    ],
)
def test_mistaken_names_and_options_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        partition_named(name, **options)


def test_splits_are_fixed_for_ever():
    """Known answers: a change here breaks the resuming of every run."""
    assert [sorted(held(part)) for part in ByClass()(LABELS, 5, 0)] == [[8, 9], [3, 4], [1, 5], [2, 6], [0, 7]]
    assert Iid()(LABELS, 50, 0)[0].tolist() == [10, 13, 88, 108, 120, 172, 369, 382, 433, 495]
    assert [len(part) for part in Dirichlet(0.5)(LABELS, 5, 0)] == [145, 85, 72, 105, 93]
