"""FlexCompressSGD, Phuong and Phong 2020, as reconstructed: dist-EF-SGDM that sends a random part of the signs."""

import pytest
import torch

from gradvote.algorithms import flexcompress
from tests.papers.compare import CASES, assert_equal, assert_same
from tests.papers.shared import NUMELS, Tensors, norm1, zeros
from tests.papers.test_dist_ef_sgdm import SERVER, DistEF


class FlexCompress(DistEF):
    """As dist-EF-SGDM, but a worker sends the signs of a random subset, and s = mean |p| over that subset."""

    def __init__(self, num_workers: int, keep: float = 0.3, mu: float = 0.9, zero: str = "random") -> None:
        super().__init__(num_workers, mu, zero)
        self.keep = keep

    def compress(self, p: Tensors, t: int, sender: int) -> Tensors:
        if sender == SERVER:
            return super().compress(p, t, sender)
        delta, signs = zeros(), self.sign(p, t, sender)
        for k, kept in enumerate(self.sign.generator.kept(t, sender, self.keep)):
            if kept.sum() > 0:
                s = norm1(kept * p[k]) / kept.sum()
                delta[k] = s * signs[k] * kept
        return delta


@pytest.mark.parametrize(("num_workers", "zero"), CASES)
def test_equals_the_reconstruction(num_workers: int, zero: str) -> None:
    paper = FlexCompress(num_workers, zero=zero)
    rounds = assert_same(flexcompress(zero=zero), paper, num_workers)
    assert_equal(rounds.unsent(rounds.algorithm.down, rounds.server), paper.e_server)
    for i in range(num_workers):
        assert_equal(rounds.unsent(rounds.algorithm.up, rounds.workers[i]), paper.e[i])


def test_keeping_all_is_dist_ef_sgdm() -> None:
    assert_same(flexcompress(keep=1.0), DistEF(3), 3)


def test_the_model_has_a_tensor_of_which_nothing_is_kept() -> None:
    """The test above meets the empty subset: the tensor of one coordinate."""
    kept = FlexCompress(1).sign.generator.kept(0, 0, 0.3)
    assert 1 in NUMELS
    assert torch.cat([FlexCompress(1).sign.generator.kept(t, 0, 0.3)[1] for t in range(20)]).eq(0).any()
    assert 0.2 < torch.cat(kept).mean() < 0.4
