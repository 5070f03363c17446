"""Which round is meant, where a step may need more than one: an attempt at a step."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Slot:
    """An attempt at a step. Each slot is decided once, for everyone."""

    step: int = 0
    attempt: int = 0

    def after(self, applied: bool) -> "Slot":
        """The slot that follows: of the next step where this one was applied, else the next attempt."""
        return Slot(self.step + 1) if applied else Slot(self.step, self.attempt + 1)
