"""Options: checked when they are made, the same after JSON."""

import json

import pytest

from gradvote.lab.train.config import Config, from_json
from gradvote.transforms import Relative

FAULT = {"fault": "rescale", "factor": -2.0, "workers": (0, 1)}


def test_round_trip():
    config = Config("noisy-sgd", options={"noise_std": "relative:0.1"}, lr=0.1, data_dir="x", batch_size=7, steps=3)
    assert from_json(config.to_json()) == config
    plain = json.loads(config.to_json())
    assert plain["algorithm"] == "noisy-sgd" and plain["partition"] == "by-class"


def test_how_often():
    assert (Config(steps=2000).evaluate_every, Config(steps=2000).save_every) == (20, 200)
    assert (Config(steps=7).evaluate_every, Config(steps=7).save_every) == (1, 1)
    assert (Config(eval_every=3).evaluate_every, Config(checkpoint_every=4).save_every) == (3, 4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        *(
            ({name: 0}, f"{name} must be at least 1; got 0")
            for name in ("steps", "workers", "batch_size", "eval_every")
        ),
        *(({name: -3}, f"{name} must be at least 1; got -3") for name in ("eval_samples", "checkpoint_every")),
        ({"seed": -1}, "seed must be at least 0 and below"),
        ({"seed": 2**63}, "seed must be at least 0 and below"),
        ({"lr": -0.1}, "finite and not negative; got -0.1"),
        ({"lr": float("nan")}, "finite and not negative; got nan"),
        ({"lr": 1e300}, "learning rate must be finite and not negative; got 1e.300. A float32 holds at most"),
        ({"weight_decay": 1e39}, "weight decay must be finite .* A float32 holds at most"),
        ({"steps": 2**60}, "steps must be below 2..53; got a number of 61 bits"),
        ({"lr": "fast"}, "The option lr of a run must be a number or None; got 'fast'"),
        ({"steps": 2.5}, "The option steps of a run must be a whole number; got 2.5"),
        ({"weight_decay": float("inf")}, "weight decay must be finite"),
        ({"engine": "simulator"}, "Did you mean 'simulation'"),
        ({"mode": "vector"}, "Did you mean 'vectorized'"),
        ({"schedule": "cosinus"}, "Did you mean 'cosine'"),
        ({"optimizer": "adam"}, "Did you mean 'adamw'"),
        ({"weights": "sample"}, "Did you mean 'samples'"),
        ({"options": {"noise_std": Relative(0.1)}}, "Options must be numbers, texts and lists"),
        ({"faults": [1]}, "The option faults of a run must be a list of which each item is a dictionary"),
    ],
)
def test_mistakes(options, words):
    with pytest.raises(ValueError, match=words):
        Config(**options)


def test_contradictions_are_named():
    config = from_json(Config(options={"zero": "abstain"}, faults=(FAULT,), lr=0.1).to_json())
    same = {"options": {"zero": "abstain"}, "faults": (FAULT,), "lr": 0.1, "data_dir": None}
    assert config.contradicted(same) == [] == config.contradicted({})
    other = {"options": {"zero": "random", "weights": None}, "faults": (), "lr": 0.2, "steps": 1000}
    assert config.contradicted(other) == ["zero", "weights", "faults", "lr"]
