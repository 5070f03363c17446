"""What robustness is judged by."""

from dataclasses import replace

import torch

from gradvote.core import Context
from gradvote.lab.train.config import Config
from gradvote.lab.train.setup import faults_of


def honest(config: Config) -> Config | None:
    """Mean SGD without faults on the data of the workers that `config`'s faults never touch, at SGD's learning rate.

    A fixed liar also withholds its samples; a robust algorithm can be expected to do as well as this, not better. None
    where nobody is faulty, everybody is, or the faulty ones are drawn afresh at each step.
    """
    plan = faults_of(config)
    ctx = Context(config.seed, 0, torch.zeros(1, dtype=torch.int64), 0)
    touched = torch.zeros(config.workers, dtype=torch.bool)
    for faulty in plan:
        touched |= faulty.hits(ctx, config.workers)
    if bool(touched.all()) or not bool(touched.any()) or any(faulty.redraw for faulty in plan):
        return None
    sgd = config if config.algorithm == "sgd" else replace(config, algorithm="sgd", options={}, lr=None)
    return replace(sgd, options={**sgd.options, "weights": (~touched).float().tolist()}, faults=())
