import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gradvote.engines.common.directions import Directions, holds_direction
from gradvote.engines.common.kept import Kept


def watched(dtype: torch.dtype = torch.float32) -> tuple[nn.Parameter, nn.Parameter, Directions]:
    p, q = (nn.Parameter(torch.zeros(n, dtype=dtype)) for n in (3, 70))
    return p, q, Directions([p, q], ["p", "q"], "Advice.")


@pytest.mark.parametrize(("dtype", "small"), [(torch.float32, 1e-10), (torch.bfloat16, 3e-3), (torch.float64, 1e-300)])
def test_a_new_gradient_is_voted_on_alone_however_small_it_is(dtype: torch.dtype, small: float) -> None:
    p, _, directions = watched(dtype)
    direction = torch.tensor([1.0, -1.0, 1.0], dtype=dtype)
    directions.give({0: direction.clone()}, {0})
    (p * small).sum().backward()
    with pytest.warns(UserWarning, match=r"Several votes for one step.*Advice\."):
        gradients, aside = directions.collect()
    assert torch.equal(gradients[0], torch.full((3,), small, dtype=dtype)) and gradients[1] is None  # type: ignore[arg-type]
    new = torch.zeros(3, dtype=dtype)
    aside[0].add_to(new)
    assert torch.equal(new, direction)


def test_the_warning_comes_once() -> None:
    p, _, directions = watched()
    for _ in range(3):
        directions.give({0: torch.ones(3)}, {0})
        (p * 2).sum().backward()
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            directions.collect()
    assert not seen


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_takes_a_direction_away(set_to_none: bool) -> None:
    p, q, directions = watched()
    optimizer = torch.optim.SGD([p, q], 0.1)
    directions.give({0: torch.ones(3), 1: torch.ones(70)}, {0, 1})
    optimizer.zero_grad(set_to_none)
    (p * 2).sum().backward()
    gradients, aside = directions.collect()
    assert torch.equal(gradients[0], torch.full((3,), 2.0)) and not aside  # type: ignore[arg-type]
    assert gradients[1] is None, "a zero that nobody wrote is no gradient"


def test_a_direction_that_begins_with_zeros_is_taken_away_through_data_too() -> None:
    """As zero_grad of a sharded parameter does: the version does not tell, nor does a first row of zeros."""
    p = nn.Parameter(torch.zeros(2, 3))
    directions = Directions([p], ["p"], "Advice.")
    directions.give({0: torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, 1.0]])}, {0})
    p.grad.data.zero_()  # type: ignore[union-attr]  # there is one
    (p * 2).sum().backward()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradients, aside = directions.collect()
    assert torch.equal(gradients[0], torch.full((2, 3), 2.0)) and not aside  # type: ignore[arg-type]  # it is a tensor


def test_a_direction_without_a_new_gradient_stays_a_direction() -> None:
    p, q, directions = watched()
    directions.give({0: torch.ones(3), 1: torch.full((70,), 0.5)}, {0, 1})
    (p * 2).sum().backward()
    with pytest.warns(UserWarning, match="Several votes"):
        gradients, aside = directions.collect()
    assert gradients[1] is None and set(aside) == {0, 1} and q.grad is not None


@pytest.mark.parametrize(
    "change", [lambda g: g.mul_(0.1), lambda g: g.add_(1e-3), lambda g: g.copy_(g * 2), lambda g: g.data.mul_(3)]
)
def test_a_changed_direction_is_not_guessed_at(change: Callable[[Tensor], Tensor]) -> None:
    """Before autograd adds to it, all of it is the user's direction; without autograd nobody knows what is new."""
    p, _, directions = watched()
    directions.give({0: torch.ones(3)}, {0})
    assert holds_direction(p)
    change(p.grad)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match=r"gradient of 'p' holds the last direction and was changed.*zero_grad"):
        directions.collect()
    directions.give({0: torch.ones(3)}, {0})
    change(p.grad)  # type: ignore[arg-type]
    changed = p.grad.clone()  # type: ignore[union-attr]
    (p * 2).sum().backward()
    with pytest.warns(UserWarning, match="Several votes"):
        gradients, aside = directions.collect()
    kept = torch.zeros(3)
    aside[0].add_to(kept)
    assert torch.equal(gradients[0], torch.full((3,), 2.0)) and torch.equal(kept, changed)  # type: ignore[arg-type]
    p.grad = torch.full((3,), 5.0)
    assert torch.equal(directions.collect()[0][0], p.grad), "a tensor of the user's own is a gradient"  # type: ignore[arg-type]


