"""Arguments by name: what fits is converted, what does not is refused with a sentence."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from gradvote import algorithms, faults, partitions
from gradvote.arguments import checked, hints_of
from gradvote.transforms import Noise, Relative


@dataclass(frozen=True)
class Recipe:
    number: float = 1.0
    whole: int = 1
    flag: bool = False
    text: str = ""
    choice: Literal["a", "b"] = "a"
    items: tuple[float, ...] | None = None
    table: dict[str, float] | None = None
    anything: Any = None


@pytest.mark.parametrize(
    ("key", "value", "fitted"),
    [
        ("number", 2, 2),
        ("number", 2.5, 2.5),
        ("whole", 3, 3),
        ("flag", True, True),
        ("text", "x", "x"),
        ("choice", "z", "z"),  # the dataclass itself names the nearest valid choice
        ("items", [1, 2.5], (1, 2.5)),
        ("items", None, None),
        ("items", (), ()),
        ("table", {"a": 1}, {"a": 1}),
        ("anything", object, object),
    ],
)
def test_what_fits(key, value, fitted):
    assert checked("a recipe", {key: value}, hints_of(Recipe)) == {key: fitted}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("number", "2", "a number"),
        ("number", True, "a number"),
        ("number", None, "a number"),
        ("whole", 2.5, "a whole number"),
        ("whole", True, "a whole number"),
        ("flag", 1, "True or False"),
        ("text", 1, "a text"),
        ("choice", 1, "'a' or 'b'"),
        ("items", 3, "a list of which each item is a number or None"),
        ("items", [1, "x"], "a list of which each item is a number or None"),
        ("table", [1], "a dictionary or None"),
        ("items", "12", "a list of which each item is a number or None"),
    ],
)
def test_what_does_not_fit(key, value, expected):
    with pytest.raises(ValueError) as error:
        checked("a recipe", {key: value}, hints_of(Recipe))
    assert str(error.value) == f"The option {key} of a recipe must be {expected}; got {value!r}."


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no option of a recipe named 'numbr'. Did you mean 'number'\? The valid"):
        checked("a recipe", {"numbr": 1}, hints_of(Recipe))
    with pytest.raises(ValueError, match=r"^The fault invert takes no options; leave out 'factor'.$"):
        faults.create("invert", factor=2)


@pytest.mark.parametrize(
    ("text", "std"),
    [
        ("0.25", 0.25),
        ("1e-3", 1e-3),
        ("relative", Relative(0.1, "median")),
        ("relative:0.3", Relative(0.3, "median")),
        ("relative:0.3:max", Relative(0.3, "max")),
    ],
)
def test_noise_written_as_text(text, std):
    created = algorithms.create("noisy-sgd", noise_std=text)
    assert created == algorithms.noisy(algorithms.sgd(), std)
    assert created.up.transforms == (Noise(std),)


@pytest.mark.parametrize("text", ["abc", "", "relative:", "relative:x", "relative:1:max:2", "max:1", "0,1"])
def test_noise_that_is_no_number(text):
    with pytest.raises(ValueError, match=r"must be a number, or relative\[:factor\[:median\|max\]\]; got '"):
        algorithms.create("noisy-signsgd", noise_std=text)


def test_noise_that_makes_no_sense():
    with pytest.raises(ValueError, match=r"'mx'. Did you mean 'max'"):
        algorithms.create("noisy-signsgd", noise_std="relative:1:mx")
    with pytest.raises(ValueError, match=r"finite and not negative; got -1.0"):
        algorithms.create("noisy-signsgd", noise_std="relative:-1")


def test_options_reach_the_right_half_of_a_noisy_algorithm():
    made = algorithms.create("noisy-dropsignsgd", keep_up=0.2, noise="laplace", position="vote")
    assert made == algorithms.noisy(algorithms.dropsignsgd(keep_up=0.2), noise="laplace", position="vote")
    with pytest.raises(ValueError, match="named 'algorithm'"):
        algorithms.create("noisy-signsgd", algorithm=None)
    with pytest.raises(ValueError, match="keep_up of noisy-dropsignsgd must be a number or Schedule; got 'x'"):
        algorithms.create("noisy-dropsignsgd", keep_up="x")


def test_weights_from_json_are_those_written():
    assert algorithms.create("sgd", weights=[1, 2]) == algorithms.sgd(weights=(1, 2))


def test_a_name_may_bring_its_options_as_on_the_command_line():
    assert algorithms.create("noisy-signsgd:noise_std=0.5,zero=abstain") == algorithms.create(
        "noisy-signsgd", noise_std=0.5, zero="abstain"
    )
    assert faults.create("rescale:factor=-10") == faults.create("rescale", factor=-10)
    assert partitions.partition_named("dirichlet:alpha=0.1") == partitions.partition_named("dirichlet", alpha=0.1)
    for twice in (
        lambda: algorithms.create("signum:beta=0.5", beta=0.9),
        lambda: faults.create("rescale:factor=2", factor=3),
        lambda: partitions.partition_named("dirichlet:alpha=1.0", alpha=2.0),
    ):
        with pytest.raises(ValueError, match="is given twice, in '"):
            twice()
