"""divided by 2, 10 and 20 after 1/7, 3/7 and 5/7 of the steps, as in Chen et al.'s Figure 3"""

import math

from gradvote.schedules import Schedule, Step


def step(
    lr: float,
    steps: int,
    divisors: tuple[float, ...] = (2.0, 10.0, 20.0),
    milestones: tuple[int, ...] | None = None,
) -> Schedule:
    """η_t = lr / divisors[k] from step milestones[k] on; without `milestones` 1/7, 3/7 and 5/7 of the steps."""
    marks = tuple(math.ceil(steps * sevenths / 7) for sevenths in (1, 3, 5)) if milestones is None else milestones
    return Step(lr, marks, divisors)
