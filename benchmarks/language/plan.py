"""Which runs a study has: sizes of models, methods with the rates that each is tuned on, and their order."""

from collections.abc import Callable
from typing import Any, NamedTuple

from gradvote import algorithms
from gradvote.core import Algorithm
from gradvote.transforms import Relative
from language.records import Record, best_of


class Scale(NamedTuple):
    """A model, and how long it is trained: `steps` of each worker's optimizer, on `batch` windows of `context`."""

    width: int
    layers: int
    context: int
    batch: int
    steps: int


SCALES = {
    "tiny": Scale(32, 2, 32, 8, 256),
    "brief": Scale(128, 4, 32, 4, 256),
    "small": Scale(128, 4, 128, 16, 2048),
    "large": Scale(256, 6, 128, 16, 4096),
}
SEEDS = {"tiny": 1, "brief": 6, "small": 3, "large": 1}
PAIRS, MORE = 4, 6
"""Of rates: as many as a study has by default, and the most that one can have."""
INNER = (3e-3, 1e-3)
"""Rates of AdamW inside, from which each method takes its best."""
EVERY_STEP = (3e-3, 1e-3, 1e-2, 3e-4, 2e-3, 5e-4)
POWERSGD, ADAMW = "PowerSGD-1 every step", "AdamW every step"
LIES = (1.0, 10.0)
"""How many times what it has a lying worker sends, with the sign turned."""


class Method(NamedTuple):
    """A way to exchange rounds, its outer optimizer's momentum, and the outer rates that it is tuned on."""

    algorithm: Callable[[], Algorithm]
    momentum: float
    outer: tuple[float, float, float]


METHODS = {
    "DiLoCo": Method(algorithms.diloco, 0.9, (0.7, 0.3, 1.0)),
    "sized noisy vote, 1 bit": Method(
        lambda: algorithms.noisy(algorithms.sized_signsgd(), Relative(0.05), position="vote"), 0.9, (0.3, 0.1, 0.6)
    ),
    "dist-EF, 1 bit": Method(lambda: algorithms.dist_ef_sgdm(mu=0.0), 0.9, (0.7, 0.3, 1.0)),
    "SparseLoCo": Method(algorithms.sparseloco, 0.0, (1.0, 0.5, 2.0)),
    "sized vote, 1 bit": Method(algorithms.sized_signsgd, 0.9, (0.3, 0.1, 0.6)),
    "z-SignFedAvg, 1 bit up": Method(lambda: algorithms.z_signfedavg(sigma=0.02), 0.0, (1.0, 0.5, 2.0)),
    "sign momentum, 1 bit down": Method(algorithms.sign_momentum, 0.0, (1e-2, 3e-3, 2e-2)),
    "noisy vote, 1 bit, one size for all": Method(
        lambda: algorithms.noisy(algorithms.signsgd(), Relative(0.05), position="vote"), 0.9, (1e-3, 3e-4, 2e-3)
    ),
    "vote, 1 bit, one size for all": Method(algorithms.signsgd, 0.9, (1e-3, 3e-4, 2e-3)),
    "DiLoCo int8": Method(lambda: algorithms.diloco("int8"), 0.9, (0.7, 0.3, 1.0)),
}
KEYS = ("method", "every", "inner", "outer")


def tuning(scale: str, rounds: tuple[int, ...], pairs: int) -> list[Record]:
    """All runs without a fault: the same number of rates for each method, one pair after another."""
    found: list[Record] = []
    for pair in range(pairs):
        inner, which = INNER[pair % 2], pair // 2
        for every in rounds:
            for name, method in METHODS.items():
                found.append({"method": name, "every": every, "inner": inner, "outer": method.outer[which]})
        for name in (ADAMW, POWERSGD):
            found.append({"method": name, "every": 1, "inner": EVERY_STEP[pair], "outer": 0.0})
    return [{"scale": scale, "fault": 0.0, "seed": 0, **cell} for cell in found]


def chosen(scale: str, records: list[Record], rounds: tuple[int, ...]) -> list[Record]:
    """The best rates of each method, by validation; the largest model has those of 0.8 million parameters."""
    from_scale = "small" if scale == "large" else scale
    best = best_of(records, from_scale)
    return [{"scale": scale, **{k: r[k] for k in KEYS}} for r in best.values() if r["every"] in (1, *rounds)]


def liars(scale: str, records: list[Record], rounds: tuple[int, ...]) -> list[Record]:
    """The best of each method at the most steps to a round, with one worker of five that inverts what it sends."""
    own = [r for r in chosen(scale, records, rounds) if r["every"] == max(rounds) or r["method"] == ADAMW]
    return [{**cell, "fault": factor, "seed": 0} for factor in reversed(LIES) for cell in own]


def repeats(scale: str, records: list[Record], rounds: tuple[int, ...]) -> list[Record]:
    """The best of each method again, from other starts and with other batches."""
    seeds = range(0 if scale == "large" else 1, SEEDS[scale])
    return [{**cell, "fault": 0.0, "seed": seed} for seed in seeds for cell in chosen(scale, records, rounds)]


def stages(scale: str, rounds: tuple[int, ...], pairs: int) -> list[Callable[[list[Record]], list[Record]]]:
    """What is run one after another; each is made of the records that the former left."""

    def tune(records: list[Any]) -> list[Record]:
        return [] if scale == "large" else tuning(scale, rounds, pairs)

    return [tune, lambda records: repeats(scale, records, rounds), lambda records: liars(scale, records, rounds)]
