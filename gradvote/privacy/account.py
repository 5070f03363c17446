"""What all releases so far have cost, as (ε, δ): exact where the whole data answers, by PLD where batches are sampled.

With rate 1, T releases are one Gaussian mechanism with σ/√T, whose δ(ε) is known in closed form (Balle, Wang 2018,
Theorem 8). With sampling, privacy loss distributions are composed numerically (`dp_accounting`, seconds); Rényi
accounting (RDP) is quicker and an upper bound, which is what stops a run before `max_epsilon`.
"""

import logging
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Literal

from gradvote.errors import MissingExtra
from gradvote.fitting import check_types
from gradvote.privacy.ledger import Ledger
from gradvote.privacy.mechanism import Gaussian
from gradvote.privacy.noise import CUT_OFF

MOST = 10**9
"""Releases that are counted up to."""
ORDERS = tuple([1 + x / 10 for x in range(5, 100)] + [*range(11, 64)] + [2.0**k for k in range(6, 11)])


class BudgetSpent(RuntimeError):
    """The next release would cost more than `max_epsilon`."""


@check_types
def epsilon_of(
    noise_multiplier: float, steps: int, delta: float, rate: float = 1.0, method: Literal["pld", "rdp"] = "pld"
) -> float:
    """ε of so many releases; "rdp" is an upper bound and quicker, of consequence only with sampling.

    Raises:
        ValueError: δ is spent already, or a number that cannot be right: of one that is none nothing could be said.
    """
    if not 0 < noise_multiplier < math.inf or not 0 < rate <= 1:
        raise ValueError(
            f"noise_multiplier must be positive and finite and rate in (0, 1]; got {noise_multiplier} and {rate}."
        )
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), beyond what the cut-off tails of the noise cost; got {delta}.")
    if steps < 1:
        return 0.0
    if rate == 1:
        return _bisect(lambda epsilon: _delta_of(noise_multiplier / math.sqrt(steps), epsilon) > delta)
    accounting = _accounting()
    event = accounting.PoissonSampledDpEvent(rate, accounting.GaussianDpEvent(noise_multiplier))
    found = _accountant(method).compose(event, steps).get_epsilon(delta)
    return float(found)


@check_types
def noise_multiplier_for(epsilon: float, steps: int, delta: float, rate: float = 1.0) -> float:
    """The smallest σ whose `epsilon_of` is at most ε, to three digits; upwards."""
    if not 0 < epsilon < math.inf or not 0 < delta < 1 or not 0 < rate <= 1 or steps < 1:
        raise ValueError(
            "epsilon must be positive and finite, delta in (0, 1), rate in (0, 1] and steps at least 1; got "
            f"{epsilon}, {delta}, {rate} and {steps}."
        )
    if rate == 1:
        return _bisect(lambda sigma: _delta_of(sigma / math.sqrt(steps), epsilon) > delta)
    rough = _bisect(lambda sigma: epsilon_of(sigma, steps, delta, rate, "rdp") > epsilon, least=1e-2, digits=3)
    low, high = rough / 2, rough  # PLD needs no more noise than its upper bound
    while high / low > 1.002:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if epsilon_of(middle, steps, delta, rate) > epsilon else (low, middle)
    return high


