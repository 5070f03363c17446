"""Calls that start every kernel, in every form that compiles apart. `compiled` compiles them; a card runs them."""

from collections.abc import Callable

from tests.kernels.cuda import calls_bits, calls_draws, calls_signs

CALLS: list[Callable[[], object]] = [*calls_bits.CALLS, *calls_draws.CALLS, *calls_signs.CALLS]
