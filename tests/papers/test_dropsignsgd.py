"""DropSignSGD, Phong and Phuong 2020, Algorithm 1.

The library's server sums c·Δ_i and then divides by the number of workers, the paper's multiplies ΣΔ_i by c/M; and the
direction given to the optimizer is c̃·Δ̃, so that its η is the paper's η/c̃. For c a power of two both orders round
alike, and the transcription is the paper's to the letter; for c = 6e-3 it takes the library's order.
"""

import pytest
import torch

from gradvote.algorithms import dropsignsgd
from gradvote.codecs import Masked
from gradvote.schedules import PerWorker, Step
from tests.papers.compare import CASES, RATES, WORKERS, assert_equal, assert_same
from tests.papers.shared import NUMELS, Generator, Signs, Tensors, average, no_noise, norm1, zeros
from tests.papers.test_dist_ef_sgdm import SERVER


class DropSign:
    """Worker: m ← μm + g; p = μm + g + e; Δ = each sign(p) kept with probability β, else 0; e ← p − cΔ.

    Server: p̃ = (c/M)ΣΔ_i + ẽ; Δ̃ = each sign(p̃) kept with probability β̃, else 0; ẽ ← p̃ − c̃Δ̃.
    """

    literal = False

    def __init__(self, num_workers: int, c: float = 6e-3, zero: str = "random", noise=no_noise) -> None:
        self.c, self.mu, self.beta, self.beta_server = c, 0.9, 0.3, 0.5
        self.noise, self.sign = noise, Signs(Generator(), zero)
        self.m = [zeros() for _ in range(num_workers)]
        self.e = [zeros() for _ in range(num_workers)]
        self.e_server = zeros()

    def drop(self, p: Tensors, t: int, sender: int, keep: float) -> Tensors:
        """maskgen(t, i) ⊙ sign(p)."""
        masks = self.sign.generator.kept(t, sender, keep)
        return [mask * s for mask, s in zip(masks, self.sign(p, t, sender), strict=True)]

    def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
        deltas = []
        for i, g_i in enumerate(g):
            p = []
            for k in range(len(NUMELS)):
                self.m[i][k] = self.mu * self.m[i][k] + g_i[k]
                p.append(self.mu * self.m[i][k] + g_i[k] + self.e[i][k])
            delta = self.drop(self.noise(p, t, i), t, i, self.keep_of(i))
            self.e[i] = [p_k - self.c * d_k for p_k, d_k in zip(p, delta, strict=True)]
            deltas.append(delta)
        p = [self.mean([d[k] for d in deltas]) + self.e_server[k] for k in range(len(NUMELS))]
        decision = self.drop(p, t, SERVER, self.beta_server)
        self.e_server = [p_k - self.c * d_k for p_k, d_k in zip(p, decision, strict=True)]
        return [self.c * d_k for d_k in decision]

    def keep_of(self, worker: int) -> float:
        return self.beta

    def mean(self, deltas: Tensors) -> torch.Tensor:
        return average([self.c * d for d in deltas])


class LiteralDropSign(DropSign):
    """The server's (c/M)ΣΔ_i as printed."""

    def mean(self, deltas: Tensors) -> torch.Tensor:
        return self.c * torch.stack(deltas).sum(0) / len(deltas)


@pytest.mark.parametrize(("num_workers", "zero"), CASES)
def test_equals_the_paper(num_workers: int, zero: str) -> None:
    paper = DropSign(num_workers, zero=zero)
    rounds = assert_same(dropsignsgd(zero=zero), paper, num_workers)
    assert_equal(rounds.unsent(rounds.algorithm.down, rounds.server), paper.e_server)
    for i in range(num_workers):
        assert_equal(rounds.unsent(rounds.algorithm.up, rounds.workers[i]), paper.e[i])
        assert_equal(rounds.memories(rounds.workers[i], "0", "momentum"), paper.m[i])


@pytest.mark.parametrize("num_workers", WORKERS)
def test_equals_the_paper_to_the_letter(num_workers: int) -> None:
    assert_same(dropsignsgd(c=2**-7), LiteralDropSign(num_workers, c=2**-7), num_workers)


def test_keep_by_worker() -> None:
    class Unequal(DropSign):
        def keep_of(self, worker: int) -> float:
            return (0.3, 0.05, 1.0)[worker]

    assert_same(dropsignsgd(keep_up=PerWorker((0.3, 0.05, 1.0))), Unequal(3), 3)