def test_gradients_that_autograd_only_returns_change_nothing() -> None:
    p, _, directions = watched()
    directions.give({0: torch.ones(3)}, {0})
    torch.autograd.grad((p * 2).sum(), p)
    assert holds_direction(p) and directions.unvoted({0, 1}) is None


def test_local_accumulation_after_a_direction_keeps_both() -> None:
    """A vote, then two backward passes that do not synchronise, then a vote."""
    p, _, directions = watched()
    directions.give({0: torch.ones(3)}, {0})
    for _ in range(2):
        (p * 2).sum().backward()
    assert directions.unvoted({0}) == 0
    with pytest.warns(UserWarning):
        used, aside = directions.take([0, 1])
    assert used == {0} and torch.equal(p.grad, torch.full((3,), 4.0)) and set(aside) == {0}  # type: ignore[arg-type]
    p.grad = None
    (p * 3).sum().backward()
    assert directions.take([0, 1]) == (frozenset({0}), {}), "zero_grad took what was set aside, too"


@pytest.mark.parametrize("set_to_none", [True, False])
def test_zero_grad_in_the_middle_takes_everything_away(set_to_none: bool) -> None:
    """Also the direction of a parameter that the backward pass before it did not reach."""
    p, q, directions = watched()
    optimizer = torch.optim.SGD([p, q], 0.1)
    directions.give({0: torch.ones(3), 1: torch.ones(70)}, {0, 1})
    (p * 2).sum().backward()
    optimizer.zero_grad(set_to_none)
    ((p * 3).sum() + (q * 5).sum()).backward()
    gradients, aside = directions.collect()
    assert not aside and [float(g[0]) for g in gradients.values() if g is not None] == [3.0, 5.0]
    assert directions.take([0, 1]) == ({0, 1}, {})


def test_views_of_one_buffer_are_kept_before_any_is_overwritten() -> None:
    """As DDP's gradients are with `gradient_as_bucket_view`."""
    p, q, directions = watched()
    directions.views = True
    buffer = torch.arange(73.0) + 1
    expected = buffer.clone()
    directions.give({0: buffer[:3], 1: buffer[3:]}, {0, 1})
    (p * 2).sum().backward()
    buffer.fill_(7)
    (q * 2).sum().backward()
    with pytest.warns(UserWarning):
        _, aside = directions.take([0, 1])
    out = torch.zeros(73)
    aside[0].add_to(out[:3])
    aside[1].add_to(out[3:])
    assert torch.equal(out, expected)


def test_no_decision_is_no_gradient() -> None:
    p, q, directions = watched()
    p.grad = torch.ones(3)
    directions.give({0: torch.zeros(3), 1: torch.ones(70)}, {1})
    assert p.grad is None and torch.equal(q.grad, torch.ones(70))  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65])
@pytest.mark.parametrize("scale", [1.0, 6e-3, 0.0])
def test_directions_of_one_size_are_kept_as_bits(n: int, scale: float) -> None:
    signs = torch.where(torch.arange(n) % 3 == 0, scale, -scale).view(1, n)
    for direction, packed in ((signs, n > 0), (torch.arange(n, dtype=torch.float32).view(1, n), n == 1)):
        kept, out = Kept(direction), torch.zeros(1, n)
        kept.add_to(out)
        assert torch.equal(out, direction) and kept.packed == packed


