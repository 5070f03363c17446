"""Mods of Flower behind ours in one ClientApp: which cannot work with votes, and what LocalDpMod's noise comes to."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from logging import INFO, WARNING
from typing import Any

from flwr.common.logger import log

from gradvote.privacy import epsilon_of

NOISE_ON_ARRAYS = (
    "bounds an update for a strategy wrapper that adds its noise to the server's arrays, which clients of GradVote "
    "never get: they hear decisions. Leave it out; client_mod(max_norm=) bounds, client_mod(privacy=) keeps an account"
)
SUMS_ONLY = (
    "masks arrays so that only their sum can be read, but a vote counts ballots one by one. Leave it out; "
    "client_mod(privacy=) hides an update from whoever sees the ballot, the server too"
)
REFUSED = {
    "fixedclipping_mod": NOISE_ON_ARRAYS,
    "adaptiveclipping_mod": NOISE_ON_ARRAYS,
    "secaggplus_mod": SUMS_ONLY,
    "secagg_mod": SUMS_ONLY,
}
LOCAL_DP = "LocalDpMod"
MOST = 100
"""Mods that are looked for behind ours."""


@dataclass(frozen=True)
class LocalNoise:
    """LocalDpMod's mechanism as an account sees it: noise over bound, and the δ it was made for."""

    noise_multiplier: float
    delta: float

    def tell(self, releases: int, others: Sequence[str]) -> None:
        """Log what so many releases come to; and that `others`, which are not voted on, have noise as well."""
        log(
            INFO,
            "Release %d of LocalDpMod: epsilon = %.3g at delta %g (add or remove one client; seen by whoever sees the "
            "ballot), if numpy's generator is believed, which is no cryptographic one.",
            releases,
            epsilon_of(self.noise_multiplier, releases, self.delta),
            self.delta,
        )

        if others:
            log(
                WARNING,
                "LocalDpMod bounds and noises all arrays together, also %r and what else is not voted on and never "
                "sent: of those this client keeps the values of before its training. client_mod(privacy=) in its "
                "place leaves them alone.",
                others[0],
            )


def check_mods(call_next: Callable[..., Any], asks: str, private: bool) -> LocalNoise | None:
    """Look at the mods behind ours; LocalDpMod's noise, if it is there.

    Raises:
        ValueError: one that cannot work with votes; the sentence says why, and what does.
    """
    found = None
    for mod in _mods(call_next):
        name = getattr(mod, "__name__", type(mod).__name__)
        if name in REFUSED:
            raise ValueError(f"{name} {REFUSED[name]}.")
        if name == LOCAL_DP:
            found = _local_noise(mod, asks, private)
    return found


def _local_noise(mod: Any, asks: str, private: bool) -> LocalNoise:
    if private:
        raise ValueError(
            "LocalDpMod and client_mod(privacy=) would each add noise, of which the account knows one. Leave "
            "LocalDpMod out."
        )
    if asks == "gradient":
        raise ValueError(
            "LocalDpMod bounds what the returned arrays differ from those received, but with update='gradient' they "
            "are gradients. Leave it out, and use client_mod(privacy=)."
        )
    std = mod.sensitivity * math.sqrt(2 * math.log(1.25 / mod.delta)) / mod.epsilon
    return LocalNoise(std / mod.clipping_norm, mod.delta)


def _mods(call_next: Callable[..., Any]) -> list[Any]:
    """The mods of the chain that Flower has made of an app's, as far as they can be seen."""
    found: list[Any] = []
    while len(found) < MOST and inspect.isfunction(call_next):
        inside = inspect.getclosurevars(call_next).nonlocals
        if not {"_mod", "_ffn"} <= inside.keys():
            break
        found.append(inside["_mod"])
        call_next = inside["_ffn"]
    return found
