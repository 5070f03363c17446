"""What holds for every fault, partition, model and data set: ours, and those of installed plugins."""

import inspect
import pickle
from dataclasses import FrozenInstanceError, fields

import pytest
import torch

from gradvote.errors import MissingExtra
from gradvote.faults import Collusion, Fault, Faulty, fault_class
from gradvote.faults import names as fault_names
from gradvote.lab import data, models
from gradvote.lab.data import DataNotFoundError, Partition
from gradvote.lab.train.schedules import describe_schedule, schedule_names, schedule_of
from gradvote.rng import Stream, draw
from tests.contract.parts import FAULTS, PARTITIONS, SCHEDULES, context, flat, same, updates

LABELS = torch.arange(500) * 7 % 10
M, B, N = 5, 3, 70


@pytest.mark.parametrize("part", flat(FAULTS) + flat(PARTITIONS))
def test_parts_are_values(part: Fault | Partition) -> None:
    assert pickle.loads(pickle.dumps(part)) == part and hash(pickle.loads(pickle.dumps(part))) == hash(part)
    for field in fields(part):  # type: ignore[arg-type]
        with pytest.raises(FrozenInstanceError):
            setattr(part, field.name, None)


@pytest.mark.parametrize("seed", [0, 1, 2**60])
@pytest.mark.parametrize("partition", flat(PARTITIONS))
def test_each_sample_goes_to_exactly_one_worker(partition: Partition, seed: int) -> None:
    parts = partition(LABELS, 5, seed)
    assert len(parts) == 5 and torch.equal(torch.cat(parts).sort().values, torch.arange(500))
    for part in parts:
        assert part.dtype == torch.int64 and len(part) > 0 and torch.equal(part, part.sort().values)


@pytest.mark.parametrize("partition", flat(PARTITIONS))
def test_the_seed_decides_and_nothing_else(partition: Partition) -> None:
    before, first = torch.get_rng_state(), partition(LABELS, 5, 0)
    torch.rand(1)
    again, other = partition(LABELS, 5, 0), partition(LABELS, 5, 1)
    torch.set_rng_state(before)
    assert all(map(torch.equal, first, again))
    assert not all(len(a) == len(b) and torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("partition", flat(PARTITIONS))
def test_more_workers_than_samples_are_refused_in_a_sentence(partition: Partition) -> None:
    with pytest.raises(ValueError, match=r"(?s)^[A-Z0-9].{15,}\.$"):
        partition(LABELS, 501, 0)


@pytest.mark.parametrize("fault", flat(FAULTS))
def test_faults_keep_shapes_and_follow_the_public_stream(fault: Fault) -> None:
    """What they do is a function of input and draw; the input stays as it was."""
    here, x = draw(context(), Stream.FAULT), updates(M, B, N)
    words = torch.arange(M * B * 2).view(M, B, 2)
    honest = torch.ones(M, B, dtype=torch.bool)
    honest[3:] = False
    if fault.drops:
        return
    if isinstance(fault, Collusion):
        found = [fault.on_all(x, honest, here) for _ in range(2)]
        spoiled = x.where(honest[..., None], 7.0)
        assert same(fault.on_all(spoiled, honest, here), found[0]), "liars go by the honest gradients alone"
        assert found[0].shape == x.shape
    else:
        found = [fault.on_values(x, here) for _ in range(2)]
        bits = [fault.on_bits(words, here) for _ in range(2)]
        assert same(*bits) and bits[0].shape == words.shape and bits[0].dtype == words.dtype
        assert found[0].shape == x.shape
    assert same(*found) and same(x, updates(M, B, N)) and same(words, torch.arange(M * B * 2).view(M, B, 2))


def test_samples_of_faults_are_of_the_faults_with_names() -> None:
    assert {fault_class(name) for name in fault_names()} == FAULTS.keys()
    assert all(Faulty(fault).workers is None for group in FAULTS.values() for fault in group)


@pytest.mark.parametrize("name", models.model_names())
def test_models_take_samples_and_say_what_they_are(name: str) -> None:
    net = models.build(name, (1, 8, 8), 3, 0)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 3) and len(models.describe_model(name)) > 10


@pytest.mark.parametrize("name", data.names())
def test_data_sets_load_or_say_what_is_missing(name: str) -> None:
    assert len(data.describe(name)) > 10
    try:
        found = data.load(name)
    except (DataNotFoundError, MissingExtra) as error:
        assert len(str(error)) > 30
        return
    assert len(found.train_x) == len(found.train_y) > 0 and int(found.train_y.max()) < found.num_classes


@pytest.mark.parametrize("name", schedule_names())
def test_schedules_of_a_run_begin_at_its_rate_at_most(name: str) -> None:
    made = schedule_of(name, 0.5, 70)
    assert type(made) in SCHEDULES and all(0 <= made(step, 0) <= 0.5 for step in range(71))
    assert 10 < len(describe_schedule(name)) < 130
    assert inspect.getdoc(type(made))
