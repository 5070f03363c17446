"""from zero to the start value, then constant"""

from dataclasses import dataclass

from gradvote.schedules import Schedule


@dataclass(frozen=True)
class Warmup(Schedule):
    """value · min(1, (step + 1) / length)."""

    value: float
    length: int

    def __call__(self, step: int, sender: int = 0) -> float:
        return self.value * min(1.0, (step + 1) / self.length)


def warmup(lr: float, steps: int, share: float = 0.1) -> Schedule:
    """Over a share of the steps."""
    return Warmup(lr, max(1, round(share * steps)))


SAMPLES = (Warmup(0.1, 10),)
