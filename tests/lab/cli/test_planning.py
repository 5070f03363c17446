"""`gradvote plan`."""

import pytest

from gradvote.lab.cli import run


def test_slow_links_pay_and_fast_ones_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["plan", "signsgd", "--params", "10k", "--workers", "4", "--bandwidth"]
    assert run([*common, "1kbit"]) == 0
    out = capsys.readouterr().out
    assert "times less than" in out and "GB of memory beside parameters and gradients" in out
    assert run([*common, "1000Gbit", "--compute", "10s"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "does not pay" in out and "Recommended: averaging in float32 at every step" in out


def test_an_unknown_algorithm_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "signsdg", "--params", "10k", "--workers", "4", "--bandwidth", "1Mbit"]) == 2
    assert "Did you mean 'signsgd'" in capsys.readouterr().err
