"""Lightning's real Trainer, two ranks, a tiny model."""

from typing import Any

import pytest
import torch

from tests.integrations.small import CLIP, HALF, STEPS, outcomes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return outcomes("lightning", "lightning.pytorch", str(tmp_path_factory.mktemp("lightning")))


def test_ranks_stay_alike_and_resume_to_the_bit(ranks: list[Any]) -> None:
    """Also with the same Trainer once more, and with running statistics of one's own."""
    for name in ("whole", "resumed", "again"):
        assert torch.equal(ranks[0][name], ranks[1][name]), name
        assert torch.equal(ranks[0][name], ranks[0]["whole"]), name
    assert ranks[0]["counts"] == (STEPS, 0)


def test_clipping_is_before_the_vote(ranks: list[Any]) -> None:
    assert torch.equal(ranks[0]["by_hand"][13:], ranks[0]["whole"][13:])  # all but the running statistics
    assert ranks[0]["clipping_after"] == CLIP
    assert [text for text in ranks[0]["said"] if "gradient_clip_val=0.05 bounds each worker's own gradient" in text]
    assert len(ranks[0]["said"]) == 1 and not ranks[1]["said"]  # nothing of gradients that wait under no_sync


def test_files_lie_beside_the_checkpoint_and_go_with_it(ranks: list[Any]) -> None:
    (checkpoint,) = (name for name in ranks[0]["files"] if name.endswith(".ckpt"))
    own = [f"{checkpoint}.votes", *(f"{checkpoint}.votes/gradvote-{rank}-of-2.pt" for rank in (0, 1))]
    assert ranks[0]["files"] == [checkpoint, *own]
    assert len(ranks[0]["pair_files"]) == 2  # of six that were saved


def test_the_log_has_the_votes(ranks: list[Any]) -> None:
    own = [each for each in ranks[0]["logs"] if "gradvote/step" in each]
    assert {each["gradvote/step"] for each in own} == set(range(1, STEPS + 1))
    assert all(each["gradvote/compression_rate"] > 4 and each["gradvote/step"] == each["step"] for each in own)


def test_a_worker_that_overflows_abstains(ranks: list[Any]) -> None:
    (model, counts, _), (other, *_) = ranks[0]["bad"], ranks[1]["bad"]
    assert torch.equal(model, other) and bool(model.isfinite().all())
    assert counts[0] == STEPS and counts[1] > 0


def test_averaged_weights_may_have_a_last_pass_without_gradients(ranks: list[Any]) -> None:
    """For the running statistics: it ends with a step on the direction of the step before."""
    assert torch.equal(ranks[0]["swa"][13:], ranks[1]["swa"][13:])


def test_the_trainers_scaler_is_known(ranks: list[Any]) -> None:
    for model, scale, votes, said in (own["scaled"] for own in ranks):
        assert (scale, votes) == (512.0, STEPS)
        assert torch.equal(model, ranks[0]["scaled"][0])
        assert not any("GradScaler" in text or "after the vote, such as" in text for text in said)


def test_without_the_callback_nobody_votes_or_saves_votes(ranks: list[Any]) -> None:
    for own in ranks:
        assert own["away"] == (STEPS + HALF, 0, [f"step={STEPS + HALF}.ckpt"])


def test_manual_optimization_with_two_optimizers(ranks: list[Any]) -> None:
    assert torch.equal(ranks[0]["pair"][0], ranks[1]["pair"][0])
    assert ranks[0]["pair"][1] % 2 == 0 and ranks[0]["pair"][2] == CLIP
    assert all("took a step without a vote" in own["forgot"] for own in ranks)


def test_what_goes_wrong_in_silence_is_refused(ranks: list[Any]) -> None:
    for own in (each["refused"] for each in ranks):
        assert own["last"] == "not refused"  # a link to a checkpoint of another name
        assert "There is no gradvote-0-of-2.pt" in own["without"] and "fresh=True" in own["without"]
        assert "is of 3 ranks, and 2 run here" in own["three"]
        assert "gradient_clip_algorithm='value' would cut" in own["value"]
        assert "learning rate finder" in own["finder"] and "suggest_lr" in own["finder"]
        assert "both bound gradients" in own["both"] and "Import lightning.pytorch" in own["package"]
        assert "A vote needs DistributedDataParallel" in own["alone"]


def test_what_is_exported_is_documented_and_typed(ranks: list[Any]) -> None:
    assert ranks[0]["untold"] == []
