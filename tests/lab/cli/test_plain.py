"""A terminal that does not take all characters."""

import io
import sys

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn
from rich.table import Table

from gradvote.lab import cli
from gradvote.lab.cli.listing import KINDS
from gradvote.lab.cli.plain import plain_characters, spelled
from gradvote.lab.files import is_page


@pytest.fixture
def narrow(monkeypatch):
    """Make standard output what PYTHONIOENCODING makes it; within the test, as pytest sets it anew before."""

    def output(encoding):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True))
        return sys.stdout

    return output


def written(stream):
    return stream.buffer.getvalue().decode(stream.encoding)


ENCODINGS = pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp932"])


@ENCODINGS
def test_a_run_ends_with_its_report(encoding, narrow, tmp_path, monkeypatch):
    out = narrow(encoding)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "--steps", "3", "--name", "größer-\udcff"]) == 0
    folder = tmp_path / "runs/größer-\udcff"
    assert is_page(folder / "report.html") and "Median" in written(out) and "finished" in written(out)


@ENCODINGS
@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["train", "--help"], ["plan", "--help"]], ids=str)
def test_whatever_is_listed(encoding, narrow, arguments):
    out = narrow(encoding)
    assert cli.run(arguments) == 0
    assert len(written(out)) > 500
    if arguments == ["list"]:
        assert all(kind in written(out) for kind in KINDS)


@ENCODINGS
def test_tables_and_bars(encoding, narrow):
    out = narrow(encoding)
    plain_characters()
    console = Console(force_terminal=True)
    table = Table("Median–\nmean", "∞")
    table.add_row("‖e‖ ≤ 3·10⁻⁵ … β", "−½")
    console.print(table)
    with Progress(SpinnerColumn(), BarColumn(), console=console) as bar:
        bar.update(bar.add_task("x", total=2), completed=1)
    assert "-" in written(out)


def test_spellings():
    assert spelled("β, √2·x², −½, 3×10⁻⁵ … “é” → ∞") == 'beta, sqrt 2*x^2, -1/2, 3x10^-^5 ... "e" -> inf'
    assert spelled("\udcff 票") == "? ?"
