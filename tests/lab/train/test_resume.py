"""Resuming is bit-exact, from wherever the run was stopped, and by whatever."""

import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace

import pytest
import torch

from gradvote import algorithms
from gradvote.lab.train import checkpoint, reopen, start
from tests.lab.train.small import (
    FACTORY,
    about,
    assert_same,
    config,
    finished,
    parameters,
    records,
    reopened,
    resumed,
    samples,
    trained,
)

DOWN = {"fault": "invert", "place": "downlink", "num": 1}
UP = {"fault": "drop", "place": "uplink", "num": 2, "redraw": True}


@pytest.mark.parametrize("algorithm", [*algorithms.names(), "noisy-signsgd", "noisy-mediansgd"])
def test_every_algorithm(algorithm, tmp_path):
    whole = trained(tmp_path / "whole", algorithm=algorithm)
    assert trained(tmp_path / "part", 7, algorithm=algorithm).status == "interrupted"
    assert_same(resumed(tmp_path / "part"), whole)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 5},
        {"batch_size": 5, "model": FACTORY.replace("tiny", "with_dropout")},
        {"batch_size": 5, "model": FACTORY.replace("tiny", "with_batch_norm")},
        {"mode": "vectorized"},
        {"optimizer": "adamw", "weight_decay": 0.1},
        {"optimizer": "nesterov-decay", "weight_decay": 0.1},
        {"schedule": "cosine", "algorithm": "dist-ef-sgdm"},
        {"schedule": "step", "algorithm": "ef-signsgd"},
        {"faults": (DOWN,)},
        {"faults": (UP,), "algorithm": "dropsignsgd"},
        {"algorithm": "noisy-signsgd", "options": {"noise_std": "relative:0.1:max"}},
        {"weights": "samples", "partition": "unequal"},
        {"seed": 7, "partition": "dirichlet", "partition_options": {"alpha": 1.0}},
    ],
    ids=str,
)
def test_every_kind_of_run(options, tmp_path):
    whole = trained(tmp_path / "whole", **options)
    trained(tmp_path / "part", 7, **options)
    assert_same(resumed(tmp_path / "part"), whole)


@pytest.mark.parametrize("until", [1, 3, 4, 11])
def test_at_every_kind_of_step(until, tmp_path):
    """First, evaluated, saved, and last but one."""
    whole = trained(tmp_path / "whole", algorithm="ef-signsgd")
    trained(tmp_path / "part", until, algorithm="ef-signsgd")
    assert_same(resumed(tmp_path / "part"), whole)


def test_again_and_again(tmp_path):
    whole = trained(tmp_path / "whole")
    trained(tmp_path / "part", 2)
    for until in (5, 6, 10, None):
        run = finished(reopened(tmp_path / "part"), until)
    assert_same(run, whole)


def test_a_finished_run_resumed_is_the_same_run(tmp_path):
    whole = trained(tmp_path / "whole")
    trained(tmp_path / "again")
    assert_same(resumed(tmp_path / "again"), whole)


def test_with_more_steps(tmp_path):
    whole = trained(tmp_path / "whole", steps=20, algorithm="signum")
    trained(tmp_path / "part", algorithm="signum")
    longer = resumed(tmp_path / "part", steps=20)
    assert_same(longer, whole)
    assert about(longer)["config"]["steps"] == 20


def test_what_it_was_called_and_how(tmp_path):
    run = start(config(), tmp_path, command="gradvote train", label="my own", samples=samples())
    finished(run, 5)
    again = finished(reopened(tmp_path, command="gradvote train --resume x"))
    assert about(again)["label"] == "my own"
    assert about(again)["command"] == "gradvote train; gradvote train --resume x"
    assert about(again)["status"] == "finished" and about(again)["message"] == ""


def test_a_diverged_run_stays_diverged(tmp_path):
    faults = ({"fault": "rescale", "factor": -1e37, "place": "uplink", "workers": (0,)},)
    run = trained(tmp_path, algorithm="sgd", lr=1e3, faults=faults)
    before = records(run)
    assert run.status == "diverged" and resumed(tmp_path).status == "diverged"
    assert str(records(run)) == str(before)


