"""Calls that start every kernel, in every form that compiles apart. `compiled` compiles them; a card runs them."""

from collections.abc import Callable

from tests.kernels.cuda import calls_signs

CALLS: list[Callable[[], object]] = [*calls_signs.CALLS]
