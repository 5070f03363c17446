"""The benchmark of kernels: every operation measured and checked, figures and table made; a wrong kernel stops it."""

import json
from pathlib import Path

import pytest
import torch

from gradvote import kernels
from gradvote.lab.bench import cases
from gradvote.lab.bench import kernels as bench
from gradvote.lab.bench.kernel_report import draw, heading, table
from gradvote.lab.bench.measure import Measurement, WrongResultError, growth, measure
from gradvote.lab.bench.timing import Bandwidth, interleaved

SPEED = Bandwidth(read=1e-10, write=2e-10)


def measurement(d: int, seconds: float, part: str = "sizes") -> Measurement:
    return Measurement(part, "vote", 7, d, [seconds] * 7, "np", [10 * seconds] * 7, 0.5 * seconds, 9.0)


@pytest.mark.parametrize("d", [1, 63, 1000, 70_001])
@pytest.mark.parametrize("build", [cases.pack, cases.noisy, cases.vote, cases.median, cases.drop_sign, cases.unpack])
def test_every_operation_equals_its_definition(build: type, d: int) -> None:
    case = build(d)
    assert case.check()
    for call in (case.ours, *case.rivals.values()):
        call()


@pytest.mark.parametrize("distribution", ["laplace", "logistic", "uniform"])
def test_every_distribution_has_a_rival(distribution: str) -> None:
    case = cases.noisy(1000, distribution)
    assert case.check()
    assert all(len(rival()) == 125 for rival in case.rivals.values())


def test_a_wrong_result_shows_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "median", lambda x, valid: x[0])
    with pytest.raises(WrongResultError, match="median 7 at d = 1,000 differs"):
        measure(cases.median(1000), "table", SPEED)


def test_repetitions_are_interleaved() -> None:
    order: list[str] = []
    seconds = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, shortest=0.0)
    assert order[-14:] == ["a", "b"] * 7
    assert all(len(each) == 7 for each in seconds.values())


@pytest.mark.parametrize("start", [0.0, 1e-4])
def test_the_growth_of_a_linear_cost(start: float) -> None:
    sizes = (1000, 10_000, 1_000_000, 4_000_000)
    line = growth([measurement(d, start + 1e-9 * d) for d in sizes])["vote"]
    assert (line.start, line.per_coordinate) == (pytest.approx(start, abs=1e-12), pytest.approx(1e-9))
    assert line.factor == pytest.approx(1.0)


def test_what_is_not_linear_is_off_the_line() -> None:
    assert growth([measurement(d, 1e-12 * d**2) for d in (1000, 10_000, 100_000, 1_000_000)])["vote"].factor > 5
    assert growth([measurement(d, 1e-9 * d) for d in (1000, 10_000)]) == {}


def test_figures_of_a_measurement() -> None:
    m = measurement(1000, 0.25, "table")
    assert (m.time, m.rival_time, m.speedup) == (0.25, 2.5, 10.0)


def test_a_run_from_measuring_to_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QUICK_MODEL", "QUICK_MEDIAN"):
        monkeypatch.setattr(bench, name, 500)
    monkeypatch.setattr(bench, "WORKERS", (1, 2, 9))
    monkeypatch.setattr(bench, "bandwidth", lambda: SPEED)
    monkeypatch.setattr(bench, "CURSORY", 0.0)
    seen: list[tuple[str, int, int]] = []
    result = bench.run_kernels(tmp_path, [100, 1000], quick=True, progress=lambda *now: seen.append(now))
    assert json.loads((tmp_path / "kernels.json").read_text()) == result
    assert len(seen) == len(result["results"]) == seen[0][2]
    assert result["machine"]["threads"] == torch.get_num_threads()
    found = bench.load(tmp_path / "kernels.json")
    assert [m.as_dict() for m in found] == result["results"]
    assert table(found).row_count == sum(m.part == "table" for m in found) == 18
    assert [path.name for path in draw(found, heading(result), tmp_path)] == [
        "kernels-sizes.png",
        "kernels-workers.png",
    ]
    assert all(path.stat().st_size > 10_000 for path in tmp_path.glob("*.png"))


def test_what_does_not_fit_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "bandwidth", lambda: SPEED)
    monkeypatch.setattr(bench, "free_bytes", lambda: 1000)
    result = bench.run_kernels(tmp_path, [10**6], quick=True)
    assert result["results"] == []
    assert "pack, d = 1,000,000" in result["left_out"]


def test_sizes_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        bench.run_kernels(tmp_path / "new", [1000, 0])
    assert not (tmp_path / "new").exists()
