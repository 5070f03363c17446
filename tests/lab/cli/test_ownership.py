"""What a user has in a folder stays as it is, whatever command writes there; and one process writes there at a time."""

import pytest

from gradvote.lab.experiments.records import Store
from gradvote.lab.locks import FolderLock


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


THEIRS = {
    "train --out . --name proj": "proj/report.html",
    "train --out . --name proj --overwrite": "proj/records.jsonl",
    "train --out . --name proj --engine elastic": "proj/job.json",
    "train --out . --name proj --engine ddp": "proj/checkpoint-3.rank1.pt",
    "compare sgd signsgd --out . --name proj": "proj/report.html",
    "compare sgd signsgd --out . --name proj --overwrite": "proj/signsgd/checkpoint.pt",
    "demo --steps 1 --out proj": "proj/report.html",
    "demo --steps 2 --out proj ": "proj/faulty/sgd/records.jsonl",
    "reproduce figure-1 --out proj": "proj/report.html",
    "bench exchange --params 1k --ranks 2 --names fp32 --out proj/figures.json": "proj/figures.json",
    "bench kernels --quick --out proj": "proj/kernels.json",
    "bench kernels --quick --out proj ": "proj/kernels-sizes.png",
}


@pytest.mark.parametrize("line", THEIRS)
def test_it_is_refused_and_untouched(line, gradvote, tmp_path):
    (tmp_path / THEIRS[line]).parent.mkdir(parents=True)
    (tmp_path / THEIRS[line]).write_text("[]")
    (tmp_path / "proj/events").mkdir()
    (tmp_path / "proj/events/notes").write_text("mine")
    before = tree(tmp_path)
    found = gradvote(*line.split())
    assert found.status == 2 and f"{THEIRS[line]} is there" in found.text
    assert tree(tmp_path) == before


def test_a_report_replaces_reports_only(gradvote, tmp_path):
    assert gradvote("train").status == 0
    (tmp_path / "notes.html").write_text("mine")
    assert "is no report of gradvote's" in gradvote("report", "runs/signsgd", "--out", "notes.html").text
    assert [gradvote("report", "runs/signsgd", "--out", "r.html").status for _ in range(2)] == [0, 0]
    (tmp_path / "runs/signsgd/report.html").write_text("mine")
    for line in ("train --overwrite", "train --resume runs/signsgd --steps 4"):
        assert gradvote(*line.split()).status == 2
    assert (tmp_path / "runs/signsgd/report.html").read_text() == "mine"


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", "", "."])
@pytest.mark.parametrize("command", ["train", "compare sgd"])
def test_a_name_does_not_lead_out_of_the_folder(command, name, gradvote, tmp_path):
    found = gradvote(*command.split(), "--out", "here", "--name", name)
    assert found.status == 2 and "would lie outside of --out here" in found.text and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line",
    [
        "train --overwrite",
        "train --overwrite --engine ddp",
        "train --overwrite --engine elastic",
        "train --resume runs/signsgd --steps 9",
        "compare signsgd --out . --name runs --overwrite",
    ],
)
def test_a_folder_in_use_is_left_alone(line, gradvote, tmp_path):
    assert gradvote("train").status == 0
    other = FolderLock(tmp_path / "runs/signsgd")
    other.hold()
    before = tree(tmp_path)
    found = gradvote(*line.split())
    assert found.status == 2 and "runs/signsgd is being written to by process" in found.text
    assert tree(tmp_path) == before
    other.release()


def test_a_second_measurement_in_the_same_folder(gradvote, tmp_path):
    folder = tmp_path / "out/quick/figure-1"
    other = FolderLock(folder)
    other.hold()
    found = gradvote("reproduce", "figure-1", "--processes", "1", "--out", "out")
    assert found.status == 2 and "figure-1 is being written to by" in found.text
    other.release()


def test_measuring_afresh_forgets_records_alone(tmp_path):
    store = Store(tmp_path)
    record = store.path({"lr": 1.0})
    record.write_text("{}")
    (record.with_suffix("") / "run").mkdir(parents=True)
    (tmp_path / "notes.json").write_text("mine")
    store.forget()
    assert [p.name for p in tmp_path.iterdir()] == ["notes.json"]
