"""The Gaussian mechanism on a whole update."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gradvote.errors import unknown
from gradvote.privacy.noise import SecureNormal

UNITS = ("client", "example")


@dataclass(frozen=True)
class Gaussian:
    """u ← C·u / max(C, ‖u‖₂) + N(0, (σC)²): Dwork, Roth 2014, section 3.5.1; σ is `noise_multiplier`, C `max_norm`.

    Who is hidden, from whom: with `unit="client"` all of a client's data, from whoever sees its ballots (the server,
    too), under add-or-remove: its update against an update of zeros. With `unit="example"` each example of a client's
    data, under add-or-remove, if the update is a sum of gradients of which each is at most C long (`clipped_sum`) over
    a batch that holds each example with probability `rate`, on its own (`poisson_sample`). Against replacing instead of
    removing, the same ε holds with twice the noise. Sampling clients hides nobody from the server that samples.

    A value that is not finite becomes zero first: an abstention would tell what the data were. What is not hidden: that
    a client answered, when, and the metrics it sent.

    `ledger` is a file of this worker alone in which releases are counted before they leave, for a process that may be
    started again from an older checkpoint, or from none.

    Raises:
        TypeError, ValueError: a number that is none, or cannot be right.
    """

    noise_multiplier: float
    max_norm: float
    unit: Literal["client", "example"] = "client"
    delta: float = 1e-5
    max_epsilon: float | None = None
    rate: float = 1.0
    ledger: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise unknown("unit of privacy", self.unit, UNITS)
        for name in ("noise_multiplier", "max_norm", "delta", "rate", "max_epsilon"):
            given = getattr(self, name)
            lacks = given is None and name == "max_epsilon"
            if not lacks and (isinstance(given, bool) or not isinstance(given, int | float)):
                raise TypeError(f"{name} must be a number; got {given!r}.")
        if self.ledger is not None and not isinstance(self.ledger, str | os.PathLike):
            raise TypeError(f"ledger must be the path of a file; got {self.ledger!r}.")
        for name in ("noise_multiplier", "max_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite; got {getattr(self, name)}.")
        if not 0 < self.delta < 1 or not 0 < self.rate <= 1:
            raise ValueError(f"delta must be in (0, 1) and rate in (0, 1]; got {self.delta} and {self.rate}.")
        if self.max_epsilon is not None and not self.max_epsilon > 0:
            raise ValueError(f"max_epsilon must be positive, or None for no limit; got {self.max_epsilon}.")
        if self.unit == "client" and self.rate != 1:
            raise ValueError(
                f"rate={self.rate} with unit='client' would claim that sampling clients hides them, but the server, "
                "which samples them, knows who was asked. Leave rate=1, or use unit='example' and sample examples."
            )

    def release(
        self, update: Tensor, noise: SecureNormal | None = None, whole: Callable[[float], float] = float
    ) -> Tensor:
        """The update (d,) that may be seen, of the same type: what was given must not be used again.

        Of an update in parts each part is given by itself, and `whole` makes ‖u‖² of the part's sum of squares.
        """
        x = update.double().where(update.isfinite(), 0.0)
        if self.unit == "client":
            norm = math.sqrt(whole(float(x.square().sum())))
            x = x * min(1.0, self.max_norm / max(norm, 1e-300))
        z = torch.from_numpy((noise or SecureNormal()).draw(x.numel())).to(x.device)
        return (x + self.noise_multiplier * self.max_norm * z.reshape(x.shape)).to(update.dtype)
