"""What a strategy is given: one sentence where it cannot be right, before anybody is asked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'gradvote[flower]'")

from flwr.app import ArrayRecord, ConfigRecord

from gradvote.flower import GradVote
from tests.engines.flower.nodes import model
from tests.engines.flower.test_habits import NOISY, grid_of, start


def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    torch.save(model().state_dict(), tmp_path / "model")
    for name, words in (("text", "cannot be read as a checkpoint"), ("model", "no checkpoint that this version's")):
        with pytest.raises(ValueError, match=words):
            start(grid_of(), checkpoint=tmp_path / name)
    with pytest.raises(ValueError, match="is a folder; name a file in it"):
        GradVote(NOISY, checkpoint=tmp_path)
    for number in range(3):
        (tmp_path / f"client-{number}.npz").write_text("hello")
    grid = grid_of(folder=tmp_path)
    strategy = GradVote(NOISY, min_train_nodes=1, min_available_nodes=1)
    assert list(strategy.configure_train(1, ArrayRecord(model().state_dict()), ConfigRecord(), grid)) == []


def test_a_checkpoint_is_of_one_kind_of_model(tmp_path: Path) -> None:
    file = tmp_path / "run"
    start(grid_of(), checkpoint=file, rounds=1)
    for given, words in (
        (model().double().state_dict(), r"'0.bias' as float32 \(7,\), but the initial arrays as float64 \(7,\)"),
        ({**model().state_dict(), "table": torch.zeros(3)}, "'table' as none"),
    ):
        with pytest.raises(ValueError, match=words):
            start(grid_of(), given, checkpoint=file, rounds=2, voted=[*model().state_dict()])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"fraction_train": "0.5"}, "are numbers"),
        ({"min_train_nodes": 2.5}, "min_train_nodes is a number of nodes"),
        ({"arrayrecord_key": "gradvote.model"}, "taken by the votes"),
        ({"configrecord_key": "arrays"}, "name two records"),
        ({"nesterov": True}, "give momentum="),
    ],
    ids=lambda v: str(v)[:20],
)
def test_arguments_that_cannot_be_right(given: dict[str, Any], words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        GradVote(NOISY, **given)


def test_what_start_is_given() -> None:
    for given, rounds, words in (
        (model().state_dict(), 1, "such as ArrayRecord"),
        (None, 1, "got a NoneType"),
        (ArrayRecord(), 1, "are empty"),
        (ArrayRecord(model().state_dict()), -1, "num_rounds is the number of rounds in all"),
        (ArrayRecord([np.full(3, np.nan)]), 1, "begins with NaN"),
    ):
        with pytest.raises((TypeError, ValueError), match=words):
            GradVote(NOISY).start(grid_of(), given, num_rounds=rounds)  # type: ignore[arg-type] # what is tried here
