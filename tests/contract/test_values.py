"""Parts are values: printable as their own recipe, comparable, hashable, picklable, frozen, and checked when made."""

import math
import pickle
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any, get_type_hints

import numpy as np
import pytest

from gradvote import aggregators, algorithms, codecs, faults, schedules, transforms
from gradvote.aggregators import MajorityVote, Mean, TrimmedMean
from gradvote.aggregators.weights import capped
from gradvote.algorithms import create, noisy
from gradvote.codecs import Dense, ErrorFeedback, Masked, Sign, chain
from gradvote.core import Algorithm
from gradvote.faults import Faulty
from gradvote.fitting import Checked
from gradvote.layout import layout_of
from gradvote.schedules import Constant, Cosine, PerWorker, Step
from gradvote.transforms import Clip, Ema, LionMomentum, Momentum, Noise, Relative
from tests.contract.parts import AGGREGATORS, ALGORITHMS, CODECS, FAULTS, PARTITIONS, SCHEDULES, TRANSFORMS, flat

NAMESPACE = {"Algorithm": Algorithm} | {
    name: value for package in (aggregators, codecs, schedules, transforms) for name, value in vars(package).items()
}
NAMESPACE |= {kind.__name__: kind for kinds in (TRANSFORMS, CODECS, AGGREGATORS, SCHEDULES) for kind in kinds}
EVERYTHING = [
    *flat(TRANSFORMS),
    *flat(CODECS),
    *flat(AGGREGATORS),
    *flat(SCHEDULES),
    *[pytest.param(a, id=name) for name, a in ALGORITHMS.items()],
]


WRONG: dict[Any, list[object]] = {int: [1.5, math.nan, "3", True], float: ["0.5", None, True], bool: ["yes", 2]}


@pytest.mark.parametrize("part", [*EVERYTHING, *flat(FAULTS), *flat(PARTITIONS), Faulty(faults.create("nan"))])
def test_a_part_holds_what_its_types_say_or_is_not_made(part: Any) -> None:
    hints = get_type_hints(type(part))
    for field in fields(part) if isinstance(part, Checked) else ():
        for value in [object(), *WRONG.get(hints[field.name], [])]:
            with pytest.raises(ValueError, match=f"^{field.name} of {type(part).__name__} must be .*; got .*"):
                replace(part, **{field.name: value})


def test_our_own_parts_are_checked_all() -> None:
    assert all(isinstance(param.values[0], Checked) for param in [*EVERYTHING, *flat(FAULTS)])
    own = [p.values[0] for p in flat(PARTITIONS) if type(p.values[0]).__module__.startswith("gradvote.")]
    assert own and all(isinstance(part, Checked) for part in own)


@pytest.mark.parametrize("value", [np.float32(0.5), np.int64(1), 1, 0.5])
def test_numbers_of_numpy_are_numbers(value: Any) -> None:
    assert Momentum(value / 2).mu == value / 2 and Clip(value).limit == value
    assert TrimmedMean(np.int64(1)).trim == 1


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_schedules_of_no_numbers_are_refused(wrong: float) -> None:
    for make in (Constant, lambda v: Step(v, (1,), (2.0,)), lambda v: Cosine(v, 5), lambda v: PerWorker((0.1, v))):
        with pytest.raises(ValueError, match="finite"):
            make(wrong)


@pytest.mark.parametrize("part", EVERYTHING)
def test_repr_is_the_recipe(part: object) -> None:
    again = eval(repr(part), dict(NAMESPACE))
    assert again == part
    assert type(again) is type(part)
    assert repr(again) == repr(part)


@pytest.mark.parametrize("part", EVERYTHING)
def test_picklable_hashable_frozen(part: Any) -> None:
    again = pickle.loads(pickle.dumps(part))
    assert again == part
    assert hash(again) == hash(part)
    for field in fields(part):
        with pytest.raises(FrozenInstanceError):
            setattr(part, field.name, None)


def test_different_parts_differ() -> None:
    parts = [p.values[0] for p in EVERYTHING]
    texts = [repr(p) for p in parts]
    for i, a in enumerate(parts):
        for j, b in enumerate(parts[:i]):
            assert (a == b) == (texts[i] == texts[j])


