"""Everything the laws hold for: parts found in their packages with example instances, and all algorithms.

A new part fails `test_discovery.py` until it has an example here; a new algorithm needs nothing.
"""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest
import torch
from torch import Tensor

from gradvote import aggregators, algorithms, codecs, schedules, transforms
from gradvote.aggregators import Krum, MajorityVote, Mean, Median, NearestNeighbourMixing, TrimmedMean
from gradvote.codecs import Chain, Dense, ErrorFeedback, Masked, Sign, chain
from gradvote.core import UNITS, Aggregator, Algorithm, Codec, Context, Payload, Transform, Units
from gradvote.schedules import Constant, Cosine, PerWorker, Schedule, Step
from gradvote.transforms import Clip, Ema, LionMomentum, Momentum, Noise, Relative

KEEPS = PerWorker((0.3, 0.6, 1.0, 0.1, 0.5, 0.2, 0.9))

TRANSFORMS: dict[type, list[Transform]] = {
    Clip: [Clip(0.5)],
    Momentum: [Momentum(0.9), Momentum(0.5, nesterov=True)],
    Ema: [Ema(0.9)],
    LionMomentum: [LionMomentum()],
    Noise: [Noise(0.3), Noise(1.0, "laplace"), Noise(Relative(0.2)), Noise(Relative(0.1, "max"), "uniform")],
}
CODECS: dict[type, list[Codec]] = {
    Dense: [Dense(), Dense("float64"), Dense("bfloat16"), Dense("float16")],
    Sign: [
        Sign(),
        Sign(zero="positive"),
        Sign(zero="abstain"),
        Sign(0.5),
        Sign(Step(0.25, (2,), (2.0,)), "abstain"),
        Sign("l1"),
        Sign("l1", "abstain"),
        Sign(still=True),
        Sign(0.5, "positive", still=True),
        Sign(zero="abstain", still=True),
        Sign("l1", still=True),
    ],
    Masked: [
        Masked(0.3, Sign()),
        Masked(0.5, Sign("l1")),
        Masked(KEEPS, Sign(0.1, "abstain")),
        Masked(0.4, Sign("l1", "abstain"), 64),
        Masked(1.0, Sign(zero="positive")),
        Masked(0.4, Sign(still=True)),
    ],
    ErrorFeedback: [
        ErrorFeedback(Sign("l1")),
        ErrorFeedback(Masked(0.3, Sign(0.05)), track_lr=False),
        ErrorFeedback(Dense("bfloat16")),
        ErrorFeedback(chain(Noise(0.1), Masked(0.5, Sign("l1")))),
        ErrorFeedback(Sign(still=True)),
    ],
    Chain: [
        chain(Momentum(0.9), Sign()),
        chain(Noise(0.5), Sign()),
        chain(Noise(Relative()), Sign(zero="positive")),
        chain(Noise(Relative()), Sign(still=True)),
        chain(Clip(1.0), Ema(0.9), Noise(0.5, "logistic"), Sign("l1", "abstain")),
        chain(Momentum(0.9, nesterov=True), ErrorFeedback(Sign("l1"))),
        chain(Noise(Relative()), LionMomentum(), ErrorFeedback(Masked(0.5, Sign(0.1)))),
    ],
}
AGGREGATORS: dict[type, list[Aggregator]] = {
    Mean: [Mean(), Mean((1.0, 2.0, 0.5, 3.0, 1.5, 0.0, 0.25))],
    MajorityVote: [
        MajorityVote(),
        MajorityVote("positive"),
        MajorityVote("abstain"),
        MajorityVote("random", (1.0, 2.0, 0.5, 3.0, 1.5, 0.0, 0.25)),
        MajorityVote(still=True),
        MajorityVote("positive", (1.0, 2.0, 0.5, 3.0, 1.5, 0.0, 0.25), still=True),
    ],
    Median: [Median()],
    Krum: [Krum(0), Krum(1), Krum(2, fewer=1)],
    NearestNeighbourMixing: [
        NearestNeighbourMixing(1),
        NearestNeighbourMixing(2, Krum(2)),
        NearestNeighbourMixing(1, Median()),
    ],
    TrimmedMean: [TrimmedMean(0), TrimmedMean(1), TrimmedMean(3)],
}
SCHEDULES: dict[type, list[Schedule]] = {
    Constant: [Constant(0.5)],
    Step: [Step(1.0, (10, 20), (2.0, 4.0))],
    Cosine: [Cosine(0.1, 100)],
    PerWorker: [KEEPS],
}
PACKAGES: dict[ModuleType, tuple[type, dict]] = {
    transforms: (Transform, TRANSFORMS),
    codecs: (Codec, CODECS),
    aggregators: (Aggregator, AGGREGATORS),
    schedules: (Schedule, SCHEDULES),
}


