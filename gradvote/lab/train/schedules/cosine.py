"""from the start value to zero along a half cosine"""

from gradvote.schedules import Cosine, Schedule


def cosine(lr: float, steps: int) -> Schedule:
    """η_t = lr·(1 + cos(π·t/steps)) / 2."""
    return Cosine(lr, steps)
