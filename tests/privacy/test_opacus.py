"""The account against Opacus's PRV accountant, where that is installed."""

import pytest

pytest.importorskip("opacus", reason="Opacus is not installed: pip install --no-deps opacus, with opt_einsum")
pytest.importorskip("dp_accounting", reason="accounts with sampled batches need the extra dp")

from opacus.accountants import PRVAccountant

from gradvote.privacy import epsilon_of


@pytest.mark.parametrize(("sigma", "rate", "steps"), [(2.0, 0.1, 100), (1.1, 0.02, 500)])
def test_sampled_batches_as_opacus_counts_them(sigma: float, rate: float, steps: int) -> None:
    theirs = PRVAccountant()
    theirs.history = [(sigma, rate, steps)]
    assert epsilon_of(sigma, steps, 1e-5, rate) == pytest.approx(theirs.get_epsilon(1e-5), rel=0.02)