NAN, INF = math.nan, math.inf
ALGORITHM = algorithms.signsgd()
BAD: list[Callable[[], object]] = [
    lambda: Clip(0),
    lambda: Clip(-1),
    lambda: Clip(NAN),
    lambda: Clip(INF),
    lambda: Momentum(1),
    lambda: Momentum(-0.1),
    lambda: Momentum(NAN),
    lambda: Ema(1.0),
    lambda: LionMomentum(1.0, 0.9),
    lambda: LionMomentum(0.9, -1.0),
    lambda: Noise(-1e-9),
    lambda: Noise(NAN),
    lambda: Noise(INF),
    lambda: Noise(1.0, "gausian"),
    lambda: Noise(Relative(-1.0)),
    lambda: Relative(0.1, "mean"),  # type: ignore[arg-type]
    lambda: Relative.parse("relativ"),
    lambda: Relative.parse("relative:x"),
    lambda: Relative.parse("relative:0.1:mean"),
    lambda: Relative.parse("relative:-1"),
    lambda: Dense("float31"),
    lambda: Sign("l2"),  # type: ignore[arg-type]
    lambda: Sign(0.0),
    lambda: Sign(-1.0),
    lambda: Sign(NAN),
    lambda: Sign(INF),
    lambda: Sign(zero="zero"),  # type: ignore[arg-type]
    lambda: Masked(0.0, Sign()),
    lambda: Masked(-0.5, Sign()),
    lambda: Masked(1.5, Sign()),
    lambda: Masked(NAN, Sign()),
    lambda: Masked(1e-9, Sign()),
    lambda: Masked(0.5, Sign(), granularity=32),
    chain,
    lambda: chain(Momentum(0.9)),
    lambda: chain(Sign(), Momentum(0.9)),
    lambda: chain(Sign(), Sign()),
    lambda: MajorityVote("heads"),  # type: ignore[arg-type]
    lambda: MajorityVote(weights=()),
    lambda: Mean((0.0, 0.0)),
    lambda: Mean((1.0, -1.0)),
    lambda: Mean((1.0, NAN)),
    lambda: Mean((1.0, INF)),
    lambda: TrimmedMean(-1),
    lambda: capped((1.0, 1.0), 0.4),
    lambda: capped((1.0, 1.0), 1.1),
    lambda: capped((1.0, 1.0), NAN),
    lambda: capped((), 0.5),
    lambda: Step(1.0, (10, 5), (2.0, 4.0)),
    lambda: Step(1.0, (10,), (2.0, 4.0)),
    lambda: Step(1.0, (10,), (0.0,)),
    lambda: Cosine(1.0, 0),
    lambda: Cosine(1.0, -5),
    lambda: PerWorker(()),
    lambda: PerWorker((0.1, 0.2))(0, 2),
    lambda: PerWorker((0.1, 0.2))(0, -1),
    lambda: layout_of([3], 0),
    lambda: layout_of([3], -1),
    lambda: noisy(ALGORITHM, -1.0),
    lambda: noisy(ALGORITHM, 1.0, "cauchy"),
    lambda: noisy(ALGORITHM, 1.0, position="server"),  # type: ignore[arg-type]
    lambda: noisy(noisy(ALGORITHM)),
    lambda: noisy(noisy(algorithms.dist_ef_sgdm(), position="vote")),
    lambda: chain(Noise(1.0), Clip(1.0), Noise(1.0), Sign()),
    lambda: create("signsdg"),
    lambda: create("noisy-signsdg"),
    lambda: create("noisy"),
    lambda: create("noisy-noisy-signsgd"),
    lambda: create("signsgd", beta=0.9),
    lambda: create("signsgd", zero="maybe"),
    lambda: create("signum", beta=1.0),
    lambda: create("dist-ef-sgdm", mu=1.0),
    lambda: create("dropsignsgd", keep_up=0.0),
    lambda: create("dropsignsgd", c=-1.0),
    lambda: create("noisy-lion", noise_std="much"),
    lambda: algorithms.summary("nothing"),
    lambda: algorithms.default_lr("nothing"),
    lambda: algorithms.options("nothing"),
    lambda: algorithms.dropsignsgd(keep_down=PerWorker((0.5, 0.5))),
    lambda: algorithms.dropsignsgd(c_down=PerWorker((0.5, 0.5))),
]


@pytest.mark.parametrize("make", BAD, ids=range(len(BAD)))
def test_bad_arguments_get_a_full_sentence(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError) as caught:
        make()
    text = str(caught.value)
    assert re.fullmatch(r"[A-Za-z].{15,}\.", text, re.DOTALL), text


def test_unknown_names_have_a_suggestion() -> None:
    with pytest.raises(ValueError, match="Did you mean 'signsgd'"):
        create("signsdg")
    with pytest.raises(ValueError, match="Did you mean 'noisy-signsgd'"):
        create("noisy-signsdg")
    with pytest.raises(ValueError, match="Did you mean 'zero'"):
        create("signsgd", zeros="random")
    with pytest.raises(ValueError, match="Did you mean 'gaussian'"):
        Noise(1.0, "gausian")
    with pytest.raises(AttributeError, match="Did you mean 'signum'"):
        _ = algorithms.signun


def test_parts_around_each_other_are_checked_when_made() -> None:
    assert ErrorFeedback(Sign()) == ErrorFeedback(Sign())
    assert chain(Sign()) == Sign()
    assert chain(Momentum(0.9), chain(Clip(1.0), Sign())) == chain(Momentum(0.9), Clip(1.0), Sign())


@pytest.mark.parametrize("name", algorithms.names())
def test_the_catalogue_describes_itself(name: str) -> None:
    assert algorithms.summary(name)
    assert algorithms.default_lr(name) == algorithms.default_lr(f"noisy-{name}") > 0
    assert set(algorithms.options(f"noisy-{name}")) - set(algorithms.options(name)) == {
        "noise_std",
        "noise",
        "position",
    }
    assert algorithms.create(name) == algorithms.function(name)()
    assert algorithms.create(f"noisy-{name}", noise_std=0.5) == noisy(algorithms.create(name), 0.5)