def test_those_who_are_gone_no_longer_look() -> None:
    p, _, directions = watched()
    directions.give({0: torch.ones(3)}, {0})
    del directions
    (p * 2).sum().backward()
    assert torch.equal(p.grad, torch.full((3,), 3.0))  # type: ignore[arg-type]


def test_zeros_written_through_data_are_zeros() -> None:
    """An old and common habit, which leaves the tensor's version alone."""
    p, _, directions = watched()
    directions.give({0: torch.ones(3)}, {0})
    p.grad.data.zero_()  # type: ignore[union-attr]  # there is one
    (p * 2).sum().backward()
    gradients, aside = directions.collect()
    assert torch.equal(gradients[0], torch.full((3,), 2.0)) and not aside  # type: ignore[arg-type]


def test_what_only_fills_in_is_no_gradient() -> None:
    p, q, directions = watched()
    directions.give({0: torch.ones(3), 1: torch.ones(70)}, {0}, {1: float("inf")})
    assert bool(q.grad.isinf().all())  # type: ignore[union-attr]
    directions.unfill([0, 1])
    assert q.grad is None and p.grad is not None
    directions.give({0: torch.ones(3)}, {0}, {1: 0.0})
    p.grad = None
    (p.sum() + q.sum()).backward()
    assert directions.collect()[1] == {} and torch.equal(q.grad, torch.ones(70))  # type: ignore[arg-type]


def test_gradients_that_another_engine_has_voted_on_are_not_unvoted() -> None:
    p, q, first = watched()
    second = Directions([p, q], ["p", "q"], "")
    (p.sum() + q.sum()).backward()
    first.give({0: torch.ones(3), 1: torch.ones(70)}, {0, 1})
    assert second.unvoted({0, 1}) is None


def test_a_direction_of_another_vote_is_refused() -> None:
    """Two votes on one parameter: the second one would find no gradient, and nothing would be decided."""
    p, q, first = watched()
    second = Directions([p, q], ["p", "q"], "")
    (p.sum() + q.sum()).backward()
    first.give({0: torch.ones(3), 1: torch.ones(70)}, {0, 1})
    with pytest.raises(RuntimeError, match=r"'p' is what another vote has decided.* Leave one of them out"):
        second.collect()
    p.grad, q.grad = p.grad.clone(), q.grad.clone()  # type: ignore[union-attr]
    assert torch.equal(second.collect()[0][1], torch.ones(70))  # type: ignore[arg-type]


@pytest.mark.parametrize("dropped", [False, True])
@pytest.mark.parametrize("zeroed", [False, True])
def test_a_vote_that_is_attached_anew_finds_new_gradients_only(dropped: bool, zeroed: bool) -> None:
    p, q, first = watched()
    first.give({0: torch.ones(3)}, {0})
    second = Directions([p, q], ["p", "q"], "")
    if dropped:
        del first
    if zeroed:
        p.grad.zero_()  # type: ignore[union-attr]
    (p * 3).sum().backward()
    gradients, aside = second.collect()
    assert torch.equal(gradients[0], torch.full((3,), 3.0)) and bool(aside) != zeroed  # type: ignore[arg-type]


@pytest.mark.parametrize("type_", [torch.float64, torch.bfloat16])
def test_parameters_that_were_converted_are_looked_at_again(type_: torch.dtype) -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    directions = Directions([model.weight], ["weight"], "")
    assert not directions.nodes.out_of_sight(0)
    model.to(type_)
    assert directions.nodes.out_of_sight(0)
    model(torch.ones(1, 2, dtype=type_)).sum().backward()
    directions.collect()
    directions.give({0: torch.ones(1, 2, dtype=type_)}, {0})
    model(torch.ones(1, 2, dtype=type_)).sum().backward()
    gradients, aside = directions.collect()
    assert gradients[0].tolist() == [[1.0, 1.0]] and set(aside) == {0}  # type: ignore[union-attr]