class TestMistakes:
    """One sentence, and nothing touched."""

    @pytest.mark.parametrize(
        ("chosen", "words"),
        [
            ({"lr": 0.5}, "other values of lr"),
            ({"algorithm": "sgd", "workers": 3}, "other values of algorithm, workers"),
            ({"options": {"zero": "positive"}}, "other values of zero"),
            ({"steps": 3}, "is at step 7 already, beyond 3 steps"),
        ],
    )
    def test_contradictions(self, chosen, words, tmp_path):
        trained(tmp_path, 7)
        before = contents(tmp_path)
        with pytest.raises(ValueError, match=words):
            reopened(tmp_path, chosen=chosen)
        assert contents(tmp_path) == before

    def test_the_same_options_may_be_repeated(self, tmp_path):
        trained(tmp_path, 7, options={"zero": "abstain"}, faults=(UP,))
        chosen = {"lr": 0.01, "algorithm": "signsgd", "options": {"zero": "abstain"}, "faults": (UP,)}
        assert reopened(tmp_path, chosen=chosen).step == 7

    def test_a_schedule_over_the_whole_run_cannot_be_lengthened(self, tmp_path):
        trained(tmp_path, 7, schedule="cosine")
        with pytest.raises(ValueError, match="schedule 'cosine' over 12 steps"):
            reopened(tmp_path, chosen={"steps": 20})

    def test_other_data(self, tmp_path):
        trained(tmp_path, 7)
        before, other = contents(tmp_path), replace(samples(), train_x=samples().train_x.flip(0))
        with pytest.raises(ValueError, match="began with other data than this Data"):
            reopen(tmp_path, chosen={"model": FACTORY}, samples=other)
        assert contents(tmp_path) == before

    def test_a_factory_that_nobody_has_named(self, tmp_path):
        trained(tmp_path, 7)
        with pytest.raises(ValueError, match=f"a checkpoint does not choose .* name it: --model {FACTORY}"):
            reopen(tmp_path, samples=samples())

    def test_reopening_alone_changes_nothing(self, tmp_path):
        trained(tmp_path, 7)
        before = contents(tmp_path)
        reopened(tmp_path)
        assert contents(tmp_path) == before

    def test_a_state_of_another_run(self, tmp_path):
        """The options of one run with the state of another, which only somebody's editing can bring about."""
        trained(tmp_path / "mine", 7)
        trained(tmp_path / "other", 7, workers=2)
        mine, other = (checkpoint.load(tmp_path / name / "checkpoint.pt") for name in ("mine", "other"))
        broken = [(key, value) for key in ("engine", "models", "optimizers") for value in (None, {}, [], [{}], "x")]
        broken += [("engine", other["engine"]), ("round", None), ("seconds", None), ("seconds", "x")]
        for key, value in broken:
            checkpoint.save(mine | {key: value}, tmp_path / "mine" / "checkpoint.pt")
            with pytest.raises(ValueError, match=r"checkpoint.pt does not fit the run it names: "):
                reopened(tmp_path / "mine")

    @pytest.mark.parametrize(
        "text",
        [
            "[" * 100_000 + "]" * 100_000,
            '{"options": ' * 100_000 + "1" + "}" * 100_000,
            '{"steps": 1e400, "faults": []}',
            f'{{"steps": {"9" * 5000}, "faults": []}}',
            f'{{"steps": {"9" * 400}, "faults": []}}',
            f'{{"lr": {"9" * 400}, "faults": []}}',
            '{"seed": -1e400, "faults": []}',
        ],
        ids=lambda text: text[:20],
    )
    def test_deep_and_huge_options(self, text, tmp_path):
        self.test_options_of_something_else(text, tmp_path)

    @pytest.mark.parametrize("numbers", [{"step": 10**5000}, {"step": 2**53}, {"seconds": 10**400}, {"seconds": 1e400}])
    def test_huge_numbers_in_a_checkpoint(self, numbers, tmp_path):
        trained(tmp_path, 7)
        path = tmp_path / "checkpoint.pt"
        checkpoint.save(checkpoint.load(path) | numbers, path)
        with pytest.raises(ValueError, match=r"its step is|does not fit the run it names|cannot be read"):
            reopened(tmp_path)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"steps": 3}', '{"faults": [], "colour": 3}', "null"])
    def test_options_of_something_else(self, text, tmp_path):
        trained(tmp_path, 7)
        path = tmp_path / "checkpoint.pt"
        checkpoint.save(checkpoint.load(path) | {"config": text}, path)
        with pytest.raises(ValueError, match=r"checkpoint.pt does not hold the options of a run: "):
            reopened(tmp_path)


LONG = {"algorithm": "ef-signsgd", "steps": 60, "eval_every": 7, "checkpoint_every": 5}


def train_there(folder):
    """The work of the process that is interrupted or killed."""
    run = reopened(folder) if folder.exists() else start(config(**LONG), folder, samples=samples())
    run.train()


@pytest.fixture
def process():
    """Start training in a folder in a process of its own."""
    children = []
    samples()  # read before, not by each process

    def begin(folder):
        children.append(multiprocessing.get_context("fork").Process(target=train_there, args=(folder,)))
        children[-1].start()
        return children[-1]

    yield begin
    for child in children:
        child.kill()


def num_records(folder):
    path = folder / "records.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
class TestFromOutside:
    """A process of its own, ended by a signal."""

    def test_ctrl_c_leaves_a_usable_folder(self, process, tmp_path):
        child = process(tmp_path / "part")
        deadline = time.monotonic() + 60
        while num_records(tmp_path / "part") < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(child.pid, signal.SIGINT)
        child.join(60)
        assert child.exitcode == 0
        run = reopened(tmp_path / "part")
        assert 7 <= run.step < 60 and about(run)["status"] == "interrupted"
        assert about(run)["message"] == f"stopped by the user at step {run.step}"
        assert_same(finished(run), trained(tmp_path / "whole", **LONG))

    def test_killed_at_any_instant(self, process, tmp_path):
        """Whatever the process was doing: the last checkpoint is whole, and the rest is done again."""
        whole = trained(tmp_path / "whole", **LONG)
        part, chance = tmp_path / "part", random.Random(1)
        start(config(**LONG), part, samples=samples())
        for _ in range(6):
            child = process(part)
            child.join(chance.uniform(0, whole.seconds))
            child.kill()
            child.join()
            assert reopened(part).step % 5 == 0
        assert_same(resumed(part), whole)
        left = sorted(path.name for path in part.iterdir() if "partial" not in path.name)
        assert left == ["checkpoint.pt", "records.jsonl", "run.json"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_dtypes_survive(tmp_path):
    """A checkpoint holds what training holds, not a rounded copy."""
    run = trained(tmp_path, 7, algorithm="dist-ef-sgdm")
    saved = checkpoint.load(tmp_path / "checkpoint.pt")
    for model, state in zip(run.models, saved["models"], strict=True):
        for key, value in model.state_dict().items():
            assert torch.equal(state[key], value) and state[key].dtype == value.dtype
    assert parameters(run).numel() == 610
