"""From options to objects, every check before any work."""

import os
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradvote import algorithms, faults
from gradvote.aggregators import MajorityVote
from gradvote.arguments import checked, hints_of
from gradvote.codecs import AfterSteps
from gradvote.core import Algorithm
from gradvote.engines.common.protocol import Protocol, protocol_for
from gradvote.engines.gradients import check_vectorizable, trainable
from gradvote.faults import Faulty
from gradvote.lab import data, models
from gradvote.lab.data import Batches, Data, Partition
from gradvote.lab.train.config import Config
from gradvote.lab.train.lean import lean
from gradvote.lab.train.schedules import schedule_of
from gradvote.optim import NesterovDecay
from gradvote.rounding import with_state_dtype
from gradvote.schedules import Schedule


@dataclass
class Setup:
    """Everything a run needs, checked."""

    config: Config
    data: Data
    parts: list[Tensor]
    batches: list[Batches]
    shares: Tensor
    model: nn.Module
    protocol: Protocol
    faults: tuple[Faulty, ...]
    schedule: Schedule


def prepare(config: Config, samples: Data | None = None) -> Setup:
    """Build and check everything; `samples` are used instead of reading the data set that `config` names.

    Raises:
        ValueError: an option is wrong; the sentence says which and how to mend it.
    """
    device = _device(config)
    algorithm = algorithms.create(config.algorithm, **config.options)
    plan = faults_of(config)
    partition: Partition = data.partition_named(config.partition, **config.partition_options)
    samples = samples or data.load(config.data, config.data_dir)
    parts = partition(samples.train_y, config.workers, config.seed)
    model = models.build(config.model, samples.input_shape, samples.num_classes, config.seed).to(device)
    if config.mode == "vectorized":
        check_vectorizable(model)
    algorithm, shares = _weighted(algorithm, config, parts)
    if config.local_steps is not None:
        algorithm = replace(algorithm, up=AfterSteps(algorithm.up, config.local_steps))
    algorithm = with_state_dtype(algorithm, config.state_dtype)
    _warn_of_bias(algorithm, config.workers)
    batches = [Batches(part, config.batch_size, config.seed, i) for i, part in enumerate(parts)]
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    protocol = protocol_for(trainable(model), algorithm, config.seed, names)
    return Setup(config, samples.on(device), parts, batches, shares, model, protocol, plan, _schedule(config))


def optimizer_for(config: Config, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """A fresh optimizer for the decisions."""
    params = trainable(model)
    if config.optimizer == "nesterov-decay":
        return NesterovDecay(params, lr, weight_decay=config.weight_decay)
    if config.optimizer == "adamw":
        return lean(torch.optim.AdamW)(params, lr=lr, weight_decay=config.weight_decay)  # type: ignore[call-arg]  # of AdamW
    momentum = 0.9 if config.optimizer == "nesterov" else 0.0
    own: dict[str, Any] = {"momentum": momentum, "nesterov": momentum > 0, "weight_decay": config.weight_decay}
    return lean(torch.optim.SGD)(params, lr=lr, **own)  # type: ignore[call-arg]  # of SGD


def inner_for(config: Config, params: list[nn.Parameter]) -> torch.optim.Optimizer:
    """A fresh optimizer for one worker's local steps."""
    return lean({"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[config.inner])(params, lr=config.inner_lr)  # type: ignore[call-arg]  # of both


def faults_of(config: Config) -> tuple[Faulty, ...]:
    """The faults and whom they hit, checked."""
    plan = tuple(_faulty(f) for f in config.faults)
    for faulty in plan:
        if config.engine == "simulation":
            faulty.check(config.workers)
        else:
            faulty.check_real(config.workers, on_links=config.engine != "elastic")
    if config.local_steps is not None and faults.diverging(plan):
        raise ValueError(
            "Faults on the way down give each worker a model of its own, but local steps begin where all agree: put "
            "them on the worker or on the way up."
        )
    return plan


def _device(config: Config) -> torch.device:
    """Where a run computes; of several cards each rank of a machine takes its own."""
    if config.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError(
            "The device 'cuda' was asked for, but torch finds no CUDA device here. Leave it out to compute on the CPU, "
            "or install a build of torch for the card."
        )
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _faulty(options: dict[str, Any]) -> Faulty:
    known = hints_of(Faulty)
    own = {key: value for key, value in options.items() if key in known and key != "fault"}
    rest = {key: value for key, value in options.items() if key not in known}
    if "fault" not in options:
        raise ValueError(f"Each of the faults needs a 'fault', the name of one; got {options}.")
    fault = faults.create(options["fault"], **rest)
    return Faulty(fault, **checked(f"the fault {options['fault']}", own, known))


def _weighted(algorithm: Algorithm, config: Config, parts: list[Tensor]) -> tuple[Algorithm, Tensor]:
    """The algorithm with its workers' weights, and their shares in the true objective."""
    given = getattr(algorithm.aggregate, "weights", None) or (1.0,) * config.workers
    if len(given) != config.workers:
        raise ValueError(f"There are {len(given)} weights for {config.workers} workers; give one for each.")
    if config.weights == "equal":
        return algorithm, torch.tensor(given) / sum(given)
    if not hasattr(algorithm.aggregate, "weights"):
        raise ValueError(
            f"{config.algorithm} cannot weight workers by samples, as {algorithm.aggregate} has no weights. "
            "Use weights 'equal', or an algorithm with a mean or a vote."
        )
    by_size = tuple(weight * len(part) for weight, part in zip(given, parts, strict=True))
    weighted = replace(algorithm.aggregate, weights=by_size)  # type: ignore[type-var]  # aggregators are dataclasses
    return replace(algorithm, aggregate=weighted), torch.tensor(by_size) / sum(by_size)


def _warn_of_bias(algorithm: Algorithm, workers: int) -> None:
    vote = algorithm.aggregate
    if isinstance(vote, MajorityVote) and vote.tie == "positive" and workers % 2 == 0:
        warnings.warn(
            f"With {workers} workers (an even number) and zero='positive' every tied vote counts as +1, so tied "
            "weights drift. Use an odd number of workers, or zero='random' or 'abstain'.",
            stacklevel=4,
        )


def _schedule(config: Config) -> Schedule:
    lr = algorithms.default_lr(config.algorithm) if config.lr is None else config.lr
    return schedule_of(config.schedule, lr, config.steps)
