"""What happened in a run, by step: kept for the user, and told to the log."""

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import ClassVar

KEPT = 200


@dataclass
class Notes:
    """The latest notes, each with its step; those who inherit say to which log they go."""

    LOG: ClassVar[logging.Logger]
    notes: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=KEPT), kw_only=True)

    def note(self, step: int, text: str) -> None:
        """Say what happened, here and in the log."""
        self.notes.append((step, text))
        self.LOG.warning("step %d: %s", step, text)
