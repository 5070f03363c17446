"""What is special to an elastic run, as it is typed."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Script:
    """What is special to an elastic run: how few may vote, how long to wait, and who suffers when."""

    min_workers: int | None = None
    deadline: float | None = None
    kill: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()
    keys: Path | None = None

    def check_unused(self) -> None:
        """Raise ValueError where one was given, for another engine."""
        if self != Script():
            raise ValueError("--min-workers, --deadline, --kill, --stop and --keys need --engine elastic.")
