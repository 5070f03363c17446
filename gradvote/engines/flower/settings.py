"""What a strategy is given: one sentence where it cannot be right, before anybody is asked."""

from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from flwr.app import ArrayRecord

from gradvote.core import Algorithm
from gradvote.engines.common.arguments import check_algorithm, check_members, check_seed, check_whole, in_words
from gradvote.engines.flower.model import Model
from gradvote.engines.flower.records import NAME
from gradvote.errors import unknown

OLDER_LOOP = (
    "{name} is a strategy of Flower's loop over messages, and was given to its older one (ServerAppComponents, "
    "start_server). In the ServerApp write @app.main() and def main(grid, context): {name}(...).start(grid, arrays)."
)
UPDATES, WEIGHTS = ("difference", "gradient"), ("equal", "examples")


class ByMessages:
    """A strategy that says so where Flower's older loop is given it, which would end in an error of its own."""

    def initialize_parameters(self, *_: object, **__: object) -> NoReturn:
        """What the older loop asks first."""
        raise TypeError(OLDER_LOOP.format(name=type(self).__name__))


def check_votes(algorithm: Algorithm, update: str, weights: str, voted: Collection[str] | None, seed: int) -> None:
    """What is voted on, by which rule.

    Raises:
        TypeError, ValueError: it cannot be right.
    """
    check_algorithm(algorithm, "GradVote(algorithm)")
    check_members(algorithm)
    if update not in UPDATES:
        raise unknown("update", update, UPDATES)
    if weights not in WEIGHTS:
        raise unknown("weights", weights, WEIGHTS)
    if weights != "equal" and not hasattr(algorithm.aggregate, "weights"):
        raise ValueError(f"{algorithm.aggregate} takes no weights; use weights='equal'.")
    if isinstance(voted, str) or (voted is not None and not voted):
        raise ValueError(f"voted takes the names of the arrays that are trained, at least one; got {voted!r}.")
    check_seed(seed)


def check_counts(min_voters: int, local_steps: int | None, nodes: Mapping[str, int]) -> None:
    """Whole numbers.

    Raises:
        TypeError, ValueError: one of them is none, or too small.
    """
    check_whole("min_voters", min_voters, 1, "the fewest ballots that decide a round")
    if local_steps is not None:
        check_whole("local_steps", local_steps, 1, "what train functions are told as config['local-steps']")
    for name, given in nodes.items():
        check_whole(name, given, 0, "a number of nodes, as FedAvg's")


def check_shares(fraction_train: Any, fraction_evaluate: Any, cap: Any) -> None:
    """Shares of nodes and of weights.

    Raises:
        TypeError, ValueError: one of them is no number, or outside of its range.
    """
    given = fraction_train, fraction_evaluate, cap
    if not all(isinstance(own, int | float) for own in given):
        raise TypeError(f"fraction_train, fraction_evaluate and cap are numbers; got {', '.join(map(repr, given))}.")
    if not 0 <= fraction_train <= 1 or not 0 <= fraction_evaluate <= 1 or not 0 < cap <= 1:
        raise ValueError(
            f"Fractions must be in [0, 1] and cap in (0, 1]; got {fraction_train}, {fraction_evaluate} and {cap}."
        )


def check_keys(arrayrecord_key: str, configrecord_key: str) -> None:
    """Names of the records that a train function gets.

    Raises:
        ValueError: they are one, or one that votes travel in.
    """
    taken = [key for key in (arrayrecord_key, configrecord_key) if key == NAME or key.startswith(f"{NAME}.")]
    if taken or arrayrecord_key == configrecord_key:
        raise ValueError(
            f"arrayrecord_key and configrecord_key name two records, and {NAME!r} and what begins with '{NAME}.' is "
            f"taken by the votes; got {arrayrecord_key!r} and {configrecord_key!r}."
        )


def check_start(initial_arrays: Any, num_rounds: Any) -> None:
    """What `start` is given.

    Raises:
        TypeError, ValueError: no arrays, or no number of rounds.
    """
    if not isinstance(initial_arrays, ArrayRecord):
        raise TypeError(
            "start(grid, initial_arrays) takes a flwr.app.ArrayRecord, such as ArrayRecord(model.state_dict()); got "
            f"{in_words(initial_arrays)}."
        )
    if not initial_arrays:
        raise ValueError("The initial arrays are empty: there is nothing to vote on. Give all arrays of the model.")
    check_whole("num_rounds", num_rounds, 0, "the number of rounds in all")


def check_values(model: Model) -> None:
    """Raise ValueError for a model that begins with NaN: nobody could ever vote on a block with one."""
    wrong = [name for name, p in zip(model.names, model.params, strict=True) if bool(p.isnan().any())]
    if wrong:
        raise ValueError(f"The array {wrong[0]!r} begins with NaN, so that its blocks would never be trained.")
