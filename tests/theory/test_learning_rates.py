"""`gradvote.suggest_lr`: from the present optimizer's rate to that of a vote."""

import math
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adagrad, AdamW, NAdam, Optimizer

import gradvote
from gradvote import algorithms as a
from gradvote.codecs import ErrorFeedback, Masked, Sign, chain
from gradvote.core import Algorithm, Codec
from gradvote.optim import NesterovDecay
from gradvote.schedules import Constant
from gradvote.theory.gradient_size import gradient_rms
from gradvote.transforms import Adam
from tests.forked import spawn


def params(*gradients: list[float]) -> list[nn.Parameter]:
    """Parameters that have these gradients."""
    found = [nn.Parameter(torch.zeros(len(g))) for g in gradients]
    for p, g in zip(found, gradients, strict=True):
        p.grad = torch.tensor(g)
    return found


def with_gradient(rms: float = 0.1) -> list[nn.Parameter]:
    return params([rms * math.sqrt(2), 0.0, rms * math.sqrt(2), 0.0, rms * 0.6, -rms * 1.28062])


def of_steps() -> list[str]:
    """The algorithms whose rate is of steps: those for rounds of local steps have an outer one."""
    files = {name: Path(a.__path__[0]) / f"{name.removeprefix('noisy-').replace('-', '_')}.py" for name in a.names()}
    return [name for name, file in files.items() if "local_steps" not in file.read_text(encoding="utf-8")]


def fresh() -> list[nn.Parameter]:
    return [nn.Parameter(torch.zeros(3))]


