"""the same learning rate always"""

from gradvote.schedules import Constant, Schedule


def constant(lr: float, steps: int) -> Schedule:
    """η_t = lr."""
    return Constant(lr)
