"""The training loop with local steps: each simulated worker takes H steps of its own, then comes one round."""

from functools import partial
from typing import Any

from torch import Tensor

from gradvote.engines.pseudo_gradients import LocalWorkers
from gradvote.lab.train.folder import RunFolder
from gradvote.lab.train.run import Run
from gradvote.lab.train.setup import Setup, inner_for


class LocalRun(Run):
    """A run whose steps are rounds, as `gradvote.local_steps` takes them on real workers.

    The run's optimizer is the outer one; `config.inner` makes the workers' own, whose states the checkpoint holds. The
    model is what all agreed on after the rounds so far; with a delay the checkpoint says where each worker is, too.
    """

    def __init__(self, setup: Setup, place: RunFolder, command: str = "", label: str | None = None) -> None:
        super().__init__(setup, place, command, label)
        layout, c = setup.protocol.layout, setup.config
        make = partial(inner_for, c)
        self.workers = LocalWorkers(self.models[0], make, c.workers, layout, delay=c.delay)

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        try:
            self.workers.load_state_dict(state["local"])
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{self.place.checkpoint} does not fit the run it names: {error}") from error

    def _gradients(self) -> None:
        return None

    def _round(self, known: tuple[Tensor, Tensor] | None) -> None:
        every = self.config.local_steps or 1
        batches = [self.observer.batches(self.step * every + k) for k in range(every)]
        super()._round(self.workers.pseudo_gradients(batches, self.config.seed, self.step))

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "local": self.workers.state_dict()}


def run_for(setup: Setup, place: RunFolder, command: str = "", label: str | None = None) -> Run:
    """The run of a setup, with local steps or without."""
    return (Run if setup.config.local_steps is None else LocalRun)(setup, place, command, label)