def modules(package: ModuleType) -> list[ModuleType]:
    """A package and the modules in it."""
    if not hasattr(package, "__path__"):
        return [package]
    return [
        package,
        *(importlib.import_module(m.name) for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")),
    ]


def classes(package: ModuleType, base: type) -> set[type]:
    """The concrete classes under `base` that a package defines."""
    return {
        value
        for module in modules(package)
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, base)
        and not inspect.isabstract(value)
        and value.__module__.startswith(package.__name__)
    }


def _all_algorithms() -> dict[str, Algorithm]:
    """Every algorithm with its defaults, with exact zeros, and with noise at both places and of both scales."""
    found: dict[str, Algorithm] = {}
    for name in algorithms.names():
        variants = {
            name: algorithms.create(name),
            f"noisy-{name}": algorithms.create(f"noisy-{name}", noise_std=0.1),
            f"noisy-{name}-vote": algorithms.create(f"noisy-{name}", noise_std=0.1, position="vote"),
            f"noisy-{name}-relative": algorithms.create(f"noisy-{name}", noise_std=Relative()),
        }
        if "zero" in algorithms.options(name):
            variants[f"{name}-abstain"] = algorithms.create(name, zero="abstain")
        found |= {key: a for key, a in variants.items() if key == f"noisy-{name}" or a not in found.values()}
        if found.get(f"noisy-{name}-vote") == found[f"noisy-{name}"]:
            del found[f"noisy-{name}-vote"]
    return found


ALGORITHMS = _all_algorithms()
PLAIN = {name: ALGORITHMS[name] for name in algorithms.names()}


def flat(examples: dict[type, list]) -> list:
    """All examples, with readable test names."""
    return [pytest.param(e, id=repr(e).replace(" ", "")) for group in examples.values() for e in group]


def context(
    sender: int | Tensor = 0,
    blocks: int | Tensor = 3,
    step: int = 4,
    lr: float | Tensor = 0.1,
    seed: int = 7,
    attempt: int = 0,
    secret: bytes | None = None,
    units: Units = UNITS,
) -> Context:
    block = torch.arange(10, 10 + blocks) if isinstance(blocks, int) else blocks
    return Context(seed, step, block, sender, lr, attempt, secret, units)


def senders(num_workers: int) -> Tensor:
    return torch.arange(num_workers)[:, None]


def updates(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Test data with zeros and ties, inside a buffer of NaN, so that a part that reads beyond its rows is found out."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator)
    coarse = torch.rand(shape, generator=generator)
    x = torch.where(coarse < 0.3, x.sign(), torch.where(coarse < 0.45, 0.0, x)).to(dtype)
    buffer = torch.full((x.numel() + 128,), torch.nan, dtype=dtype)
    buffer[64 : 64 + x.numel()] = x.flatten()
    return buffer[64 : 64 + x.numel()].view(shape)


def blanked(x: Tensor, units: Units, seed: int = 0) -> Tensor:
    """x (..., B, n) with about half of its units all zeros, whole blocks among them; in the same memory."""
    number = torch.arange(x.shape[-1]) if units.phase is None else torch.arange(x.shape[-1]) + units.phase[:, None]
    number = (number // units.length).expand(x.shape)
    chosen = torch.rand(*x.shape[:-1], int(number.amax()) + 1, generator=torch.Generator().manual_seed(seed))
    chosen[..., :1, :] = 0
    return x.masked_fill_(chosen.gather(-1, number) < 0.5, 0.0)


def rows(payload: Payload, i: int) -> Payload:
    """Sender i's payload of many."""
    return Payload(payload.valid[i], {k: p[i] for k, p in payload.planes.items()})


def row(state: object, i: object) -> object:
    """Worker i's part of a state."""
    return {k: row(v, i) for k, v in state.items()} if isinstance(state, dict) else state[i]  # type: ignore[index]


def same(a: object, b: object) -> bool:
    """The same bits all through nested dicts of tensors."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    assert isinstance(a, Tensor) and isinstance(b, Tensor)
    return a.dtype == b.dtype and a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def same_payload(a: Payload, b: Payload) -> bool:
    """Equal flags and planes, apart from unused columns of zeros on the right."""
    if not same(a.valid, b.valid) or a.planes.keys() != b.planes.keys():
        return False
    return all(_same_plane(a[name], b[name]) for name in a.planes)


def _same_plane(a: Tensor, b: Tensor) -> bool:
    width = min(a.shape[-1], b.shape[-1])
    surplus = a[..., width:].any() or b[..., width:].any()
    return same(a[..., :width], b[..., :width]) and not bool(surplus)
