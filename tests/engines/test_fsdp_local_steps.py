"""Local steps of a model that FSDP2 shards equal those of whole replicas, bit for bit, where blocks fall alike."""

from typing import Any

import pytest
import torch

from gradvote.engines.launch import spawn
from tests.engines import fsdp_local_workers
from tests.engines.fsdp_local_workers import NAMES, OPTIONS


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("ranks")
    spawn(fsdp_local_workers.everything, 4, str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(4)]


@pytest.mark.parametrize("case", [*NAMES, *OPTIONS, "ahead", "spoilt", "raw", "evaluated", "frozen in fragments"])
def test_shards_go_as_whole_replicas_do(ranks: list[Any], case: str) -> None:
    for rank, own in enumerate(ranks):
        found, expected = own[case]
        assert torch.equal(found, expected), rank
        assert torch.equal(found, ranks[0][case][0]) and bool(found.isfinite().all()), rank


@pytest.mark.parametrize(
    "case", [f"{where}{how}" for where in ("file", "parts") for how in ("", ", delayed", ", fragments")]
)
def test_a_round_goes_on_from_its_middle_to_the_same_bits(ranks: list[Any], case: str) -> None:
    for rank, own in enumerate(ranks):
        found, expected = own[case]
        assert torch.equal(found, expected), rank


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("plain", "takes a model sharded by torch.distributed.fsdp.fully_shard; got a model"),
        ("another engine", "or after local steps with engine='fsdp'"),
        ("groups", "With a delay a vote needs process groups of its own"),
        ("chunks", "Local steps of a sharded model take no chunks=: the options are check_parameters_every"),
        ("shards' own group", "shards of one replica"),
        ("replaced", "is another tensor than when the local steps were attached"),
        ("moved", "is another tensor than when the local steps were attached"),
        ("fragments", "Each fragment has an exchange of its own"),
    ],
)
def test_what_cannot_be_is_refused(ranks: list[Any], case: str, text: str) -> None:
    for own in ranks:
        assert text in own["refusals"][case]


def test_a_model_that_is_loaded_alone_is_refused(ranks: list[Any]) -> None:
    for own in ranks:
        assert own["loaded"].keys() == {"in_place", "by_torch"}
        assert all("was changed after attach(...) and before" in said for said in own["loaded"].values())


def test_what_one_rank_was_given_otherwise_is_told_to_all(ranks: list[Any]) -> None:
    """Rank 1 is its neighbour across replicas, rank 2 within its own one; rank 0 compares with neither of them."""
    for case, values in (
        ("one rank's own H", ("every 4", "every 5")),
        ("one rank's own delay", ("delay 0", "delay 1")),
    ):
        texts = [own["refusals"][case] for own in ranks]
        assert "as other ranks were given different things" in texts[0]
        assert all(any(f"{value} (on rank" in text for value in values) for text in texts[1:]), texts


def test_what_one_rank_refuses_is_told_to_all(ranks: list[Any]) -> None:
    """Replica 0 would have waited for replica 1 until that was gone."""
    for case, refusing, text in (
        ("one rank's own chunks", (3,), "take no chunks="),
        ("one replica's own rule", (2, 3), "Krum"),
    ):
        texts = [own["refusals"][case] for own in ranks]
        assert all(text in own for own in texts), texts
        assert [own.startswith("ValueError") for own in texts] == [rank in refusing for rank in range(4)], texts


def test_a_delayed_vote_waits_as_long_as_the_groups_that_it_was_given(ranks: list[Any]) -> None:
    for own in ranks:
        across, within, given = own["patience"]
        assert across == 77 and within == given
