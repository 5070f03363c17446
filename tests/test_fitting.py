"""Parts of other packages: fields and ways to be made that none of ours has, which are right all the same."""

import typing
from dataclasses import InitVar, dataclass, field
from typing import Any, TypedDict

import pytest

from gradvote.fitting import Checked


class Sizes(TypedDict):
    """A dictionary that nobody can tell from another."""

    rows: int


@dataclass(frozen=True)
class Read(Checked):
    """Makes itself of a text."""

    num: int

    def __init__(self, num: str) -> None:
        object.__setattr__(self, "num", int(num))


@dataclass(frozen=True)
class Mixed(Checked):
    """Its fields stand in another order than what it is made with."""

    named: int = field(default=1, kw_only=True)
    seed: InitVar[str] = "0"
    text: str = "x"


@dataclass(frozen=True)
class Items(Checked):
    """Items with a type each, with one for all, and with none."""

    pair: tuple[int, str] = (1, "a")
    many: tuple[int, ...] = ()
    any: typing.Sequence = ()  # type: ignore[type-arg]  # bare on purpose
    sizes: Sizes | None = None


@dataclass(frozen=True)
class Unknown(Checked):
    """A type that is not there when it runs."""

    value: "pytest.NoSuchThing | None" = None  # type: ignore[name-defined]  # a name that is not there


@pytest.mark.parametrize(
    "make",
    [
        lambda: Read("3"),
        lambda: Mixed("5", "y"),
        lambda: Mixed("5", text="y", named=2),
        lambda: Items((2, "b"), (1, 2, 3), (1, "c"), {"rows": 1}),
        lambda: Unknown(3),
    ],
)
def test_what_is_right_is_made(make: Any) -> None:
    assert isinstance(make(), Checked)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Mixed("5", 7), "text of Mixed must be a text; got 7"),  # type: ignore[arg-type]  # a user's mistake
        (lambda: Mixed(named="y"), "named of Mixed must be a whole number; got 'y'"),  # type: ignore[arg-type]  # a user's mistake
        (lambda: Items(("b", 2)), "pair of Items must be a list of a whole number, a text; got"),  # type: ignore[arg-type]  # a user's mistake
        (lambda: Items((1,)), "pair of Items must be a list of"),  # type: ignore[arg-type]  # a user's mistake
        (lambda: Items(many=(1, "b")), "many of Items must be a list of which each item is a whole number"),  # type: ignore[arg-type]  # a user's mistake
        (lambda: Items(any=3), "any of Items must be a list; got 3"),  # type: ignore[arg-type]  # a user's mistake
    ],
)
def test_what_is_wrong_is_told(make: Any, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}"):
        make()
