"""Clipping."""

from dataclasses import dataclass

from torch import Tensor

from gradvote.core import Context, State, Transform


@dataclass(frozen=True)
class Clip(Transform):
    """x ← min(max(x, −limit), limit) per coordinate; non-finite values stay, so that their block abstains."""

    limit: float

    def __post_init__(self) -> None:
        if not 0 < self.limit < float("inf"):
            raise ValueError(f"Clip needs a positive, finite limit; got {self.limit}.")

    def __call__(self, x: Tensor, state: State, ctx: Context) -> tuple[Tensor, State]:
        return x.clamp(-self.limit, self.limit).where(x.isfinite(), x), state


SAMPLES = (Clip(0.5),)
