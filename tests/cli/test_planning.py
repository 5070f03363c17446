"""`gradvote plan`."""

import pytest

from gradvote.cli import run
from gradvote.cli.planning import RATES, SIZES, TIMES, quantity


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("25.6M", SIZES, 25.6e6),
        ("1000", SIZES, 1000.0),
        ("1e6", SIZES, 1e6),
        ("100Mbit", RATES, 1e8),
        ("100 mbit", RATES, 1e8),
        ("10Gbit", RATES, 1e10),
        ("20ms", TIMES, 0.02),
        (".3s", TIMES, 0.3),
    ],
)
def test_quantities_with_units(text: str, units: dict[str, float], value: float) -> None:
    assert quantity("thing", text, units) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "fast", "-1Mbit", "10MB", "1..2bit", "nanbit"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a bandwidth: a number .* bit, kbit, Mbit, Gbit"):
        quantity("bandwidth", text, RATES)


def test_slow_links_pay_and_fast_ones_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["plan", "signsgd", "--params", "10k", "--workers", "4", "--bandwidth"]
    assert run([*common, "1kbit"]) == 0
    assert "times less than" in capsys.readouterr().out
    assert run([*common, "1000Gbit", "--compute", "10s"]) == 0
    assert "does not pay" in capsys.readouterr().out


def test_an_unknown_algorithm_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "signsdg", "--params", "10k", "--workers", "4", "--bandwidth", "1Mbit"]) == 2
    assert "Did you mean 'signsgd'" in capsys.readouterr().err
