"""DropSignSGD: fewer than one bit per coordinate, in both directions.

Phong, Phuong, "Distributed signSGD with improved accuracy and network-fault tolerance", IEEE Access 2020, Algorithm 1.
"""

import math
from typing import Literal

from gradvote.aggregators.bounded_mean import mean_of
from gradvote.codecs import ErrorFeedback, Masked, Sign, chain
from gradvote.codecs.sign import Zero
from gradvote.core import Algorithm
from gradvote.fitting import check_types
from gradvote.schedules import Schedule, check_for_server
from gradvote.transforms import Momentum

LR = 0.1
BITS = (0.3, 0.5)
WORDS = ("30 % of the signs, memory", "mean, memory", "50 % of the signs")
PAPER = "Phong, Phuong 2020"
TRUST = "every worker"


@check_types
def dropsignsgd(
    keep_up: float | Schedule = 0.3,
    keep_down: float | Schedule = 0.5,
    c: float | Schedule | Literal["l1"] = 6e-3,
    c_down: float | Schedule | Literal["l1"] | None = None,
    mu: float = 0.9,
    zero: Zero = "random",
    granularity: int = 1,
    track_lr: bool = False,
    bound: float | None = None,
    workers: int | None = None,
) -> Algorithm:
    """m ← μm + g; p = g + μm + e; each sign(p) kept with probability β; e ← p − c·Δ, and so the server. β + β̃ bits.

    Server: p̃ = mean(c·Δ_i) + ẽ; each sign(p̃) kept with probability β̃ (`keep_down`); ẽ ← p̃ − c̃·Δ̃. Defaults of the
    paper: 0.3, 0.5, c = c̃ = 6e-3, μ = 0.9. The direction given to the optimizer is c̃·Δ̃, so η here is the paper's η/c̃
    and is that of SGD (the paper's η = 6e-4 is 0.1). c must fit the gradient's scale: a coordinate drains at most
    β·c per step. c = "l1" measures it instead: the mean of |p| over the kept coordinates of each block, told with the
    ballot (32 bits more per block; η is then that of SGD, and best with μ = 0). What one worker adds has no bound then,
    but for `bound=2`: twice the median of all scales (`BoundedMean`).
    `track_lr` rescales the memories by the ratio of learning rates, which Algorithm 1 does not.
    `granularity=64` masks 64 coordinates at a time, which is faster. Averages by the number of valid workers.

    `workers=M` takes the c nearest to the given one that is M times a number of 8 significant bits (within 0.2 %). Then
    p̃ is a whole number of c/M, to the bit, as long as all M vote: it is zero in 7 % (M = 7) to 16 % (M = 3) of the
    coordinates, and rounding decides most of them otherwise. It needs one constant c for both ways.
    """

    def feedback(keep: float | Schedule, scale: float | Schedule | Literal["l1"]) -> ErrorFeedback:
        return ErrorFeedback(Masked(keep, Sign(scale, zero), granularity), track_lr)

    if workers is not None:
        if track_lr:
            raise ValueError("dropsignsgd(workers=) keeps a memory exact, track_lr=True rescales it; leave out one.")
        c = c_down = _divisible(c, c_down, workers)
    c_down = c if c_down is None else c_down
    for value in (keep_down, c_down):
        if not isinstance(value, str):
            check_for_server(value)
    return Algorithm(
        chain(Momentum(mu, nesterov=True), feedback(keep_up, c)), mean_of(None, bound), feedback(keep_down, c_down)
    )


def _divisible(c: object, c_down: object, workers: int) -> float:
    """M·s with s the number of 8 significant bits nearest to c/M: sums of up to 2¹⁶ of them are exact in float32."""
    if isinstance(c, bool) or not isinstance(c, float | int) or not 0 < c < math.inf or c_down not in (None, c):
        raise ValueError(
            f"dropsignsgd(workers=) makes one constant divisible by the number of workers; got c={c!r} and "
            f"c_down={c_down!r}. Give one positive number for both ways, or leave out workers."
        )
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers < 1 << 16:
        raise ValueError(f"The number of workers must be a whole number from 1 to 65535; got {workers!r}.")
    mantissa, exponent = math.frexp(c / workers)
    return workers * math.ldexp(round(mantissa * 256), exponent - 8)
