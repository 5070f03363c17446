import math
from collections.abc import Callable

import pytest

from gradvote.lab.report import format as show


@pytest.mark.parametrize(
    ("formatter", "value", "text"),
    [
        (show.fraction, 0.9744, "0.974"),
        (show.scientific, 0.0312, "3.1e-02"),
        (show.scientific, 0.0, "0"),
        (show.bits, 1.0234, "1.02"),
        (show.bits, 32.0, "32.0"),
        (show.bits, 9.999, "10.0"),
        (show.count, 1200.0, "1,200"),
        (show.size, 0.0, "0 B"),
        (show.size, 999.6, "1.0 kB"),
        (show.size, 1_234_567.0, "1.2 MB"),
        (show.size, 999_960.0, "1.0 MB"),
        (show.size, 2.5e18, "2500.0 PB"),
        (show.duration, 4.21, "4.2 s"),
        (show.duration, 59.97, "1 min 00 s"),
        (show.duration, 125.0, "2 min 05 s"),
        (show.duration, 3720.0, "1 h 02 min"),
    ],
)
def test_numbers_read_as_documented(formatter: Callable[[float | None], str], value: float, text: str) -> None:
    assert formatter(value) == text


@pytest.mark.parametrize("formatter", [show.fraction, show.scientific, show.bits, show.count, show.size, show.duration])
def test_missing_and_non_finite_values_have_names(formatter: Callable[[float | None], str]) -> None:
    assert [formatter(v) for v in (None, math.nan, math.inf, -math.inf)] == ["—", "NaN", "∞", "−∞"]


@pytest.mark.parametrize(
    ("state", "step", "text"),
    [
        ("finished", 2000.0, "finished"),
        ("diverged", 40.0, "diverged at step 40"),
        ("interrupted", 1300.0, "interrupted at step 1,300"),
        ("running", 12.0, "running (step 12)"),
        ("running", None, "running"),
    ],
)
def test_status(state: str, step: float | None, text: str) -> None:
    assert show.status(state, step) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01, "0.01"), (-2.5, "−2.5"), (20000, "20,000"), (1e-5, "10⁻⁵"), (2e7, "2×10⁷"), (100, "100")],
)
def test_ticks(value: float, text: str) -> None:
    assert show.tick(value) == text


def test_words() -> None:
    assert [show.joined(items) for items in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]
    assert show.shortened("abcdef", 6) == "abcdef"
    assert show.shortened("abcdefg", 6) == "abcde…"
