"""Values that change with the step or differ by worker: frozen dataclasses called with (step, sender)."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gradvote.core import SERVER, Context
from gradvote.fitting import Checked
from gradvote.staging import CPU, to_device


class Schedule(Checked, ABC):
    """A value as a function of the step and the sender; both ends evaluate it alike."""

    @abstractmethod
    def __call__(self, step: int, sender: int) -> float: ...


@dataclass(frozen=True)
class Constant(Schedule):
    """The same value always."""

    value: float

    def __post_init__(self) -> None:
        _check_finite("Constant", self.value)

    def __call__(self, step: int, sender: int = 0) -> float:
        return self.value


@dataclass(frozen=True)
class Step(Schedule):
    """`value` divided by divisors[k] from step milestones[k] on; the divisors are of the start value."""

    value: float
    milestones: tuple[int, ...]
    divisors: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_finite("Step", self.value)
        if len(self.milestones) != len(self.divisors) or list(self.milestones) != sorted(self.milestones):
            raise ValueError(
                f"Step needs ascending milestones and one divisor for each; got milestones {self.milestones} "
                f"and divisors {self.divisors}."
            )
        if any(not 0 < d < math.inf for d in self.divisors):
            raise ValueError(f"The divisors of Step must be positive and finite; got {self.divisors}.")

    def __call__(self, step: int, sender: int = 0) -> float:
        passed = sum(step >= m for m in self.milestones)
        return self.value / self.divisors[passed - 1] if passed else self.value


@dataclass(frozen=True)
class Cosine(Schedule):
    """value · (1 + cos(π·step/steps)) / 2, and zero from `steps` on."""

    value: float
    steps: int

    def __post_init__(self) -> None:
        _check_finite("Cosine", self.value)
        if self.steps < 1:
            raise ValueError(f"Cosine needs at least one step; got {self.steps}.")

    def __call__(self, step: int, sender: int = 0) -> float:
        return self.value * (1 + math.cos(math.pi * min(step / self.steps, 1.0))) / 2


@dataclass(frozen=True)
class PerWorker(Schedule):
    """values[sender]: a slow link may keep fewer signs."""

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError("PerWorker needs one value for each worker; got none.")
        _check_finite("PerWorker", *self.values)

    def __call__(self, step: int, sender: int) -> float:
        if not 0 <= sender < len(self.values):
            raise ValueError(
                f"PerWorker holds {len(self.values)} values, but there is a worker {sender}; "
                "give one value for each worker."
            )
        return self.values[sender]


def _check_finite(name: str, *values: float) -> None:
    """A value that is none would make every gradient NaN, so that nobody votes."""
    for value in values:
        if not math.isfinite(value):
            raise ValueError(f"{name} needs finite values; got {value}.")


def check_for_server(value: float | Schedule) -> None:
    """Raise ValueError for a value that differs by worker: the server has none of them."""
    if isinstance(value, PerWorker):
        raise ValueError("A PerWorker value cannot be used on the way down: the server sends one decision to all.")


def evaluate(value: float | Schedule, ctx: Context, on_host: bool = False) -> Tensor:
    """The value for each sender of `ctx`, shaped like `ctx.sender`; float64, not to be written to.

    It is on the device of `ctx.block`, or `on_host`.
    """
    device = CPU if on_host else ctx.block.device
    shape = ctx.sender.shape if isinstance(ctx.sender, Tensor) else torch.Size()
    if not isinstance(value, Schedule):
        return _constant(float(value), device).expand(shape)
    senders = ctx.sender.flatten().tolist() if isinstance(ctx.sender, Tensor) else [ctx.sender]
    if SERVER in senders:
        check_for_server(value)
    values = [value(ctx.step, sender) for sender in senders]
    return to_device(torch.tensor(values, dtype=torch.float64, device=CPU).view(shape), device)


@lru_cache(1024)
def _constant(value: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=torch.float64, device=device)


SAMPLES = (
    Constant(0.5),
    Step(1.0, (10, 20), (2.0, 4.0)),
    Cosine(0.1, 100),
    PerWorker((0.3, 0.6, 1.0, 0.1, 0.5, 0.2, 0.9)),
)
