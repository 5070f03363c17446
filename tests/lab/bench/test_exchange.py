import json
import sys
from pathlib import Path

import pytest
import torch

from gradvote.lab import plan
from gradvote.lab.bench import report
from gradvote.lab.bench.exchange import NAMES, Result, _simulated, gradient, run_locally


def test_every_contestant_is_verified_and_counted() -> None:
    """The bytes of two ranks for 100,000 coordinates: 2(M-1)/M times the bits of each."""
    results = {r.name: r for r in run_locally(100_000, 2, repeats=2)}
    assert tuple(results) == NAMES
    assert all(len(r.seconds) == 2 and r.best > 0 and r.interface_bytes is None for r in results.values())
    plain = results["fp32"].bytes_sent
    assert plain == 4 * 100_000
    assert results["fp16"].bytes_sent == results["bf16"].bytes_sent == plain // 2
    assert results["power-sgd"].bytes_sent < plain / 100
    assert plain / results["signsgd"].bytes_sent == pytest.approx(32, rel=0.05)
    assert plain / results["dropsignsgd"].bytes_sent == pytest.approx(80, rel=0.1)
    assert "against fp32" in report.table([*results.values()])


def test_what_a_result_is_compared_with_remembers_earlier_steps() -> None:
    gradients = torch.stack([gradient(rank, 200) for rank in range(3)])
    directions = [_simulated("dropsignsgd", gradients, steps) for steps in (1, 2)]
    assert all(bool(d.any()) for d in directions) and not torch.equal(*directions)


def test_tables_errors_and_plot_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "spawn", lambda fn, ranks, d: [dict.fromkeys(report.ALGORITHMS, plan.Work(0.0, 0.0))])
    row = vars(Result("fp32", [2.0, 1.0], 150, 160)), vars(Result("signsgd", [0.04], 5, 6))
    for link in ("10mbit", "1gbit", "unshaped"):
        about = {"link": link, "params": 2_000_000, "ranks": 4, "results": row}
        (tmp_path / f"{link}.json").write_text(json.dumps(about))
    monkeypatch.setattr(sys, "argv", ["report", str(tmp_path)])
    report.main()
    shown = capsys.readouterr().out
    assert "25.0x" in shown and shown.count("The model against the measurement") == 2
    assert (tmp_path / "links.png").stat().st_size > 10_000