class Account:
    """The account of one client: `charge` before each release; a ballot that is sent again is no new release.

    `dimension` is d, the coordinates of a release: the cut-off tails of the noise are charged to δ for each.

    Raises:
        ValueError: the mechanism's ledger is of another mechanism or model.
    """

    @check_types
    def __init__(self, mechanism: Gaussian, dimension: int) -> None:
        self.mechanism, self.dimension, self.releases = mechanism, dimension, 0
        self._ledger = None if mechanism.ledger is None else Ledger(mechanism.ledger)
        found = {} if self._ledger is None else self._ledger.read()
        if found:
            self.load_state_dict(dict(found))

    def charge(self) -> None:
        """Count one more release.

        Raises:
            BudgetSpent: it would cost more than `max_epsilon`; nothing is counted.
        """
        if self.releases >= self.affordable:
            raise BudgetSpent(
                f"Release {self.releases + 1} would cost more than max_epsilon={self.mechanism.max_epsilon:g} at delta="
                f"{self.mechanism.delta:g} (unit: {self.mechanism.unit}). Stop here, or plan fewer rounds, more noise "
                "or a larger max_epsilon from the start."
            )
        if self._ledger is not None:
            self._ledger.write({**self.state_dict(), "releases": self.releases + 1})
        self.releases += 1

    @property
    def left(self) -> int:
        """Releases that are still to come before `max_epsilon`."""
        return self.affordable - self.releases

    @property
    def affordable(self) -> int:
        """How many releases `max_epsilon` allows in all, by RDP where batches are sampled: an upper bound on ε."""
        m = self.mechanism
        return MOST if m.max_epsilon is None else _affordable(m, self.dimension)

    def epsilon(self, delta: float | None = None, method: Literal["pld", "rdp"] = "pld") -> float:
        """ε of the releases so far at δ (that of the mechanism); the tails are taken off δ first."""
        m = self.mechanism
        left = (m.delta if delta is None else delta) - self.releases * self.dimension * CUT_OFF
        return epsilon_of(m.noise_multiplier, self.releases, left, m.rate, method)

    def get_epsilon(self, delta: float) -> float:
        """`epsilon` at δ by PLD, under the name that other accountants give it."""
        return self.epsilon(delta)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        own = {name: getattr(self.mechanism, name) for name in ("noise_multiplier", "unit", "rate")}
        return {"releases": self.releases, "dimension": self.dimension, **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; releases that were counted here since are not forgotten.

        Raises:
            ValueError: it is the account of another model or mechanism.
        """
        self.check(state)
        self.releases = max(self.releases, int(state["releases"]))

    def check(self, state: Mapping[str, Any]) -> None:
        """Whether a saved account is of this mechanism and model.

        Raises:
            ValueError: it is not; the sentence says what differs.
        """
        for name, own in self.state_dict().items():
            if name != "releases" and state.get(name) != own:
                raise ValueError(
                    f"The account was kept with {name}={state.get(name)}; here it is {own}. An account is of one "
                    "mechanism and one model: go on with those, or begin a new run and add up both by hand."
                )


@lru_cache(64)
def _affordable(mechanism: Gaussian, dimension: int) -> int:
    limit = mechanism.max_epsilon
    assert limit is not None

    def too_many(steps: int) -> bool:
        left = mechanism.delta - steps * dimension * CUT_OFF
        return left <= 0 or epsilon_of(mechanism.noise_multiplier, steps, left, mechanism.rate, "rdp") > limit

    high = 1
    while not too_many(high) and high < MOST:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if too_many(middle) else (middle, high)
    return low


def _delta_of(sigma: float, epsilon: float) -> float:
    """δ(ε) of one release with sensitivity 1: Φ(1/2σ − εσ) − e^ε·Φ(−1/2σ − εσ)."""
    a, b = 1 / (2 * sigma), epsilon * sigma
    second = _log_normal_cdf(-a - b) + epsilon
    return _normal_cdf(a - b) - (math.exp(second) if second < 700 else math.inf)


def _normal_cdf(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2


def _log_normal_cdf(x: float) -> float:
    """log Φ(x), by its asymptotic series where Φ(x) is below what a float can hold."""
    if x > -30:
        return math.log(_normal_cdf(x))
    return -x * x / 2 - math.log(-x * math.sqrt(2 * math.pi)) + math.log1p(-1 / (x * x))


def _bisect(too_small: Callable[[float], bool], least: float = 1e-6, digits: int = 12) -> float:
    """The smallest number that is not too small, to so many digits, upwards."""
    low, high = least, 1.0
    while too_small(high):
        low, high = high, 2 * high
    while high / low > 1 + 10.0**-digits:
        middle = math.sqrt(low * high)
        if middle in (low, high):
            break
        low, high = (middle, high) if too_small(middle) else (low, middle)
    return high


def _accounting() -> Any:
    try:
        import dp_accounting  # noqa: PLC0415  # an extra, and seconds to import
    except ImportError as error:
        raise MissingExtra("dp-accounting", "dp") from error
    logging.getLogger("absl").setLevel(logging.ERROR)  # orders that do not converge are left out, with a warning each
    return dp_accounting


def _accountant(method: str) -> Any:
    """A new accountant."""
    _accounting()
    if method == "rdp":
        from dp_accounting.rdp import RdpAccountant  # noqa: PLC0415  # as above

        return RdpAccountant(ORDERS)
    from dp_accounting.pld import PLDAccountant  # noqa: PLC0415  # as above

    return PLDAccountant()
