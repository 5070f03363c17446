"""Calls that start every kernel, in every form that compiles apart. `compiled` compiles them; a card runs them."""

from collections.abc import Callable

from tests.kernels.cuda import (
    calls_averages,
    calls_bits,
    calls_draws,
    calls_feedback,
    calls_order,
    calls_ragged,
    calls_signs,
    calls_trees,
    calls_vote,
)

CALLS: list[Callable[[], object]] = [
    *calls_averages.CALLS,
    *calls_bits.CALLS,
    *calls_draws.CALLS,
    *calls_feedback.CALLS,
    *calls_order.CALLS,
    *calls_ragged.CALLS,
    *calls_signs.CALLS,
    *calls_trees.CALLS,
    *calls_vote.CALLS,
]
