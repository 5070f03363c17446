"""Where a run computes: refused where it cannot, and on a card like on the CPU, up to rounding."""

import pytest
import torch

from tests.lab.train import small


def test_a_card_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="The device 'cuda' was asked for, but torch finds no CUDA device here"):
        small.trained(tmp_path, device="cuda")
    assert not [*tmp_path.iterdir()]


def test_what_no_run_computes_on_is_refused():
    with pytest.raises(ValueError, match="tpu"):
        small.config(device="tpu")
    with pytest.raises(ValueError, match="the elastic engine on the CPU only; got the device 'cuda'"):
        small.config(engine="elastic", device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")
@pytest.mark.parametrize("mode", ["loop", "vectorized"])
def test_a_run_on_a_card(tmp_path, mode):
    near, far = (
        small.trained(tmp_path / device, algorithm="dist-ef-sgdm", steps=3, mode=mode, device=device)
        for device in ("cpu", "cuda")
    )
    for a, b in zip(small.parameters(near), small.parameters(far), strict=True):
        torch.testing.assert_close(a.cpu(), b.cpu(), rtol=1e-3, atol=1e-4)
