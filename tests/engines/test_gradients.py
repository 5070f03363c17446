"""The workers' gradients, one after another and all at once."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gradvote.engines.gradients import check_vectorizable, loop_gradients, of_used, trainable, vectorized_gradients
from gradvote.lab.models import build
from gradvote.layout import layout_of

SHAPE = (3, 8, 8)


def layout_for(model, block_size=100):
    return layout_of([p.numel() for p in trainable(model)], block_size)


def batches(sizes, shape=SHAPE, classes=10):
    g = torch.Generator().manual_seed(len(sizes))
    return [(torch.randn(n, *shape, generator=g), torch.randint(classes, (n,), generator=g)) for n in sizes]


def by_hand(model, x, y):
    """The gradient, in the order of the parameters."""
    loss = cross_entropy(model(x), y)
    found = torch.autograd.grad(loss, trainable(model))
    return loss.detach(), torch.cat([g.flatten() for g in found])


def in_order(flat, layout):
    tensors = [torch.empty(n) for n in layout.numels]
    layout.unflatten(flat, tensors)
    return torch.cat(tensors)


@pytest.mark.parametrize("sizes", [[4], [3, 3, 3], [1, 5, 2]], ids=str)
def test_loop_is_each_workers_own_backward(sizes):
    model = build("mlp", SHAPE, 10, 0)
    layout, data = layout_for(model), batches(sizes)
    losses, gradients = loop_gradients([model], data, layout, 0, 0)
    for i, (x, y) in enumerate(data):
        loss, expected = by_hand(model, x, y)
        assert torch.equal(losses[i], loss) and torch.equal(in_order(gradients[i], layout), expected)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20-nobn"])
@pytest.mark.parametrize("sizes", [[3, 3], [1, 5, 2]], ids=str)
def test_vectorized_equals_loop_up_to_rounding(name, sizes):
    model = build(name, SHAPE, 10, 0)
    layout, data = layout_for(model), batches(sizes)
    for one, other in zip(
        loop_gradients([model], data, layout, 0, 0), vectorized_gradients([model], data, layout, 0, 0), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gradients", [loop_gradients, vectorized_gradients])
def test_one_model_per_worker(gradients):
    models, data = [build("mlp", SHAPE, 10, seed) for seed in range(3)], batches([4, 2, 3])
    layout = layout_for(models[0])
    losses, found = gradients(models, data, layout, 0, 0)
    for i, (model, (x, y)) in enumerate(zip(models, data, strict=True)):
        loss, expected = by_hand(model, x, y)
        torch.testing.assert_close(losses[i], loss)
        torch.testing.assert_close(in_order(found[i], layout), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gradients", [loop_gradients, vectorized_gradients])
@pytest.mark.parametrize("num_models", [1, 2])
def test_frozen_and_unused_parameters(gradients, num_models):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.frozen = nn.Linear(192, 5).requires_grad_(False)
            self.head = nn.Linear(5, 10)
            self.unused = nn.Linear(2, 2)

        def forward(self, x):
            return self.head(self.frozen(x.flatten(1)))

    torch.manual_seed(0)
    models = [Net() for _ in range(num_models)]
    layout, data = layout_for(models[0]), batches([4, 2])
    assert layout.size == 60 + 6
    _, found = gradients(models, data, layout, 0, 0)
    for i, (x, y) in enumerate(data):
        model = models[i % num_models]
        expected = torch.autograd.grad(cross_entropy(model(x), y), [*model.head.parameters()])
        flat = torch.cat([*(g.flatten() for g in expected), torch.full((6,), torch.nan)])
        torch.testing.assert_close(in_order(found[i], layout), flat, rtol=1e-4, atol=1e-6, equal_nan=True)
        counted = of_used(torch.zeros(2), found)
        assert bool((counted == found.nan_to_num(0)).all())
        assert bool(of_used(torch.full((2,), torch.nan), found).isnan().any())


def with_dropout():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.Dropout(0.5), nn.Linear(64, 10))


@pytest.mark.parametrize("gradients", [loop_gradients, vectorized_gradients])
def test_dropout_is_a_function_of_seed_step_and_worker(gradients):
    model = with_dropout()
    layout = layout_for(model)
    same = batches([6]) * 3  # the same samples for all, so that only the dropout differs
    torch.manual_seed(1)
    _, first = gradients([model], same, layout, seed=4, step=7)
    torch.manual_seed(2)
    _, again = gradients([model], same, layout, seed=4, step=7)
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])
    for other in (gradients([model], same, layout, seed=5, step=7), gradients([model], same, layout, seed=4, step=8)):
        assert not torch.equal(first, other[1])


@pytest.mark.parametrize("gradients", [loop_gradients, vectorized_gradients])
def test_the_programs_own_randomness_is_left_alone(gradients):
    model = with_dropout()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    gradients([model], batches([2, 2]), layout_for(model), 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_batch_norm_is_refused_with_the_way_out():
    model = build("resnet20", SHAPE, 10, 0)
    with pytest.raises(ValueError, match=r"BatchNorm cannot be vectorized .* mode 'loop', .* resnet20-nobn"):
        check_vectorizable(model)
    with pytest.raises(ValueError, match="BatchNorm"):
        vectorized_gradients([model], batches([2]), layout_for(model), 0, 0)
    check_vectorizable(nn.BatchNorm1d(3, track_running_stats=False))


def test_what_vmap_cannot_do_is_said_so():
    class Peeks(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(192, 10)

        def forward(self, x):
            return self.linear(x.flatten(1)) * (2 if float(x.sum()) > 0 else 1)

    model = Peeks()
    with pytest.raises(ValueError, match="cannot be vectorized over workers; use the mode 'loop'"):
        vectorized_gradients([model], batches([2, 2]), layout_for(model), 0, 0)