class TestTheRule:
    @pytest.mark.parametrize("vote", [a.signsgd(), a.signum(), a.lion(), a.signum(zero="abstain")])
    def test_a_vote_has_a_fifth_of_adams_rate_and_needs_no_gradient(self, vote: Algorithm) -> None:
        for adam in (AdamW, NAdam, type("FusedAdam", (Optimizer,), {"__init__": _like_any})):
            assert gradvote.suggest_lr(adam(fresh(), lr=3e-3), vote) == pytest.approx(6e-4)

    def test_adams_update_has_adams_rate(self) -> None:
        assert gradvote.suggest_lr(AdamW(fresh(), lr=3e-3), a.dist_ef_adam()) == 3e-3
        assert gradvote.suggest_lr(AdamW(fresh(), lr=3e-3), a.noisy(a.dist_ef_adam(), 0.1)) == 3e-3
        moved = SGD(with_gradient(0.01), lr=0.05, momentum=0.9)
        assert gradvote.suggest_lr(moved, a.dist_ef_adam()) == pytest.approx(0.5 * 0.01, rel=1e-4)
        masked = replace(a.dist_ef_adam(), up=chain(Adam(), ErrorFeedback(Masked(0.5, Sign("l1")))))
        assert gradvote.suggest_lr(AdamW(fresh(), lr=4e-3), masked) == pytest.approx(4e-3 * 0.5 / 2)

    def test_noise_before_the_vote_doubles_it(self) -> None:
        adam = AdamW(fresh(), lr=3e-3)
        assert gradvote.suggest_lr(adam, a.noisy(a.signsgd(), 0.01)) == pytest.approx(1.2e-3)
        assert gradvote.suggest_lr(adam, a.noisy(a.signsgd(), 0.0)) == pytest.approx(6e-4)

    def test_from_sgd_by_the_size_of_the_gradient(self) -> None:
        p = with_gradient(0.01)
        assert gradient_rms(SGD(p, lr=0.5)) == pytest.approx(0.01, rel=1e-4)
        assert gradvote.suggest_lr(SGD(p, lr=0.5), a.signum()) == pytest.approx(0.2 * 0.5 * 0.01, rel=1e-4)
        moved = SGD(p, lr=0.05, momentum=0.9)
        assert gradvote.suggest_lr(moved, a.signum()) == pytest.approx(0.2 * 0.5 * 0.01, rel=1e-4)
        averaged = SGD(p, lr=0.5, momentum=0.9, dampening=0.9)
        assert gradvote.suggest_lr(averaged, a.signum()) == pytest.approx(0.2 * 0.5 * 0.01, rel=1e-4)
        assert gradvote.suggest_lr(NesterovDecay(p, lr=0.5), a.signum()) == pytest.approx(0.2 * 0.5 * 0.01, rel=1e-4)

    @pytest.mark.parametrize(
        ("algorithm", "factor"),
        [
            (a.sgd(), 0.5),
            (a.mediansgd(), 0.5),
            (a.noisy(a.mediansgd(), 0.1), 0.5),
            (a.ef_signsgd(), 0.5),
            (a.dist_ef_sgdm(), 0.1),
            (a.dist_ef_sgdm(mu=0.5), 0.5),
            (a.flexcompress(), 0.1 * 0.3 / 2),
        ],
    )
    def test_directions_of_a_gradients_size(self, algorithm: Algorithm, factor: float) -> None:
        assert gradvote.suggest_lr(SGD(fresh(), lr=0.05, momentum=0.9), algorithm) == pytest.approx(0.5 * factor)
        found = gradvote.suggest_lr(AdamW(with_gradient(0.01), lr=5e-3), algorithm)
        assert found == pytest.approx(0.5 * factor, rel=1e-4)

    def test_sgd_without_momentum_stays_as_it_is(self) -> None:
        for optimizer in (SGD(fresh(), lr=0.3), NesterovDecay(fresh(), lr=0.3)):
            for algorithm in (a.sgd(), a.mediansgd(), a.ef_signsgd()):
                assert gradvote.suggest_lr(optimizer, algorithm) == pytest.approx(0.3)

    def test_dropsign_follows_sgd_where_c_fits_and_makes_up_where_it_does_not(self) -> None:
        sgd = SGD(with_gradient(0.01), lr=0.05, momentum=0.9)
        assert gradvote.suggest_lr(sgd, a.dropsignsgd(c=1.0)) == pytest.approx(0.05 * 0.3)
        assert gradvote.suggest_lr(sgd, a.dropsignsgd(c=0.004)) == pytest.approx(0.05 * 0.3 * 10, rel=1e-4)
        scheduled = a.dropsignsgd(keep_up=Constant(0.3), c=Constant(0.004))
        assert gradvote.suggest_lr(sgd, scheduled) == pytest.approx(0.05 * 0.3 * 10, rel=1e-4)

    def test_an_algorithm_of_ones_own_is_read_from_its_parts(self) -> None:
        scaled = replace(a.signsgd(), up=Sign(0.01), down=Sign(0.01))
        assert gradvote.suggest_lr(AdamW(fresh(), lr=5e-3), scaled) == pytest.approx(0.1)
        sign_of_a_median = replace(a.mediansgd(), down=Sign())
        assert gradvote.suggest_lr(AdamW(fresh(), lr=5e-3), sign_of_a_median) == pytest.approx(1e-3)
        mean_of_signs = replace(a.sgd(), up=Sign())
        assert gradvote.suggest_lr(AdamW(fresh(), lr=5e-3), mean_of_signs) == pytest.approx(1e-3)
        median_of_scaled_signs = replace(a.ef_signsgd(), up=Sign("l1"))
        assert gradvote.suggest_lr(SGD(fresh(), lr=0.5), median_of_scaled_signs) == pytest.approx(0.5)

    def test_clipped_gradients_are_what_it_fits(self) -> None:
        """With a bound of 1 gradients of norm 5 move SGD a fifth as far; means need five times the rate."""
        adam, sgd = AdamW(params([3.0, 4.0]), lr=1e-3), SGD(params([3.0, 4.0]), lr=1e-3)
        means, votes = a.dist_ef_sgdm(), a.signum()
        assert gradvote.suggest_lr(adam, means, max_norm=1.0) == pytest.approx(5 * gradvote.suggest_lr(adam, means))
        assert gradvote.suggest_lr(sgd, votes, max_norm=1.0) == pytest.approx(gradvote.suggest_lr(sgd, votes) / 5)
        assert gradvote.suggest_lr(adam, means, max_norm=6.0) == gradvote.suggest_lr(adam, means)
        assert gradvote.suggest_lr(adam, votes, max_norm=1.0) == gradvote.suggest_lr(adam, votes)
        assert sgd.param_groups[0]["params"][0].grad.tolist() == [3.0, 4.0]

    @pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
    def test_a_bound_that_is_none(self, bound: float) -> None:
        with pytest.raises(ValueError, match="max_norm must be positive and finite"):
            gradvote.suggest_lr(SGD(with_gradient(), lr=0.1), a.signum(), max_norm=bound)

    def test_lion_stays_lion(self) -> None:
        lion = type("Lion", (Optimizer,), {"__init__": _like_any})
        assert gradvote.suggest_lr(lion(fresh(), lr=1e-4), a.lion()) == pytest.approx(1e-4)

    def test_every_algorithm_of_the_catalogue_has_one(self) -> None:
        for name in of_steps():
            for optimizer in (SGD(with_gradient(), lr=0.1), AdamW(with_gradient(), lr=1e-3)):
                rate = gradvote.suggest_lr(optimizer, a.create(name))
                assert isinstance(rate, float)
                assert 0 < rate < 10

    def test_the_catalogues_defaults_agree_with_it(self) -> None:
        """All of them are what the rule makes of SGD at 0.1 and gradients of size 0.05, up to a factor of 2."""
        present = SGD(with_gradient(0.05), lr=0.1)
        for name in of_steps():
            assert gradvote.suggest_lr(present, a.create(name)) == pytest.approx(a.default_lr(name), rel=0.51)


