"""Algorithms with options of their own, as words of the command line."""

import pytest

from gradvote.arguments import parse_spec
from gradvote.lab.cli.comparing import labels
from gradvote.lab.cli.options import Options, chosen, configs_of


class TestSpecifications:
    """NAME:key=value,..."""

    @pytest.mark.parametrize(
        ("text", "name", "options"),
        [
            ("sgd", "sgd", {}),
            ("signum:beta=0.5", "signum", {"beta": 0.5}),
            (
                "noisy-signsgd:noise-std=1e-2,zero=abstain,lr=3",
                "noisy-signsgd",
                {"noise_std": 0.01, "zero": "abstain", "lr": 3},
            ),
            ("sgd:weights=(1, 2),dtype=float16", "sgd", {"weights": (1, 2), "dtype": "float16"}),
            ("sgd:weights=[1,2]", "sgd", {"weights": [1, 2]}),
            ("noisy-sgd:noise_std=relative:0.1:max", "noisy-sgd", {"noise_std": "relative:0.1:max"}),
            ("dropsignsgd:track_lr=True,", "dropsignsgd", {"track_lr": True}),
        ],
    )
    def test_reading(self, text, name, options):
        assert parse_spec(text) == (name, options)

    def test_own_options_come_first(self):
        options = Options(lr=0.1, zero="abstain", set=("beta=0.5",))
        first, second = configs_of(options, ["signum:beta=0.9,lr=0.2", "signsgd"])
        assert (first.lr, first.options) == (0.2, {"zero": "abstain", "beta": 0.9})
        assert (second.lr, second.options) == (0.1, {"zero": "abstain"})

    def test_labels(self):
        assert labels(["sgd:lr=0.1", "signum"]) == ["sgd", "signum"]
        assert labels(["sgd:lr=0.1", "sgd:lr=0.2", "signum"]) == ["sgd:lr=0.1", "sgd:lr=0.2", "signum"]

    def test_only_what_was_given(self):
        assert chosen(Options()) == {}
        assert chosen(Options(steps=3, seed=0), "sgd:lr=1") == {"steps": 3, "seed": 0, "algorithm": "sgd", "lr": 1}

    @pytest.mark.parametrize(
        ("options", "key", "value"),
        [
            (Options(partition="dirichlet:alpha=0.5"), "partition_options", {"alpha": 0.5}),
            (Options(partition="by-class:redundancy=3", redundancy=2), "partition_options", {"redundancy": 3}),
            (Options(partition="unequal", ratio=3.0), "partition_options", {"ratio": 3.0}),
            (Options(noise="laplace:std=0.5,position=vote"), "options", {"noise_std": 0.5, "position": "vote"}),
            (Options(schedule="step:milestones=(3,),divisors=(2,)"), "schedule", "step:milestones=(3,),divisors=(2,)"),
            (Options(model="mlp:hidden=(3,)"), "model", "mlp:hidden=(3,)"),
        ],
    )
    def test_every_kind_takes_options_behind_its_name(self, options, key, value):
        spec = "noisy-signsgd" if options.noise else "signsgd"
        found = getattr(configs_of(options, [spec])[0], key)
        assert found == value if isinstance(value, str) else {k: found[k] for k in value} == value
