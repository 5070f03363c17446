"""Everything the laws hold for: the parts in our packages and in installed plugins, by the `SAMPLES` beside them.

There is no list to edit. A new part fails `test_discovery.py` until its file has samples; an algorithm needs none.
"""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest
import torch
from torch import Tensor

from gradvote import aggregators, algorithms, codecs, discovery, faults, partitions, schedules, transforms
from gradvote.core import UNITS, Aggregator, Algorithm, Codec, Context, Payload, Transform, Units
from gradvote.faults import Fault
from gradvote.partitions import Partition
from gradvote.schedules import Schedule
from gradvote.transforms import Relative

BASES: dict[ModuleType, type] = {
    transforms: Transform,
    codecs: Codec,
    aggregators: Aggregator,
    schedules: Schedule,
    faults: Fault,
    partitions: object,
}
"""The packages of parts that have samples, and what their parts are."""


def modules(package: ModuleType) -> list[ModuleType]:
    """A package, the modules in it, and those of installed plugins for it."""
    kind = package.__name__.rsplit(".", 1)[1]
    own = pkgutil.walk_packages(getattr(package, "__path__", []), f"{package.__name__}.")
    names = [*(m.name for m in own), *(found.module for found in discovery.plugged(kind))]
    return [package, *map(importlib.import_module, names)]


def classes(package: ModuleType) -> dict[type, str]:
    """The concrete public classes of parts that a package or plugin defines, and the modules they are in."""
    return {
        value: module.__name__
        for module in modules(package)
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, BASES[package])
        and not (inspect.isabstract(value) or is_protocol(value) or value.__name__.startswith("_"))
        and value.__module__ == module.__name__
    }


def is_protocol(kind: type) -> bool:
    """Whether a class only says what others look like."""
    return bool(getattr(kind, "_is_protocol", False))


def samples(package: ModuleType) -> dict[type, list]:
    """The instances in `SAMPLES` of a package's modules, by their class."""
    found: dict[type, list] = {}
    for module in modules(package):
        for sample in getattr(module, "SAMPLES", ()):
            found.setdefault(type(sample), []).append(sample)
    return found


TRANSFORMS: dict[type, list[Transform]] = samples(transforms)
CODECS: dict[type, list[Codec]] = samples(codecs)
AGGREGATORS: dict[type, list[Aggregator]] = samples(aggregators)
SCHEDULES: dict[type, list[Schedule]] = samples(schedules)
FAULTS: dict[type, list[Fault]] = samples(faults)
PARTITIONS: dict[type, list[Partition]] = samples(partitions)


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
        found |= {key: a for key, a in variants.items() if key in (name, f"noisy-{name}") or a not in found.values()}
        if found.get(f"noisy-{name}-vote") == found[f"noisy-{name}"]:
            del found[f"noisy-{name}-vote"]
    return found


ALGORITHMS = _all_algorithms()
PLAIN = {name: ALGORITHMS[name] for name in algorithms.names()}


def remembers(codec: Codec) -> bool:
    """Whether it keeps back what it has not sent."""
    return codec.unsent(codec.init(torch.zeros(1, 1, 1))) is not None


def mirrors(codec: Codec) -> bool:
    """Whether its receiver adds up what it sends."""
    return codec.mirrored(codec.init(torch.zeros(1, 1, 1))) is not None


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
