"""`gradvote reproduce`."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gradvote.lab.cli import run
from gradvote.lab.experiments import session
from gradvote.lab.experiments.claim import Bench, Cell, Numbers, Scale
from gradvote.lab.experiments.claims import claim_named, figure_1, names

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    def cells(scale: Scale) -> list[Cell]:
        return [{"algorithm": a, "steps": 40} for a in ("signsgd", "mediansgd", "sgd")]

    short = replace(figure_1.CLAIM, cells=cells)
    monkeypatch.setattr(session, "claim_named", lambda name: short if name == "figure-1" else claim_named(name))


def test_the_list_names_every_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reproduce", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in names())


@pytest.mark.usefixtures("small")
def test_a_claim_leaves_a_page_records_and_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, docs = tmp_path / "out", tmp_path / "docs"
    assert run(["reproduce", "figure-1", "--processes", "1", "--out", str(out), "--docs", str(docs)]) == 0
    assert "not reproduced" in capsys.readouterr().out
    assert len(list((out / "quick" / "figure-1").glob("*.json"))) == 3
    assert (out / "report.html").is_file() and (docs / "reproductions.md").is_file()


@pytest.mark.usefixtures("small")
def test_what_stands_in_the_document_already_stays(tmp_path: Path) -> None:
    """A claim that is measured again replaces its own part alone."""
    docs = tmp_path / "docs"
    (docs / "figures").mkdir(parents=True)
    shutil.copy(DOCS / "figures" / "adam-limit.jsonl", docs / "figures")
    assert run(["reproduce", "figure-1", "--processes", "1", "--out", str(tmp_path / "out"), "--docs", str(docs)]) == 0
    text = (docs / "reproductions.md").read_text(encoding="utf-8")
    assert "[adam-limit](#adam-limit)" in text and "[figure-1](#figure-1)" in text


@pytest.mark.usefixtures("small")
def test_another_machine_goes_on_from_a_part_of_the_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped before its last cell, a claim leaves the others in --docs; --from takes them as they are."""
    measured: list[str] = []

    def measure(cell: Cell, bench: Bench) -> Numbers:
        if len(measured) == 2:
            measured.append("stopped")
            raise KeyboardInterrupt
        measured.append(cell["algorithm"])
        return figure_1.CLAIM.measure(cell, bench)

    watched = replace(session.claim_named("figure-1"), measure=measure)
    monkeypatch.setattr(session, "claim_named", lambda name: watched)
    docs, command = tmp_path / "docs", ["reproduce", "figure-1", "--processes", "1"]
    assert run([*command, "--out", str(tmp_path / "one"), "--docs", str(docs)]) == 130
    file = docs / "figures" / "figure-1.jsonl"
    assert len(file.read_text().splitlines()) == 3 and not (docs / "reproductions.md").exists()
    before = session.exported("figure-1", "quick", docs)
    assert run([*command, "--out", str(tmp_path / "two"), "--docs", str(docs), "--from", str(docs)]) == 0
    assert measured == ["signsgd", "mediansgd", "stopped", "sgd"]
    after = session.exported("figure-1", "quick", docs)
    assert len(after) == 3 and all(after[key].numbers == record.numbers for key, record in before.items())

    file.write_text("no records")
    assert run([*command, "--out", str(tmp_path / "three"), "--from", str(docs)]) == 2
    assert "holds no records" in capsys.readouterr().err
    assert run([*command, "--out", str(tmp_path / "three"), "--from", str(tmp_path / "doc")]) == 2
    assert "no folder figures" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["adversaries", "figure-2"])
def test_what_stands_in_the_document_is_never_made_less(name: str, tmp_path: Path) -> None:
    """A choice that was added to a claim, or one record that is missing, costs none of those that were judged."""
    docs, scale = tmp_path / "docs", session.scale_named("quick")
    (docs / "figures").mkdir(parents=True)
    file = docs / "figures" / f"{name}.jsonl"
    head, first, *others = (DOCS / "figures" / file.name).read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([head, *others]), encoding="utf-8")
    assert session.keep_part(name, scale, tmp_path / "out", docs) == 0
    assert len(session.exported(name, scale, docs)) == len(others)

    [missing] = session.imported(head + first).values()
    session.Store(tmp_path / "out" / scale / name).save(missing)
    assert session.keep_part(name, scale, tmp_path / "out", docs) == 1
    assert len(session.exported(name, scale, docs)) == len(others) + 1
    assert session.committed(name, scale, docs) is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reproduce", "figure-9"], "Did you mean"),
        (["reproduce", "figure-1", "--scale", "quik"], "Did you mean 'quick'"),
        (["reproduce", "figure-1", "--scale", "medium"], "trains nothing"),
        (["reproduce", "figure-1", "--threads", "0"], "threads must be at least 1"),
        (["reproduce", "figure-1", "--fresh", "--from", "docs"], "Leave one of them out"),
    ],
)
def test_mistakes_end_with_a_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert message in capsys.readouterr().err