def test_scheduled_c() -> None:
    """c_t and c̃_t may be schedules."""

    class Scheduled(DropSign):
        def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
            self.c = 6e-3 if t < 8 else 6e-3 / 2
            return super().step(g, t, lr)

    assert_same(dropsignsgd(c=Step(6e-3, (8,), (2.0,))), Scheduled(3), 3)


def test_measured_c() -> None:
    """c and c̃ of each tensor are the mean of |p| over what is kept of it."""

    class Measured(DropSign):
        def drop(self, p: Tensors, t: int, sender: int, keep: float) -> Tensors:
            masks, signs = self.sign.generator.kept(t, sender, keep), self.sign(p, t, sender)
            sizes = [norm1(x * mask) / max(1, int(mask.sum())) for x, mask in zip(p, masks, strict=True)]
            return [c * mask * s for c, mask, s in zip(sizes, masks, signs, strict=True)]

    assert_same(dropsignsgd(c="l1"), Measured(3, c=1.0), 3)


def test_memories_are_rescaled_when_asked_to() -> None:
    """With `track_lr`, p and p̃ take (η_{t−1}/η_t)·e, as in dist-EF-SGDM."""

    class Tracking(DropSign):
        last = RATES[0]

        def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
            ratio = torch.tensor(self.last) / torch.tensor(lr)
            self.e = [[ratio * e_k for e_k in e] for e in self.e]
            self.e_server = [ratio * e_k for e_k in self.e_server]
            self.last = lr
            return super().step(g, t, lr)

    assert_same(dropsignsgd(track_lr=True), Tracking(3), 3)


@pytest.mark.parametrize("zero", ["abstain", "random"])
@pytest.mark.parametrize("num_workers", [1, 3, 5, 6, 7])
def test_ties_of_the_server_are_exact(num_workers: int, zero: str) -> None:
    """With `workers` the server's memory is a whole number of c/M: that of a server that counts in integers."""

    class Whole(DropSign):
        """P = ΣΔ_i + E; each sign(P) kept with probability β̃; E ← P − MΔ̃."""

        ties = 0

        def step(self, g: list[Tensors], t: int, lr: float) -> Tensors:
            whole, scaled = self.e_server, self.c
            direction = super().step(g, t, lr)
            decided = [d_k / scaled for d_k in direction]
            p = [s_k + e_k for s_k, e_k in zip(self.sums, whole, strict=True)]
            self.ties += sum(int((p_k == 0).sum()) for p_k in p)
            self.e_server = [p_k - num_workers * d_k for p_k, d_k in zip(p, decided, strict=True)]
            return direction

        def mean(self, deltas: Tensors) -> torch.Tensor:
            return torch.stack(deltas).sum(0)

        def drop(self, p: Tensors, t: int, sender: int, keep: float) -> Tensors:
            if sender == SERVER:
                self.sums = [p_k - e_k for p_k, e_k in zip(p, self.e_server, strict=True)]
            return super().drop(p, t, sender, keep)

    algorithm = dropsignsgd(zero=zero, workers=num_workers)
    c = algorithm.down.codec.codec.scale  # type: ignore[attr-defined]
    paper = Whole(num_workers, c=c, zero=zero)
    rounds = assert_same(algorithm, paper, num_workers)
    assert abs(c / 6e-3 - 1) < 2e-3 and paper.ties > 0
    unit = c / num_workers
    assert_equal(rounds.unsent(rounds.algorithm.down, rounds.server), [unit * e_k for e_k in paper.e_server])


@pytest.mark.parametrize(
    ("about", "what"),
    [({"c": "l1"}, "one constant"), ({"c_down": 0.1}, "one constant"), ({"c": 0.0}, "one constant"),
     ({"c": Step(1.0, (1,), (2.0,))}, "one constant"),
     ({"track_lr": True}, "leave out one"), ({"workers": 0}, "whole number"), ({"workers": 7.0}, "whole number")],
)  # fmt: skip
def test_what_workers_cannot_make_exact_is_refused(about: dict[str, object], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        dropsignsgd(**{"workers": 3, **about})  # type: ignore[arg-type]


def test_masks_of_the_transcription_are_the_librarys() -> None:
    """A mask that kept everything would make these tests blind to masks."""
    kept = torch.cat(Generator().kept(3, 1, 0.3))
    assert 0.25 < float(kept.mean()) < 0.35
    assert isinstance(dropsignsgd().down.codec, Masked)  # type: ignore[attr-defined]
