"""Weight decay with a momentum of its own."""

import pytest
import torch

from gradvote.optim import NesterovDecay


def by_hand(x, directions, lr, mu, decay):
    """x ← x − η(Δ + μw + λx) with w ← μw + λx; Zheng, Huang, Kwok 2019, Algorithm 1."""
    w = torch.zeros_like(x)
    for delta in directions:
        w = mu * w + decay * x
        x = x - lr * (delta + mu * w + decay * x)
    return x


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("mu", [0.0, 0.9])
def test_the_rule(mu, decay):
    g = torch.Generator().manual_seed(0)
    x, directions = torch.randn(7, generator=g), torch.randn(5, 7, generator=g)
    p = torch.nn.Parameter(x.clone())
    optimizer = NesterovDecay([p], lr=0.1, momentum=mu, weight_decay=decay)
    for delta in directions:
        p.grad = delta.clone()
        optimizer.step()
    torch.testing.assert_close(p.detach(), by_hand(x, directions, 0.1, mu, decay))


def test_without_decay_it_is_sgd_and_keeps_no_state():
    p, q = (torch.nn.Parameter(torch.arange(3.0)) for _ in range(2))
    ours, theirs = NesterovDecay([p], lr=0.3), torch.optim.SGD([q], lr=0.3)
    for optimizer, parameter in ((ours, p), (theirs, q)):
        for step in range(3):
            parameter.grad = torch.full((3,), 1.0 + step)
            optimizer.step()
    assert torch.equal(p, q) and not ours.state


def test_the_gradient_is_left_alone_and_a_missing_one_is_no_step():
    p, q = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    NesterovDecay([p, q], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(p.grad, torch.ones(2)) and torch.equal(q, torch.ones(2))


def test_groups_with_rates_of_their_own():
    p, q = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    p.grad = q.grad = torch.ones(2)
    NesterovDecay([{"params": [p]}, {"params": [q], "lr": 0.0}], lr=0.1).step()
    assert p.tolist() == pytest.approx([0.9, 0.9]) and torch.equal(q, torch.ones(2))


def test_a_closure():
    p = torch.nn.Parameter(torch.ones(2))

    def closure():
        p.grad = None
        loss = p.square().sum()
        loss.backward()
        return loss

    assert NesterovDecay([p], lr=0.1).step(closure).item() == 2.0
    assert p.tolist() == pytest.approx([0.8, 0.8])


def test_resuming():
    def trained(steps, state=None, x=1.0):
        p = torch.nn.Parameter(torch.full((2,), x))
        optimizer = NesterovDecay([p], lr=0.1, weight_decay=0.3)
        if state:
            optimizer.load_state_dict(state)
        for _ in range(steps):
            p.grad = torch.ones(2)
            optimizer.step()
        return p.detach(), optimizer.state_dict()

    whole, _ = trained(5)
    half, state = trained(2)
    assert torch.equal(trained(3, state, float(half[0]))[0], whole)


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"momentum": 1.0}, {"momentum": -0.1}, {"weight_decay": -1.0}])
def test_mistakes(wrong):
    with pytest.raises(ValueError, match="NesterovDecay needs lr >= 0"):
        NesterovDecay([torch.nn.Parameter(torch.ones(1))], **{"lr": 0.1} | wrong)
