"""A replica that FSDP2 shards is one client: bounded as one, hidden whole, under one account."""

from typing import Any

import pytest
import torch

pytest.importorskip("cryptography", reason="noise for privacy needs the extra dp")

from gradvote.engines.launch import spawn
from tests.privacy import sharded_workers


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("ranks")
    spawn(sharded_workers.everything, 4, str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(4)]


def test_shards_are_bounded_by_the_norm_of_the_whole(ranks: list[Any]) -> None:
    for own in ranks:
        for found, expected in own["released"]["pairs"]:
            assert torch.allclose(found, expected, atol=1e-4)
        found, expected, releases = own["local"]
        assert torch.allclose(found, expected, atol=1e-4) and releases == 1


def test_each_shard_has_noise_of_its_own(ranks: list[Any]) -> None:
    """Of two replicas, σC = 6 each: the mean has a standard deviation of 6/√2, whatever shard it lies in."""
    for own in ranks:
        z = own["noise"]
        assert torch.equal(z, ranks[0]["noise"]) and len(z) > 1000
        halves = z[: len(z) // 2], z[len(z) // 2 :]
        for half in halves:
            assert 0.85 < float(half.std()) / (6 / 2**0.5) < 1.15 and abs(float(half.mean())) < 0.8
        rows = z[: 24 * 16].view(2, -1)  # of one weight, by shard
        assert abs(float(torch.corrcoef(rows)[0, 1])) < 0.35


def test_all_shards_count_and_the_first_one_writes(ranks: list[Any]) -> None:
    for rank, own in enumerate(ranks):
        found = own["released"]
        assert (found["counted"], found["loaded"], found["began"]) == (3, 2, 3), rank
        assert found["ledger"] == (rank % 2 == 0) and found["dimension"] == len(found["pairs"][0][0])
        without, unread, afterwards = found["refused"]
        assert "run under an account, with 2 releases" in without and "run under an account, with some" in unread
        assert "saved without privacy=" in afterwards


def test_a_run_stops_before_its_limit(ranks: list[Any]) -> None:
    for own in ranks:
        assert own["spent"]["spent"] and own["spent"]["allowed"] > 3 and own["spent"]["epsilon"] <= 2.0


@pytest.mark.parametrize(
    ("case", "text"),
    [
        ("unit", "FSDP's backward pass adds up the gradients of all examples"),
        ("bound", "bounds the update by its own max_norm=2.0"),
        ("one shard alone", "privacy"),
        ("one shard's own noise", "privacy"),
        ("none of it", "takes a gradvote.privacy.Gaussian"),
    ],
)
def test_what_no_account_can_hold_for_is_refused(ranks: list[Any], case: str, text: str) -> None:
    texts = [own["refusals"][case] for own in ranks]
    alone = case.startswith("one shard")
    told = texts[2:] if alone else texts
    assert all(text in own for own in told), texts
    assert not alone or all("other ranks were given different things" in own for own in texts[:2]), texts
