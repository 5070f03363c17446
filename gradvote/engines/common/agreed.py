"""What all agreed on, shown in place of the parameters of a worker that is ahead of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.optim import Optimizer

from gradvote.engines.common.start import Pair


class Agreed:
    """Lends a model the agreed parameters. `settle` is called before the model is written."""

    def __init__(self, pairs: Sequence[Pair], optimizers: Sequence[Optimizer], settle: Callable[[], None]) -> None:
        self._pairs, self._inner, self._settle, self._shown = pairs, optimizers, settle, False

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Within, the model has them and no optimizer steps; afterwards it has its own again."""
        self._settle()
        with torch.no_grad():
            kept = [pair.own.detach().clone() for pair in self._pairs]
            for pair in self._pairs:
                pair.own.copy_(pair.agreed)
        self._shown = True
        hooks = [each.register_step_pre_hook(lambda *_: self.check("optimizer.step()")) for each in self._inner]
        try:
            yield
        finally:
            self._shown = False
            for hook in hooks:
                hook.remove()
            self._settle()
            with torch.no_grad():
                for pair, own in zip(self._pairs, kept, strict=True):
                    pair.own.copy_(own)

    def check(self, call: str) -> None:
        """Raise RuntimeError within `shown`: local steps go on from a worker's own parameters."""
        if self._shown:
            raise RuntimeError(
                f"Within `with local.agreed()` the model is what all agreed on, not where this worker is: call {call} "
                "before or after."
            )
