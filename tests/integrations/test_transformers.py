"""Hugging Face's real Trainer, two ranks, a tiny model."""

from typing import Any

import pytest
import torch

from tests.integrations.small import CLIP, HALF, STEPS, outcomes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return outcomes("transformers", "transformers.trainer", str(tmp_path_factory.mktemp("trainer")))


def test_ranks_stay_alike_and_resume_to_the_bit(ranks: list[Any]) -> None:
    """Also on the same Trainer once more, whose model is in DDP already, and with running statistics of one's own."""
    for name in ("whole", "resumed", "again"):
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        assert torch.equal(ranks[0][name], ranks[0]["whole"]), name
    assert ranks[0]["counts"] == (STEPS, 0)


def test_clipping_is_before_the_vote(ranks: list[Any]) -> None:
    assert torch.equal(ranks[0]["by_hand"][13:], ranks[0]["whole"][13:])  # all but the running statistics
    assert ranks[0]["clipping_after"] == CLIP
    assert [text for text in ranks[0]["said"] if "max_grad_norm=0.05 bounds each worker's own gradient" in text]
    assert not any("max_grad_norm" in text for text in ranks[1]["said"])


def test_files_lie_in_the_checkpoint_and_go_with_it(ranks: list[Any]) -> None:
    assert ranks[0]["folders"] == [f"checkpoint-{STEPS}"]
    assert ranks[0]["files"] == ["gradvote-0-of-2.pt", "gradvote-1-of-2.pt"]


def test_the_log_has_the_votes(ranks: list[Any]) -> None:
    losses = [own for own in ranks[0]["logs"] if "loss" in own]
    assert [own["gradvote/step"] for own in losses] == list(range(1, STEPS + 1))
    assert all(own["gradvote/compression_rate"] > 4 and own["gradvote/bits_per_coordinate"] > 0 for own in losses)


def test_a_worker_that_overflows_abstains(ranks: list[Any]) -> None:
    (model, counts, said), (other, *_) = ranks[0]["bad"], ranks[1]["bad"]
    assert torch.equal(model[13:], other[13:]) and bool(model.isfinite().all())  # running statistics: rank 0 wins later
    assert counts[0] == STEPS and counts[1] > 0
    assert sum("ddp_broadcast_buffers=False" in text for text in said) == 1


def test_the_trainers_scaler_is_known(ranks: list[Any]) -> None:
    for model, scale, votes, said in (own["scaled"] for own in ranks):
        assert (scale, votes) == (512.0, STEPS)
        assert torch.equal(model, ranks[0]["scaled"][0])
        assert not any("GradScaler" in text or "after the vote, such as" in text for text in said)


def test_another_try_with_a_smaller_batch_votes_and_clips_still(ranks: list[Any]) -> None:
    assert torch.equal(ranks[0]["short"][0], ranks[1]["short"][0])
    assert ranks[0]["short"][1:] == (CLIP, STEPS)


def test_what_others_read_and_save_of_the_bound_stays(ranks: list[Any]) -> None:
    """Also where training is interrupted; it cannot be changed meanwhile."""
    for own in ranks:
        assert own["bounds"] == {CLIP}
        assert f"max_grad_norm was {CLIP} when training began and is 1.0 now" in own["changed"]


def test_a_removed_callback_is_no_silent_vote(ranks: list[Any]) -> None:
    """The hook stays in the model; another Trainer of it does not vote, and the callback may be given back."""
    for own in ranks:
        assert "was removed from the Trainer, but its model votes still" in own["removed"] and own["untouched"]
        assert own["plain"] == (True, 0, True)
        assert own["back"] == "not refused"


def test_an_epoch_that_ends_within_a_step_is_told_once(ranks: list[Any]) -> None:
    told = [sum("ended with 1 of the 2 micro-batches" in text for text in own["endless"]) for own in ranks]
    assert told == [1, 0]


def test_one_trainer_after_another(ranks: list[Any]) -> None:
    for own in ranks:
        assert own["stages"] == []


def test_what_goes_wrong_in_silence_is_refused(ranks: list[Any]) -> None:
    for own in ranks:
        assert "took a step without a vote" in own["around"]
        assert "Accelerate took it for prepared and did not wrap it" in own["early"]
        assert "Rank 1 cannot load" in own["refused"]["without"] and "fresh=True" in own["refused"]["without"]
        assert "is of 3 ranks, and 2 run here" in own["refused"]["three"]
        assert f"saved at step {STEPS}, the rest of the checkpoint at step {HALF}" in own["refused"]["stale"]
        assert own["fresh"][1] == STEPS - HALF
        assert not torch.equal(own["fresh"][0][13:], own["whole"][13:])  # so memories matter to what was resumed


def test_what_is_exported_is_documented_and_typed(ranks: list[Any]) -> None:
    assert ranks[0]["untold"] == []
