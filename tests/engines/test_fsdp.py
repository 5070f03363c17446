"""Replicas that FSDP2 shards vote as unsharded ones do, where blocks fall alike; habits, faults, checkpoints."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from gradvote.engines import launch
from gradvote.engines.launch import spawn
from gradvote.errors import WorkerFailed
from tests.engines import fsdp_workers
from tests.engines.fsdp_workers import VARIANTS

pytestmark = pytest.mark.slow  # six processes for minutes; the example runs each time


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where the ranks wrote what they found, and how it ended; one spawn, as six processes take long to begin."""
    folder = tmp_path_factory.mktemp("ranks")
    patient = mock.patch.object(launch, "GRACE", 60.0)
    with patient, pytest.raises(WorkerFailed) as failure:
        spawn(fsdp_workers.everything, 6, str(folder))
    assert "exit code 3" in str(failure.value), failure.value
    return folder, str(failure.value)


@pytest.fixture(scope="module")
def ranks(ended: tuple[Path, str]) -> list[Any]:
    return [torch.load(ended[0] / f"{rank}.pt", weights_only=False) for rank in range(6)]


def two(ranks: list[Any]) -> list[Any]:
    """Those of two replicas of two shards."""
    return ranks[:4]


@pytest.mark.parametrize("name", VARIANTS)
def test_shards_vote_as_whole_replicas_do(ranks: list[Any], name: str) -> None:
    for rank, own in enumerate(two(ranks)):
        found, expected = own["equals"][name]
        assert torch.equal(found, expected), rank
        assert torch.equal(found, ranks[0]["equals"][name][0]), rank


def test_three_shards_vote_as_whole_replicas_do(ranks: list[Any]) -> None:
    for rank, own in enumerate(ranks):
        for name, (found, expected) in own["of three"].items():
            assert torch.equal(found, expected), (rank, name)


def test_replicas_begin_with_the_values_of_the_first(ranks: list[Any]) -> None:
    for rank, own in enumerate(two(ranks)):
        found, expected = own["began_apart"]
        assert torch.equal(found, expected), rank


def test_bytes_between_replicas_are_counted(ranks: list[Any]) -> None:
    """A bit up and a bit down of half of this shard, to the other replica; nothing of the other shard."""
    for own in two(ranks):
        stats, numel = own["counted"]
        assert stats.num_ranks == 2 and stats.coordinates == numel and stats.steps == 1
        assert stats.bytes_sent == pytest.approx(numel / 8, rel=0.04)
        assert stats.bytes_received == pytest.approx(numel / 8, rel=0.04)


def test_replicas_that_part_are_told(ranks: list[Any]) -> None:
    for own in two(ranks):
        said, who = own["parted"]
        assert said.startswith("ParametersDiffer: Before step 1 the parameters differed ") and who in said


def test_several_votes_for_one_step_add_up(ranks: list[Any]) -> None:
    for rank, own in enumerate(two(ranks)):
        found, expected, said = own["several_votes"]
        assert torch.equal(found, expected), rank
        assert len(said) == 1 and "set_requires_gradient_sync(False)" in said[0]


def test_what_is_not_a_number_stays_where_it_is(ranks: list[Any]) -> None:
    """A shard's blocks abstain; a parameter that one shard decided on has a gradient on all of them."""
    for own in two(ranks):
        here, number = own["not_a_number"], own["place"][1]
        gradient, moved, abstentions = here["one"]
        assert gradient is not None and bool((moved != 0).all())
        assert (abstentions[1] > 0) == (number == 0) and abstentions[0] == 0
        gradient, moved, _ = here["shard"]
        half = len(moved) // 2
        assert gradient is not None and bool((gradient == 0).all()) == (number == 0)
        assert bool((moved[:half] == 0).all()) and bool((moved[half:] != 0).all())
        gradient, moved, _ = here["all"]
        assert gradient is None and bool((moved == 0).all())


def test_all_shards_step_after_an_overflow_in_one(ranks: list[Any]) -> None:
    for own in two(ranks):
        assert own["overflows"] == {"one of two": (1024.0, True, True), "both": (512.0, False, True)}


def test_a_part_that_one_replica_uses(ranks: list[Any]) -> None:
    for own in two(ranks):
        assert own["on_one_replica_only"] == (1.0, True)


def test_what_is_changed_after_the_start_is_seen(ranks: list[Any]) -> None:
    for own in two(ranks):
        said = own["changed_after"]
        assert len(said["clipped"]) == 1 and "use max_norm= of attach" in said["clipped"][0]
        assert "'frozen.weight' was frozen when the votes began" in said["unfrozen"]


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("hybrid", "mesh of two dimensions (hybrid sharding): torch averages"),
        ("hybrid", "fully_shard(module, mesh=mesh['shard'])"),
        ("plain", "takes a model sharded by torch.distributed.fsdp.fully_shard; got a model (Net)"),
        ("partly", "The parameter 'few' is trained but not sharded"),
        ("twice", "This model has an all-reduce hook already"),
        ("meta", "is on the meta device"),
        ("empty", "shard has no trainable parameters"),
        ("whole vectors", "but each rank of a replica has a shard of it"),
        ("shards", "It takes the ranks that hold the same shard"),
        ("two dimensions", "a mesh of one dimension, that across replicas"),
        ("no group", "group= takes the process group of the ranks that have the same shard"),
        ("swapped", "got an Algorithm. The arguments are in another order"),
        ("seeds", "Rank 3 was given something else than rank 1: seed 1 (on rank 1: 0)"),
        ("one rank", "given something else than rank 1: seed 0 (on rank 1: 1)"),
        ("a bound in one shard", "given different things: rank 1 has max_norm 1.0 (on rank 0: None)"),
        ("exchange", "vote by gradvote.fsdp.attach"),
    ],
)
def test_what_cannot_vote_is_refused_on_all_ranks(ranks: list[Any], case: str, text: str) -> None:
    assert text in ranks[1]["refusals"][case]
    assert all(own["refusals"][case] for own in two(ranks))


def test_resuming_is_exact(ranks: list[Any]) -> None:
    for rank, own in enumerate(two(ranks)):
        found, expected = own["resumed"]["two"]
        assert torch.equal(found, expected), rank


def test_three_shards_have_the_memories_of_two(ranks: list[Any]) -> None:
    for rank, own in enumerate(ranks):
        saved = ranks[0 if own["place"][0] == 0 else 2]["resumed"]["saved"]
        found, step = own["resumed"]["three"]
        assert step == 2 and found.keys() == saved.keys()
        assert any(key.startswith("worker") and memory.any() for key, memory in found.items())
        assert any(key.startswith("server") and memory.any() for key, memory in found.items())
        for key, memory in found.items():
            assert torch.equal(memory, saved[key]), (rank, key)


def test_a_checkpoint_that_does_not_fit_is_told(ranks: list[Any]) -> None:
    said, replicas, none = ranks[0]["mixed"]
    assert said.startswith("1 blocks of this shard hold coordinates of several old blocks")
    assert "num_replicas 3; here it is 2" in replicas and "has the memories of replica none" in none


def test_a_lost_rank_ends_the_others(ended: tuple[Path, str]) -> None:
    """Its own replica by FSDP's error, the ranks with the same shard by one that names it; nobody waits."""
    assert ended[1].startswith("Rank 3 failed")
    texts = {rank: (ended[0] / f"{rank}.txt").read_text().split(" ", 1) for rank in (0, 1, 2)}
    assert all(float(seconds) < 60 and text for seconds, text in texts.values())
    assert "ExchangeError" in texts[1][1] and "rank 3 did not answer" in texts[1][1]