class TestGroupsAndSchedulers:
    def test_one_rate_for_each_group_in_their_ratio(self) -> None:
        small, large = params([1e-3, 2e-3], [1.0, 2.0])
        groups = [{"params": [small], "lr": 0.1}, {"params": [large], "lr": 0.3}]
        rates = gradvote.suggest_lr(SGD(groups, lr=1.0), a.signum())
        assert isinstance(rates, list)
        assert rates[1] == pytest.approx(3 * rates[0])
        assert gradvote.suggest_lr(AdamW(groups, lr=1.0), a.signum()) == pytest.approx([0.02, 0.06])

    def test_the_rate_before_warm_up_counts(self) -> None:
        optimizer = AdamW(fresh(), lr=1e-3)
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 100)
        assert optimizer.param_groups[0]["lr"] == 0
        assert gradvote.suggest_lr(optimizer, a.signum()) == pytest.approx(2e-4)

    def test_a_rate_in_a_tensor_and_a_wrapped_optimizer(self) -> None:
        wrapped = type("AcceleratedOptimizer", (Optimizer,), {"__init__": _wrap})
        inner = AdamW(fresh(), lr=torch.tensor(1e-3))
        assert gradvote.suggest_lr(wrapped(inner), a.signum()) == pytest.approx(2e-4)

    def test_it_changes_nothing(self) -> None:
        p = with_gradient()
        optimizer = SGD(p, lr=0.1)
        before = (repr(optimizer), p[0].grad.clone())  # type: ignore[union-attr]  # set above
        gradvote.suggest_lr(optimizer, a.signum())
        assert repr(optimizer) == before[0]
        assert torch.equal(p[0].grad, before[1])  # type: ignore[arg-type]  # set above


class Odd(Codec):
    """A codec that nobody knows."""

    planes = encode = decode = lambda self, *_: None  # type: ignore[assignment]  # never called


def _mistakes() -> dict[str, tuple[Any, Any, str]]:
    sgd, adam = SGD(fresh(), lr=0.1), AdamW(fresh(), lr=1e-3)
    return {
        "wrong order": (a.signum(), adam, "first the optimizer and then the algorithm"),
        "a function": (adam, a.signum, r"got the function signum; call it"),
        "a name": (adam, "signum", "such as gradvote.algorithms.signum"),
        "a class": (AdamW, a.signum(), "got the class AdamW; build it over the model's parameters"),
        "parameters": (fresh(), a.signum(), "the optimizer you train with now; got an object of type list"),
        "a model": (nn.Linear(2, 2), a.signum(), "got an object of type Linear"),
        "a rate": (0.1, a.signum(), "got 0.1"),
        "an unknown optimizer": (Adagrad(fresh()), a.signum(), r"got Adagrad. Give it .* torch.optim.AdamW"),
        "no gradient": (sgd, a.signum(), "no parameter of the optimizer has one. Call loss.backward()"),
        "no gradient, Adam": (adam, a.ef_signsgd(), "Call loss.backward()"),
        "no gradient, dropsign": (sgd, a.dropsignsgd(), "Call loss.backward()"),
        "zeros": (SGD(params([0.0, 0.0]), lr=0.1), a.signum(), "these are all zero"),
        "NaN": (SGD(params([math.nan, 0.0]), lr=0.1), a.signum(), "these are not finite"),
        "a vote's direction": (SGD(params([1.0, -1.0, 1.0]), lr=0.1), a.signum(), "directions of a vote already"),
        "scaled signs": (SGD(params([2.0, -2.0, 0.0], [0.1, 0.1]), lr=1.0), a.lion(), "directions of a vote already"),
        "an unknown codec": (adam, replace(a.sgd(), up=Odd()), "not those of Algorithm.*Try its rate on a grid"),
        "an infinite rate": (SGD(with_gradient(), lr=math.inf), a.signum(), "finite and not negative"),
        "momentum 1": (SGD(with_gradient(), lr=0.1, momentum=1.0), a.signum(), "momentum must be less than 1"),
    }


