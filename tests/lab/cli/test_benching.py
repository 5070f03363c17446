"""`gradvote bench kernels`: figures, pictures and records of checked results."""

import json
from pathlib import Path

import pytest

from gradvote.lab.bench import cases
from gradvote.lab.bench import kernels as jobs
from tests.lab.cli.conftest import Run


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs of one size, quick ones."""
    monkeypatch.setattr(jobs, "_table", lambda model, rows: iter([jobs._job("table", cases.pack, 10_000)]))
    monkeypatch.setattr(jobs, "WORKERS", range(3, 5))


def test_kernels_writes_records_and_pictures(gradvote: Run, few: None, tmp_path: Path) -> None:
    result = gradvote("bench", "kernels", "--sizes", "1k", "2000", "--quick", "--threads", "1", "--out", "bench")
    assert result.status == 0, result.text
    assert "torch.sum" in result.text
    record = json.loads((tmp_path / "bench" / "kernels.json").read_text())
    assert {row["d"] for row in record["results"] if row["part"] == "sizes"} == {1000, 2000}
    assert record["machine"]["threads"] == 1
    for name in ("kernels-sizes.png", "kernels-workers.png"):
        assert (tmp_path / "bench" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("option", "value"), [("--threads", "0"), ("--sizes", "0"), ("--sizes", "many")])
def test_kernels_refuses(gradvote: Run, option: str, value: str, tmp_path: Path) -> None:
    result = gradvote("bench", "kernels", option, value, "--out", "bench")
    assert result.status == 2
    assert value in result.text
    assert not (tmp_path / "bench" / "kernels.json").exists()
