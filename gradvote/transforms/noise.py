"""Symmetric noise, which closes the gap between median and mean."""

import re
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.core import Context, Payload, Plane, State, Transform
from gradvote.errors import unknown
from gradvote.kernels.quantiles import QUANTILES
from gradvote.rng import Stream, draw
from gradvote.schedules import Cosine, PerWorker, Schedule, evaluate
from gradvote.staging import to_device

_RELATIVE = re.compile("relative(?::([^:]+))?(?::([^:]+))?")

REPORT = Plane("report", torch.float32, 1)
"""One float32 ≥ 0 per block: each worker's maximum on its way to the server, the combined one on its way back."""

LARGEST = 1e37
"""The largest b: times the largest ξ, 15.7, it is still a float32."""


@dataclass(frozen=True)
class Relative:
    """b_W = factor · max|g_W| per block W, the maxima of all workers combined by "median" (default) or "max".

    Chen et al. 2020, appendix (there 0.1 and max). Each ballot carries its worker's maximum (32 bits per block), the
    decision the combined one, which holds from the next step on; until one is known a worker uses its own.
    """

    factor: float = 0.1
    combine: Literal["median", "max"] = "median"

    def __post_init__(self) -> None:
        _check_std(self.factor)
        if self.combine not in ("median", "max"):
            raise unknown("way to combine maxima", self.combine, ["median", "max"])

    @classmethod
    def parse(cls, text: str) -> "float | Relative":
        """b as a text: a number, or "relative[:factor[:median|max]]"."""
        found = _RELATIVE.fullmatch(text)
        try:
            number = float(found[1] or cls.factor) if found else float(text)
        except ValueError as error:
            raise ValueError(
                f"The noise standard deviation b must be a number, or relative[:factor[:median|max]]; got '{text}'."
            ) from error
        return cls(number, cast("Literal['median', 'max']", found[2] or cls.combine)) if found else number


@dataclass(frozen=True)
class Noise(Transform):
    """x ← x + b·ξ, ξ iid per coordinate, symmetric, unimodal, mean 0, variance 1. Chen et al. 2020, Algorithms 3, 4.

    `std` is b in gradient units, a `Schedule` of it, or `Relative`; `distribution` is gaussian, laplace, uniform or
    logistic. The draws are private to the worker.
    """

    std: float | Relative | Schedule
    distribution: str = "gaussian"

    def __post_init__(self) -> None:
        if not isinstance(self.std, Relative | Schedule):
            _check_std(self.std)
        if self.distribution not in QUANTILES:
            raise unknown("noise distribution", self.distribution, QUANTILES)

    @property
    def relative(self) -> bool:
        """Whether b comes from an exchange."""
        return isinstance(self.std, Relative)

    def init(self, like: Tensor) -> State:
        if not self.relative:
            return {}
        unknown_yet = torch.full(like.shape[:-1], torch.nan, dtype=torch.float32, device=like.device)
        return {"own": torch.zeros_like(unknown_yet), "agreed": unknown_yet}

    def __call__(self, x: Tensor, state: State, ctx: Context) -> tuple[Tensor, State]:
        std, state = self.std_of(x, state, ctx)
        return kernels.add_noise(x, std, draw(ctx, Stream.NOISE), self.distribution), state

    def std_of(self, x: Tensor, state: State, ctx: Context) -> tuple[float | Tensor, State]:
        """b for x (..., B, n), a number or (..., B), and the new state."""
        if isinstance(self.std, Schedule):
            values = evaluate(self.std, ctx, on_host=True)
            for value in values.flatten().tolist():
                _check_std(value)
            shape = torch.broadcast_shapes(values.shape, x.shape[:-1])
            return to_device(values.float(), x.device).expand(shape), state
        if not isinstance(self.std, Relative):
            return self.std, state
        own = x.abs().amax(-1).float()
        peak = torch.where(state["agreed"].isnan(), own, state["agreed"])
        return peak * self.std.factor, {**state, "own": own}

    @property
    def reports(self) -> tuple[Plane, ...]:
        return (REPORT,) if self.relative else ()

    def report(self, state: State) -> dict[str, Tensor]:
        return {REPORT.name: state["own"][..., None]} if self.relative else {}

    def check_reports(self, payload: Payload) -> Payload:
        if not self.relative:
            return payload
        report = payload[REPORT.name][..., 0]
        return Payload(payload.valid & report.isfinite() & (report >= 0), payload.planes)

    def combine_reports(self, ballots: Payload) -> dict[str, Tensor]:
        """The combined maximum; NaN where no worker is valid."""
        if not isinstance(self.std, Relative):
            return {}
        reports = ballots[REPORT.name]
        if self.std.combine == "median":
            return {REPORT.name: kernels.median(reports, ballots.valid)}
        largest = torch.where(ballots.valid, reports[..., 0], -1.0).amax(0)
        return {REPORT.name: torch.where(largest >= 0, largest, torch.nan)[..., None]}

    def learn(self, state: State, decision: Payload) -> State:
        """Use the agreed maximum from now on; where it is not a finite number ≥ 0, keep the last one."""
        if not self.relative:
            return state
        agreed = decision[REPORT.name][..., 0]
        usable = decision.valid & agreed.isfinite() & (agreed >= 0)
        return {**state, "agreed": torch.where(usable, agreed, state["agreed"])}


@dataclass(frozen=True)
class OwnNoise(Noise):
    """`Noise` that is part of an algorithm's rule: `noisy` puts other noise in its place, and adds none to it."""


def _check_std(value: float) -> None:
    try:
        fits = 0 <= value < float("inf")
    except TypeError:  # a text
        raise TypeError(f"The noise standard deviation b is a number; got {value!r}.") from None
    if not fits:
        raise ValueError(f"The noise standard deviation b must be finite and not negative; got {value}.")
    if value > LARGEST:
        raise ValueError(
            f"The noise standard deviation b must be at most {LARGEST:g}, as b·ξ is a float32; got {value:g}."
        )


SAMPLES = (
    Noise(0.3),
    Noise(1.0, "laplace"),
    Noise(Relative(0.2)),
    Noise(Relative(0.1, "max"), "uniform"),
    OwnNoise(0.2),
    Noise(Cosine(0.3, 100)),
    Noise(PerWorker((0.1, 0.0, 0.4, 0.2, 0.3, 0.5, 0.6))),
)
