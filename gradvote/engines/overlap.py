"""Rounds that travel while the next inner steps run: sent from the main thread, exchanged in one of their own.

What the thread reads and writes is the start, its gradients and the engine's memories, none of which inner steps touch;
the outer optimizer steps in the main thread, with the settings that it had when the round was sent. So the outcome does
not depend on how fast either thread is.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

GIVEN_UP = (
    "This delayed round was given up: start and model are as if it had not been sent, and the way since the start goes "
    "into the next round."
)


class DelayedRounds(Protocol):
    """An engine's round in three parts."""

    def send(self) -> None:
        """Settle, in the main thread, what the exchange will need beside the gradients."""

    def exchange(self) -> None:
        """The vote, in a thread of its own: gradients become directions."""

    def land(self) -> None:
        """The outer optimizer's step, in the main thread."""


class Delay:
    """A round that may be under way for `steps` of the inner optimizer; `mix` is what a worker then keeps of its own.

    `under_way` from `send` until `arrived`. In between `settle` may be called at any time: it waits for the exchange,
    and moves the start; the model learns of it when its time has come.
    """

    def __init__(self, steps: int, mix: float, rounds: DelayedRounds, outer: Optimizer, device: torch.device) -> None:
        self.steps, self.mix, self.under_way = steps, mix, False
        self._rounds, self._outer, self._device = rounds, outer, device
        self._settings: list[dict[str, Any]] = []
        self._flight: _Flight | None = None

    def send(self) -> None:
        """Begin the exchange of the gradients that the start has."""
        self._rounds.send()
        self._settings = settings_of(self._outer)
        self.under_way, self._flight = True, _Flight(self._rounds.exchange, self._device)

    def wait(self) -> None:
        """Until no thread is at work."""
        if self._flight is not None:
            self._flight.wait()

    def settle(self) -> None:
        """Wait, and let the outer optimizer step.

        Raises:
            Exception: what the engine raised; the round is given up.
        """
        if self._flight is None:
            return
        self._flight.wait()  # interrupted here, by Ctrl-C, the round is still under way: the other ranks take it
        flight, self._flight, self.under_way = self._flight, None, False
        flight.land()
        with with_settings(self._outer, self._settings):
            self._rounds.land()
        self.under_way = True

    def arrived(self, under_way: bool = False) -> None:
        """The model has learned of it; `under_way`: a state was loaded whose model has not."""
        self.under_way = under_way


class _Flight:
    """A call in a thread of its own, which the end of the process waits for: the other ranks count on it."""

    def __init__(self, call: Callable[[], None], device: torch.device) -> None:
        self._call, self._device = call, device
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="gradvote delayed round")
        self._thread.start()

    def wait(self) -> None:
        self._thread.join()

    def land(self) -> None:
        """Wait, and raise what it raised."""
        self._thread.join()
        if self._error is not None:
            self._error.add_note(GIVEN_UP)
            raise self._error

    def _run(self) -> None:
        try:
            if self._device.type == "cuda":
                torch.cuda.set_device(self._device)  # of this thread alone
            self._call()
        except Exception as error:
            self._error = error


class Rates(SGD):
    """The learning rates of another optimizer as they were when `take` was called; it takes no steps."""

    def __init__(self, other: Optimizer) -> None:
        super().__init__([{"params": [*group["params"]], "lr": float(group["lr"])} for group in other.param_groups])
        self._other = other

    def take(self) -> None:
        """Those of now."""
        for own, group in zip(self.param_groups, self._other.param_groups, strict=True):
            own["lr"] = float(group["lr"])


def settings_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    """All that an optimizer's groups say beside their parameters; a rate that is a tensor changes in its place."""
    return [
        {k: v.clone() if isinstance(v, Tensor) else v for k, v in group.items() if k != "params"}
        for group in optimizer.param_groups
    ]


@contextmanager
def with_settings(optimizer: Optimizer, settings: list[dict[str, Any]]) -> Iterator[None]:
    """Within, the optimizer has these settings; afterwards those that it had before."""
    now = [dict(group) for group in optimizer.param_groups]
    for group, own in zip(optimizer.param_groups, settings, strict=True):
        group.update(own)
    try:
        yield
    finally:
        for group, own in zip(optimizer.param_groups, now, strict=True):
            group.update(own)
