"""Runs with local steps: `gradvote train --local-steps`."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gradvote.lab.train import Config, checkpoint, prepare
from tests.lab.train.small import about, assert_same, config, parameters, resumed, samples, trained
from tests.lab.train.small import reopened as reopened_at


def options(**more: Any) -> dict[str, Any]:
    return {"local_steps": 3, "optimizer": "nesterov", "algorithm": "dist-ef-sgdm", "batch_size": 5, "lr": 0.3, **more}


@pytest.mark.parametrize("more", [{}, {"delay": 2, "model": "tests.lab.train.small:with_batch_norm"}], ids=str)
def test_resuming_keeps_the_workers_own_optimizers_and_places(more: dict[str, Any], tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", **options(**more))
    assert trained(tmp_path / "part", 7, **options(**more)).status == "interrupted"
    again = resumed(tmp_path / "part")
    assert_same(again, whole)
    assert about(whole)["config"]["local_steps"] == 3 and "AfterSteps" in about(whole)["algorithm"]
    counted = whole.workers.optimizers[0].state_dict()["state"][0]["step"]  # type: ignore[attr-defined]  # a LocalRun's
    assert int(counted) == 3 * whole.step == 36


def test_late_rounds_lead_elsewhere(tmp_path: Path) -> None:
    early, late = (trained(tmp_path / str(delay), **options(delay=delay)) for delay in (0, 2))
    assert not torch.equal(parameters(early), parameters(late))


def test_running_statistics_are_those_of_the_workers(tmp_path: Path) -> None:
    """The model is evaluated with them."""
    run = trained(tmp_path / "run", **options(model="tests.lab.train.small:with_batch_norm"))
    counted = dict(run.models[0].named_buffers())["2.num_batches_tracked"]
    assert int(counted) == 3 * run.config.workers * run.step


def test_a_checkpoint_without_their_states_is_named(tmp_path: Path) -> None:
    run = trained(tmp_path / "part", 4, **options())
    state = run._state()
    del state["local"]
    checkpoint.save(state, run.place.checkpoint)
    with pytest.raises(ValueError, match="does not fit the run it names"):
        reopened_at(tmp_path / "part")


def test_three_steps_learn_more_in_a_round_than_one(tmp_path: Path) -> None:
    """At the same rates."""
    plain = {"algorithm": "diloco", "optimizer": "sgd", "lr": 1.0, "inner_lr": 0.01}
    more, fewer = (trained(tmp_path / str(h), **options(local_steps=h, **plain)) for h in (6, 1))
    losses = [run.observer.look(run.step, 0.0, None)["loss"] for run in (more, fewer)]
    assert losses[0] < losses[1] - 0.1


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"local_steps": 0}, "local_steps must be at least 1"),
        ({"inner": "lion", "local_steps": 2}, "inner optimizer"),
        ({"inner_lr": 0.1}, "belongs to local steps"),
        ({"delay": 1, "inner_lr": 0.1}, "delay and inner_lr belong to local steps"),
        ({"local_steps": 4, "delay": 4}, "0 <= delay < local_steps=4; got delay=4"),
        ({"local_steps": 4, "delay": -1}, "0 <= delay < local_steps=4; got delay=-1"),
        ({"local_steps": 4, "delay": 1, "engine": "elastic"}, "A delay needs workers that stay"),
        ({"local_steps": 2, "mode": "vectorized"}, "mode 'vectorized'"),
        ({"local_steps": 2, "inner_lr": -1.0}, "inner learning rate must be finite"),
    ],
)
def test_what_cannot_be_is_one_sentence(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Config(**given)


@pytest.mark.parametrize("engine", ["simulation", "ddp"])
def test_faults_that_part_the_models_are_refused_before_anything_starts(engine: str) -> None:
    down = {"fault": "invert", "place": "downlink", "num": 1}
    with pytest.raises(ValueError, match="on the worker or on the way up"):
        prepare(config(**options(faults=(down,), engine=engine)), samples())
