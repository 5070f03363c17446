"""Weight decay with a momentum of its own; the optimizer behind a vote."""

import pytest
import torch

from gradvote import suggest_lr
from gradvote.algorithms import dist_ef_adam, dist_ef_sgdm, signum
from gradvote.optim import NesterovDecay, sgd_for


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


class TestSgdFor:
    """The SGD behind a vote has what the optimizer before it had."""

    def groups(self):
        return [
            {"params": [torch.nn.Parameter(torch.ones(3))], "lr": 2e-3, "weight_decay": 0.1},
            {"params": [torch.nn.Parameter(torch.ones(2))], "lr": 1e-3, "weight_decay": 0.0},
        ]

    def test_groups_rates_and_decay_of_adamw(self):
        adam = torch.optim.AdamW(self.groups())
        torch.optim.lr_scheduler.LambdaLR(adam, lambda step: step / 10)  # in its warm-up
        for algorithm, factor in ((signum(), 0.2), (dist_ef_adam(), 1.0)):
            sgd = sgd_for(adam, algorithm)
            assert type(sgd) is torch.optim.SGD
            assert [g["params"][0] is h["params"][0] for g, h in zip(sgd.param_groups, adam.param_groups, strict=True)]
            assert [g["lr"] for g in sgd.param_groups] == pytest.approx([2e-3 * factor, 1e-3 * factor])
            assert [g["weight_decay"] for g in sgd.param_groups] == pytest.approx([0.1 / factor, 0.0])
            assert sgd.defaults["lr"] == pytest.approx(2e-3 * factor)
            assert all(g["momentum"] == 0 and "initial_lr" not in g for g in sgd.param_groups)

    @pytest.mark.parametrize(
        "make, share",
        [
            (lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1), 1e-3),
            (lambda p: torch.optim.NAdam(p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True), 1e-3),
            (lambda p: type("Lion", (torch.optim.AdamW,), {})(p, lr=0.01, weight_decay=0.1), 1e-3),
            (lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.1), 1e-3),
            (lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.1, momentum=0.9), 1e-2),
            (lambda p: torch.optim.SGD(p, lr=0.01, weight_decay=0.1, momentum=0.9, dampening=0.5), 5e-3),
            (lambda p: NesterovDecay(p, lr=0.01, weight_decay=0.1), 1e-2),
        ],
    )
    def test_a_step_takes_the_same_share_of_the_weights(self, make, share):
        p = torch.nn.Parameter(torch.ones(4))
        p.grad = torch.tensor([0.1, -0.2, 0.3, 0.4])
        sgd = sgd_for(make([p]), signum())
        p.grad = torch.zeros(4)
        sgd.step()
        torch.testing.assert_close(p.detach(), torch.full((4,), 1 - share))

    def test_it_climbs_where_the_one_before_did_and_leaves_that_one_alone(self):
        adam = torch.optim.AdamW(self.groups(), maximize=True)
        before = repr(adam)
        assert all(group["maximize"] for group in sgd_for(adam, signum()).param_groups)
        assert repr(adam) == before

    def test_a_decay_inside_adams_averages_is_refused(self):
        for kind in (torch.optim.Adam, torch.optim.NAdam):
            with pytest.raises(ValueError, match=f"{kind.__name__}'s weight_decay=0.1 goes through its averages"):
                sgd_for(kind(self.groups()), signum())
            p = [torch.nn.Parameter(torch.ones(3))]
            assert sgd_for(kind(p, lr=1e-3), signum()).param_groups[0]["weight_decay"] == 0

    def test_gradients_are_asked_for_as_in_suggest_lr(self):
        adam = torch.optim.AdamW(self.groups())
        with pytest.raises(ValueError, match=r"Call loss\.backward"):
            sgd_for(adam, dist_ef_sgdm())
        for group in adam.param_groups:
            group["params"][0].grad = torch.arange(1.0, 1 + len(group["params"][0]))
        rates = [sgd_for(adam, dist_ef_sgdm(), max_norm=bound).defaults["lr"] for bound in (None, 0.5)]
        assert rates == [suggest_lr(adam, dist_ef_sgdm(), max_norm=bound)[0] for bound in (None, 0.5)]
        assert rates[1] > rates[0]
