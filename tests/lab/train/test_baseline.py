"""Mean SGD on the honest workers' data."""

import torch

from gradvote.lab.train import honest
from tests.lab.train.small import config, parameters, trained

FAULT = {"fault": "invert", "place": "uplink", "workers": (1, 3)}


def test_the_others_count_alone():
    found = honest(config("signum", options={"beta": 0.5}, lr=1e-4, faults=(FAULT,)))
    assert found.algorithm == "sgd" and found.options == {"weights": [1.0, 0.0, 1.0, 0.0, 1.0]}
    assert found.faults == () and found.lr is None and found.steps == 12


def test_sgd_keeps_its_rate_and_options():
    found = honest(config("sgd", options={"dtype": "bfloat16"}, lr=0.5, faults=(FAULT,)))
    assert found.lr == 0.5 and found.options["dtype"] == "bfloat16"


def test_drawn_workers_are_those_that_the_run_draws(tmp_path):
    drawn = {"fault": "nan", "place": "worker", "num": 2}
    run = trained(tmp_path, algorithm="sgd", faults=(drawn,))
    weights = torch.tensor(honest(run.config).options["weights"])
    assert torch.equal(weights == 0, run.observer.abstentions() > 0)


def test_none_without_honest_and_faulty_workers_that_stay_so():
    assert honest(config()) is None
    assert honest(config(faults=({"fault": "nan", "num": 5},))) is None
    assert honest(config(faults=({"fault": "nan", "num": 0},))) is None
    assert honest(config(faults=({"fault": "nan", "redraw": True},))) is None


def test_lost_data_count_for_nothing(tmp_path):
    """As mean SGD with a worker whose ballots are all lost."""
    faults = ({"fault": "drop", "place": "uplink", "workers": (2,)},)
    lost = trained(tmp_path / "lost", algorithm="sgd", faults=faults)
    plain = honest(lost.config)
    alone = trained(tmp_path / "alone", algorithm="sgd", options=plain.options)
    torch.testing.assert_close(parameters(alone), parameters(lost))
