"""Which way to exchange a plan recommends: what asks the least of the training while the link does not hold it up.

Every way to spare the link may cost something in the loss. So they are tried in this order, and the first with which a
step takes at most a tenth longer than its computation is recommended: float32 at every step; votes at every step;
rounds after 2 to 32 local steps that are waited for; rounds of fragments that travel during the next step; rounds after
up to 512 local steps. Where none of them is enough, the fastest.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gradvote.lab.plan import ALL_REDUCE, Plan, Prediction

SPARE = 0.1
WAITED, FARTHEST = 32, 512


@dataclass(frozen=True)
class Way:
    """Local steps to a round (1: none), parts that have their rounds in turn, and steps by which these arrive late."""

    every: int = 1
    fragments: int = 1
    delay: int = 0


@dataclass(frozen=True)
class Advice:
    """The way, what is predicted of it, and of voting and of averaging at every step."""

    way: Way
    chosen: Prediction
    voted: Prediction
    averaged: Prediction
    enough: bool


def advise(plan_of: Callable[[Way], Plan], compute: float) -> Advice:
    """The advice, from plans for ways; `compute` are the seconds of a step's forward and backward pass."""
    first = plan_of(Way())
    averaged, voted = first.baseline, _best_vote(first)
    found = [(Way(), averaged), (Way(), voted)]
    found += [(way, _best_vote(plan_of(way))) for way in _ways(voted.exchange, compute)]
    for way, row in found:
        if row.step <= (1 + SPARE) * compute:
            return Advice(way, row, voted, averaged, True)
    way, row = min(found, key=lambda pair: pair[1].step)
    return Advice(way, row, voted, averaged, False)


def _ways(exchange: float, compute: float) -> Iterator[Way]:
    """Those with local steps. A fragment's round takes at most one step, and is back before the next one's."""
    ladder = [2**k for k in range(1, int(math.log2(FARTHEST)) + 1)]
    yield from (Way(every) for every in ladder if every <= WAITED)
    parts = math.ceil(exchange / compute) if compute > 0 else FARTHEST
    if 2 * parts <= FARTHEST:
        yield Way(2 * parts, parts, 1)
    yield from (Way(every) for every in ladder if every > WAITED)


def _best_vote(found: Plan) -> Prediction:
    return min((p for p in found.predictions if p.placement != ALL_REDUCE), key=lambda p: p.step)


def sentence(advice: Advice, compute: float, shards: int, shown: Callable[[float], str]) -> str:
    """The advice with its reason."""
    way, row = advice.way, advice.chosen
    what = f"{row.name} ({row.placement})" if row.placement != ALL_REDUCE else "averaging in float32"
    if way.every == 1:
        how = f"{what} at every step"
    else:
        how = f"{what} after every {way.every} local steps"
        how += f", in {way.fragments} fragments a step late" if way.delay else ""
    how += f" between replicas of {shards} shards (FSDP2)" if shards > 1 else ""
    if not compute:
        return f"Without --compute nothing says how much a step may wait; fastest is {how}, {shown(row.step)} a step."
    above = f"{max(row.step / compute - 1, 0):.0%} above computing alone"
    parts = [f"Recommended: {how}, as a step takes {shown(row.step)}, {above}"]
    parts += [f"voting at every step takes {shown(advice.voted.step)}"] if way.every > 1 else []
    parts += [f"averaging in float32 {shown(advice.averaged.step)}"] if row is not advice.averaged else []
    end = "" if advice.enough else " No way here comes within a tenth of computing alone."
    return "; ".join(parts) + "." + end
