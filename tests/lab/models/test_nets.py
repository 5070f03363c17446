"""The models: sizes known from the papers, and one gradient per worker under vmap."""

import pytest
import torch
from torch.func import functional_call, grad, replace_all_batch_norm_modules_, vmap
from torch.nn import functional

from gradvote.lab.models import build, mlp, model_names

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32)]


def size(net):
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", model_names())
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_model_takes_every_image(name, shape):
    net = build(name, shape, 7, seed=0)
    assert net(torch.randn(3, *shape)).shape == (3, 7)


def test_sizes():
    assert size(build("mlp", (1, 28, 28), 10, 0)) == 784 * 128 + 128 + 128 * 10 + 10
    assert size(mlp((5,), 3, hidden=())) == 5 * 3 + 3
    assert size(mlp((5,), 3, hidden=(4, 2))) == 24 + 10 + 9
    assert size(build("resnet20", (3, 32, 32), 10, 0)) == 269_722  # 0.27 M, He et al. 2016, table 6
    assert size(build("resnet20-nobn", (3, 32, 32), 10, 0)) == 269_722 - sum((16,) * 7 + (32,) * 6 + (64,) * 6)


def test_resnet_has_twenty_weighted_layers():
    net = build("resnet20", (3, 32, 32), 10, 0)
    assert sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in net.modules()) == 20


def test_without_normalisation_means_none():
    net = build("resnet20-nobn", (3, 32, 32), 10, 0)
    assert not any("Norm" in type(m).__name__ for m in net.modules()) and not list(net.buffers())


def per_worker(net, params, x_MN, y_MN):
    def loss(params, x, y):
        return functional.cross_entropy(functional_call(net, params, (x,)), y)

    together = vmap(grad(loss), in_dims=(None, 0, 0))(params, x_MN, y_MN)
    alone = [grad(loss)(params, x, y) for x, y in zip(x_MN, y_MN, strict=True)]
    return together, alone


@pytest.mark.parametrize("name", model_names())
@pytest.mark.parametrize("shape", SHAPES[::2], ids=str)
def test_vmap_gives_each_workers_gradient(name, shape):
    torch.manual_seed(0)
    net = replace_all_batch_norm_modules_(build(name, shape, 10, seed=0)).double()
    params = {key: p.detach() for key, p in net.named_parameters()}
    x, y = torch.randn(3, 4, *shape, dtype=torch.float64), torch.randint(10, (3, 4))
    together, alone = per_worker(net, params, x, y)
    for worker, gradients in enumerate(alone):
        for key, gradient in gradients.items():
            assert torch.allclose(together[key][worker], gradient, rtol=1e-8, atol=1e-10), key


def test_the_scaled_start_keeps_the_signal_and_no_gradient_is_all_zero():
    torch.manual_seed(0)
    net = build("resnet20-nobn", (3, 32, 32), 10, seed=0)
    x = torch.randn(16, 3, 32, 32)
    before = functional.relu(net.stem(x))
    growth = (net.blocks(before).square().mean() / before.square().mean()).item()
    assert 0.2 < growth < 5
    functional.cross_entropy(net(x), torch.arange(16) % 10).backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet20-nobn"])
def test_plain_gradient_descent_fits_a_few_samples(name):
    torch.manual_seed(0)
    net = build(name, (1, 8, 8), 4, seed=0)
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8) % 4
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    for _ in range(80):
        optimizer.zero_grad()
        loss = functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize("name", ["cnn", "resnet20", "resnet20-nobn"])
@pytest.mark.parametrize("shape", [(64,), (1, 3, 8), (8, 8)], ids=str)
def test_convolutions_refuse_what_is_no_image(name, shape):
    with pytest.raises(ValueError, match=f"The model '{name}' needs images .*'mlp' takes any shape"):
        build(name, shape, 10, 0)
