"""A loop for the real Accelerate, two ranks, a tiny model."""

from typing import Any

import pytest
import torch

from tests.integrations.small import STEPS, outcomes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return outcomes("accelerate", "accelerate", str(tmp_path_factory.mktemp("accelerate")))


def test_ranks_stay_alike_and_resume_to_the_bit(ranks: list[Any]) -> None:
    assert torch.equal(ranks[0]["whole"], ranks[1]["whole"])
    assert all(torch.equal(own["resumed"], own["whole"]) for own in ranks)
    assert ranks[0]["counts"] == (STEPS, 0) and ranks[0]["said"] == []
    assert ranks[0]["files"] == ["gradvote-0-of-2.pt", "gradvote-1-of-2.pt"]


def test_clipping_is_before_the_vote_and_accumulation_under_no_sync(ranks: list[Any]) -> None:
    assert torch.equal(ranks[0]["by_hand"][13:], ranks[0]["whole"][13:])  # all but the running statistics
    assert not torch.equal(ranks[0]["unbounded"][13:], ranks[0]["whole"][13:])
    assert torch.equal(ranks[0]["signs"][0], ranks[1]["signs"][0]) and ranks[0]["signs"][1] == []


def test_the_log_has_the_votes(ranks: list[Any]) -> None:
    logs = ranks[0]["logs"]
    assert [own["gradvote/step"] for own in logs] == list(range(1, STEPS + 1))
    assert all(own["gradvote/compression_rate"] > 4 and own["loss"] > 0 for own in logs)


def test_a_worker_that_overflows_abstains(ranks: list[Any]) -> None:
    (model, counts, _), (other, *_) = ranks[0]["bad"], ranks[1]["bad"]
    assert torch.equal(model, other) and bool(model.isfinite().all())
    assert counts[0] == STEPS and counts[1] > 0


def test_the_scaler_is_known(ranks: list[Any]) -> None:
    for model, scale, votes, said in (own["scaled"] for own in ranks):
        assert (scale, votes, said) == (512.0, STEPS, [])
        assert torch.equal(model, ranks[0]["scaled"][0])


def test_two_models_have_a_vote_each(ranks: list[Any]) -> None:
    (models, steps, log), (others, *_) = (own["pair"] for own in ranks)
    assert torch.equal(models, others) and steps == [2, 2]
    assert log[-1]["gradvote/step"] == log[-1]["gradvote1/step"] == 2 and log[-1]["gradvote/bits_per_coordinate"] > 0


def test_what_goes_wrong_in_silence_is_refused(ranks: list[Any]) -> None:
    for own in (each["refused"] for each in ranks):
        assert "There is no gradvote-0-of-2.pt" in own["without"] and own["fresh"] == "not refused"
        assert "is of 3 ranks, and 2 run here" in own["three"]
        assert "took a step without a vote" in own["anew"] and own["stages"] == "not refused"
        assert "has a communication hook already" in own["again"]
        assert "Give attach max_norm=0.05" in own["bound"] and "Give attach max_norm=1.0" in own["other"]
        assert "cut the coordinates of a direction" in own["value"]
        assert "needs a model in DistributedDataParallel; the model given has Net" in own["plain"]
        assert "takes an Accelerator; got DistributedDataParallel" in own["order"]
    assert any("attach before it" in text for text in ranks[0]["late"])


def test_what_is_exported_is_documented_and_typed(ranks: list[Any]) -> None:
    assert ranks[0]["untold"] == []