@pytest.mark.parametrize("case", _mistakes())
def test_mistakes_are_answered_by_a_sentence(case: str) -> None:
    optimizer, algorithm, sentence = _mistakes()[case]
    with pytest.raises(ValueError, match=sentence):
        gradvote.suggest_lr(optimizer, algorithm)


def test_gradients_of_a_grad_scaler_are_warned_of() -> None:
    p = with_gradient(0.1 * 65536)
    with pytest.warns(UserWarning, match="unscale_"):
        gradvote.suggest_lr(SGD(p, lr=0.1), a.signum())


@pytest.mark.parametrize(
    "name, value", [("GRADVOTE_WORKERS", "3"), ("TORCHFT_LIGHTHOUSE", "http://x:1"), ("WORLD_SIZE", "2")]
)
def test_a_worker_that_sees_its_own_gradients_only_is_told(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would train at a rate of its own, and no engine compares rates."""
    monkeypatch.setenv(name, value)
    with pytest.warns(UserWarning, match=f"one of several as {name} says") as told:
        gradvote.suggest_lr(SGD(with_gradient(), lr=0.1), a.signum())
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradvote.suggest_lr(AdamW(fresh(), lr=0.1), a.signum())  # arithmetic: the same on all


def test_one_process_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradvote.suggest_lr(SGD(with_gradient(), lr=0.1), a.signum())


def test_the_front_door_stays_light() -> None:
    """`import gradvote` loads neither torch nor the rule."""
    code = "import gradvote, sys; assert 'suggest_lr' in dir(gradvote); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def _rates_of_a_rank() -> tuple[float, ...]:
    rank = torch.distributed.get_rank()
    both = SGD(params([3.0, 4.0, 5.0] if rank else [0.1, 0.2, 0.3]), lr=1e-3)
    one_only = SGD(params([3.0, 4.0, 5.0]) if rank else fresh(), lr=1e-3)
    return tuple(float(gradvote.suggest_lr(o, a.signum())) for o in (both, one_only))  # type: ignore[arg-type]  # one group


def test_ranks_get_the_same_rate() -> None:
    """Ranks with gradients of their own must not train at rates of their own; one without any counts for none."""
    first, second = spawn(_rates_of_a_rank, 2)
    assert first == second
    assert first == pytest.approx((2e-4 * ((50 / 3 + 0.14 / 3) / 2) ** 0.5, 2e-4 * (50 / 3) ** 0.5))


def _like_any(self: Any, params: list[nn.Parameter], lr: float) -> None:
    Optimizer.__init__(self, params, {"lr": lr})


def _wrap(self: Any, optimizer: Optimizer) -> None:
    self.optimizer, self.param_groups = optimizer, optimizer.param_groups


def test_of_a_rate_of_zero_nothing_is_made() -> None:
    """A script that sets its own warm-up begins with it; the model would never learn, and nothing would fail."""
    with pytest.raises(ValueError, match="rate is 0 now, as at the start of a warm-up"):
        gradvote.suggest_lr(AdamW(fresh(), lr=0.0), a.signum())
    groups = [{"params": fresh(), "lr": 0.0}, {"params": fresh(), "lr": 0.01}]
    assert gradvote.suggest_lr(AdamW(groups), a.signum()) == [0.0, pytest.approx(0.002)]


def test_an_optimizer_without_a_rate_is_answered_by_a_sentence() -> None:
    optimizer = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(2))], "lr": None}], 0.1)
    with pytest.raises(ValueError, match=r"no learning rate \(lr=None\)"):
        gradvote.suggest_lr(optimizer, a.signum())
