"""Whoever makes something of options in Python is told of one that is of another type, as by name."""

import math
from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest
import torch

from gradvote import algorithms, faults, partitions
from gradvote.aggregators.weights import capped
from gradvote.algorithms import noisy
from gradvote.arguments import hints_of
from gradvote.errors import unknown
from gradvote.fitting import REFUSED, fit
from gradvote.optim import NesterovDecay
from gradvote.privacy import Account, Gaussian, epsilon_of, noise_multiplier_for, poisson_sample
from gradvote.theory import suggest_lr

SIGNSGD = algorithms.signsgd()
WRONG: list[Any] = [None, "text", object(), [], {}, True, math.nan, 1.5, -1]
OWN = [name for name in algorithms.names() if algorithms.function(name).__module__.startswith("gradvote.")]
"""Those of plugins are checked where they are made by name; in Python they do as they like."""
MADE_OF: dict[str, tuple[Callable[..., object], dict[str, Any]]] = {
    **{name: (algorithms.function(name), {}) for name in OWN},
    "noisy": (lambda **options: noisy(SIGNSGD, **options), {}),
    "capped": (capped, {"weights": (1.0, 1.0), "cap": 0.6}),
    "epsilon_of": (epsilon_of, {"noise_multiplier": 1.0, "steps": 10, "delta": 1e-5}),
    "noise_multiplier_for": (noise_multiplier_for, {"epsilon": 1.0, "steps": 10, "delta": 1e-5}),
    "poisson_sample": (poisson_sample, {"num_examples": 10, "rate": 0.5}),
}


def hints(name: str, make: Callable[..., object]) -> dict[str, object]:
    found = hints_of(noisy if name == "noisy" else make)
    return {option: hint for option, hint in found.items() if option != "algorithm"}


def fits(value: object, hint: object) -> bool:
    try:
        return fit(value, hint) is not REFUSED
    except ValueError:  # a text that is read, and says no
        return False


@pytest.mark.parametrize("name", MADE_OF)
def test_an_option_is_of_its_type_or_nothing_is_made(name: str) -> None:
    """`dropsignsgd(c=None)` was another algorithm in silence, as a sign may be without a scale."""
    make, rest = MADE_OF[name]
    for option, hint in hints(name, make).items():
        for value in WRONG:
            if not fits(value, hint):
                with pytest.raises(ValueError, match=r"^[A-Za-z].{15,}\.$"):
                    make(**{**rest, option: value})


@pytest.mark.parametrize("name", algorithms.names())
def test_what_checks_options_hides_none(name: str) -> None:
    function = algorithms.function(name)
    assert [*signature(function).parameters] == [*hints_of(function)] == [*algorithms.options(name)]
    with pytest.raises(TypeError, match="argument"):
        function(nothing_of_this_name=1)


OTHERS: list[Callable[[], object]] = [
    lambda: Account(Gaussian(1.0, 1.0), None),  # type: ignore[arg-type]  # a user's mistake
    lambda: Gaussian(1.0, 1.0, ledger=3),  # type: ignore[arg-type]  # a user's mistake
    lambda: NesterovDecay([torch.ones(1)], math.nan),
    lambda: suggest_lr(torch.optim.SGD([torch.ones(1)], 0.1), SIGNSGD, max_norm="1"),  # type: ignore[arg-type]  # a user's mistake
    lambda: algorithms.create(None),  # type: ignore[arg-type]  # a user's mistake
    lambda: faults.create(None),  # type: ignore[arg-type]  # a user's mistake
    lambda: partitions.partition_named(None),  # type: ignore[arg-type]  # a user's mistake
]


@pytest.mark.parametrize("make", OTHERS, ids=range(len(OTHERS)))
def test_other_mistakes_are_told_in_a_sentence(make: Callable[[], object]) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^[A-Z_a-z].{15,}; got .*\.$"):
        make()


def test_a_name_that_is_no_text_is_unknown() -> None:
    assert str(unknown("rule", None, ["a"])) == "There is no rule named 'None'. The valid ones are: a."
