"""Privacy in an engine: what one worker lets others see of its updates, under an account. The same in every engine.

The whole update is bounded and hidden before anything else is done with it, so that codec, memory, vote and all
attempts to send it are post-processing. A step has one release: where it is tried again, the same numbers are.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from gradvote.core import Algorithm
from gradvote.engines.common.arguments import in_words
from gradvote.layout import Layout
from gradvote.privacy import Account, Gaussian, check_noise

KEY = "privacy"
"""What an account is called in a checkpoint."""


class Releases:
    """One worker's releases of updates with `dimension` coordinates."""

    def __init__(self, privacy: Gaussian, dimension: int) -> None:
        self.account = Account(privacy, dimension)
        self._step: int | None = None
        self._last: Tensor | None = None

    def release(self, step: int, update: Tensor) -> Tensor:
        """The update (d,) or those of all simulated workers (M, d), as they may be seen. NaN becomes zero and noise.

        The account is charged before; a step that is tried again gets what it got, and is not charged.

        Raises:
            BudgetSpent: it would cost more than `max_epsilon`; nothing was released.
        """
        if self._last is None or step != self._step:
            self.account.charge()
            hide = partial(self.account.mechanism.release, whole=partial(self._whole, step))
            rows = [hide(row) for row in update.reshape(-1, update.shape[-1])]
            self._step, self._last = step, torch.stack(rows).reshape(update.shape)
        return self._last

    def _whole(self, step: int, squares: float) -> float:
        """‖u‖² of the worker's update, from that of what is here."""
        return squares

    def of_gradients(
        self,
        step: int,
        layout: Layout,
        gather: Callable[[Layout, Mapping[int, Tensor | None]], Tensor],
        gradients: Mapping[int, Tensor | None],
        params: Sequence[Tensor],
    ) -> dict[int, Tensor]:
        """`release` of the gradients of all `params`, by number; one that is missing is zero and noise, as any other.

        Who had no gradient would be told otherwise.
        """
        flat = self.release(step, gather(layout, gradients))
        own = [torch.empty(p.shape, dtype=flat.dtype, device=flat.device) for p in params]
        layout.unflatten(flat, own)
        return dict(enumerate(own))

    def state_dict(self) -> dict[str, Any]:
        """The account, for a checkpoint."""
        return self.account.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on counting; never from fewer than were counted here, or in the ledger."""
        self.account.load_state_dict(dict(state))
        self._step = self._last = None


def releases_of(
    privacy: Gaussian | None,
    dimension: int,
    algorithm: Algorithm,
    secret: bytes | None = None,
    scaler: GradScaler | None = None,
    max_norm: float | None = None,
    restarts: bool = False,
) -> Releases | None:
    """The releases of a worker, or None without `privacy`.

    Raises:
        TypeError, ValueError: see `check_privacy`.
    """
    check_privacy(privacy, algorithm, secret is not None, scaler, max_norm, restarts)
    return None if privacy is None else Releases(privacy, dimension)


def check_privacy(
    privacy: Gaussian | None,
    algorithm: Algorithm,
    keyed: bool,
    scaler: GradScaler | None = None,
    max_norm: float | None = None,
    restarts: bool = False,
) -> None:
    """Whether an account can be kept of what was given beside `privacy`.

    `keyed`: the algorithm's own draws have a secret key; `restarts`: the process may end and begin anew by itself.

    Raises:
        TypeError: `privacy` is something else.
        ValueError: what was given beside it cannot be under an account.
    """
    if privacy is None:
        return
    if not isinstance(privacy, Gaussian):
        raise TypeError(f"privacy takes a gradvote.privacy.Gaussian; got {in_words(privacy)}.")
    if scaler is not None:
        raise ValueError(
            "A scaler tells the other workers when gradients overflow, which no noise hides. Leave scaler= out under "
            "privacy=, and train in float32 or bfloat16."
        )
    if max_norm is not None:
        raise ValueError(
            f"privacy bounds the update by its own max_norm={privacy.max_norm}; leave max_norm={max_norm} out."
        )
    if restarts and privacy.ledger is None:
        raise ValueError(
            "A worker that is started again would forget what it has released since its checkpoint. Give "
            "Gaussian(..., ledger=FILE), a file of this worker alone that outlives the process."
        )
    check_noise(algorithm, keyed)


def check_client(privacy: Gaussian | None, engine: str) -> None:
    """Whether `privacy` can be kept where an engine finds gradients that are sums over a batch already.

    Raises:
        ValueError: its unit is an example.
    """
    if isinstance(privacy, Gaussian) and privacy.unit == "example":
        raise ValueError(
            f"{engine}'s backward pass adds up the gradients of all examples before each could be bounded. Use "
            "unit='client', or gradvote.distributed.Exchange with gradvote.privacy.clipped_sum in a loop of your own."
        )


def account_of(releases: Releases | None) -> Account | None:
    """The account, where there is one."""
    return None if releases is None else releases.account


def saved_of(releases: Releases | None) -> dict[str, Any]:
    """What a checkpoint says of it."""
    return {} if releases is None else {KEY: releases.state_dict()}


def load(releases: Releases | None, state: Mapping[str, Any], check: bool = False) -> None:
    """Go on counting where a checkpoint stands; `check`: only look whether that can be.

    Raises:
        ValueError: it was saved without an account, or this run has none.
    """
    found = state.get(KEY)
    if (found is None) == (releases is None):
        if releases is not None and found is not None:
            releases.account.check(found) if check else releases.load_state_dict(found)
        return
    if found is None:
        raise ValueError(
            "The checkpoint was saved without privacy=: what was sent until then has no account. Begin anew under "
            "privacy=, or go on without it."
        )
    raise ValueError(
        f"The checkpoint is of a run under an account, with {found.get('releases', 'some')} releases, but this one has "
        "no privacy=. Give the same privacy=Gaussian(...) as the run that saved it."
    )
