"""`spawn` for tests whose ranks may be forks of one process that has imported everything: a fresh one takes seconds.

How `spawn` itself starts processes is tested in test_launch.py, and at the command line.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

from gradvote.engines import launch
from tests.engines.elastic.processes import FORKS

T = TypeVar("T")


def spawn(fn: Callable[..., T], num_ranks: int, *args: object, **options: Any) -> list[T]:
    """As `gradvote.engines.launch.spawn`; ranks see the environment of the first call."""
    with mock.patch.object(launch, "mp", SimpleNamespace(get_context=lambda method: FORKS)):
        return launch.spawn(fn, num_ranks, *args, **options)
