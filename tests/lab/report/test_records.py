import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from gradvote.lab.report import Run, load_run
from gradvote.lab.report.records import unique_labels

from .conftest import WriteRun, record


def test_a_healthy_run(make_run: Callable[..., Run]) -> None:
    run = make_run("healthy")
    assert (run.label, run.seed, run.num_workers, run.status) == ("healthy", 7, 3, "finished")
    assert run.class_histogram == ((5, 0), (0, 5), (2, 3))
    assert len(run.records) == 51
    assert run.total_bytes == 2 * 600 * 500
    assert run.final("test_accuracy") == 0.974
    assert run.final("never measured") is None
    assert json.loads(run.raw_records.splitlines()[0])["something_new"] == {"nested": [1, 2]}


def test_a_diverged_run_keeps_what_it_measured(diverged: Run) -> None:
    assert diverged.stopped_at == 30
    assert math.isnan(diverged.final("loss") or 0.0)
    assert diverged.final("median_mean_gap") == 0.2, "null is not measured: the last measured value counts"


def test_an_interrupted_run_was_where_it_says(make_run: Callable[..., Run]) -> None:
    """The last record may be of long before."""
    records = [record(0), record(100)]
    assert make_run("stopped", records, status="interrupted", step=155).stopped_at == 155
    assert make_run("older", records, status="interrupted").stopped_at == 100, "run.json of before has no step"
    assert make_run("done", records, status="finished", step=155).stopped_at == 100


def test_no_records_yet(make_run: Callable[..., Run], write_run: WriteRun) -> None:
    empty = make_run("empty", [], status="running")
    folder = write_run("none")
    (folder / "records.jsonl").unlink()
    for run in (empty, load_run(folder)):
        assert (run.records, run.total_bytes, run.last_step) == ((), None, None)


@pytest.mark.parametrize("tail", [b'{"step": 510, "lo', b'{"step": 510, "n": "\xc3', b"\0\0\0\0", b'{"step": 51'])
def test_a_truncated_last_line_is_left_out(write_run: WriteRun, tail: bytes) -> None:
    folder = write_run("killed")
    with (folder / "records.jsonl").open("ab") as file:
        file.write(tail)
    run = load_run(folder)
    assert run.last_step == 500
    assert run.raw_records.count("\n") == 51


def test_a_broken_line_in_the_middle_is_an_error(write_run: WriteRun) -> None:
    folder = write_run("broken")
    path = folder / "records.jsonl"
    path.write_text('{"step": 0}\n{"step"\n{"step": 20}\n')
    with pytest.raises(ValueError, match=r"Record 2 of .*records\.jsonl is not valid JSON"):
        load_run(folder)


def test_of_a_step_recorded_twice_the_later_counts(make_run: Callable[..., Run]) -> None:
    run = make_run("resumed", [record(0), record(10, loss=5.0), record(20, loss=6.0), record(10, loss=1.0)])
    assert [(r["step"], r["loss"]) for r in run.records] == [(0, 2.0), (10, 1.0), (20, 6.0)]


def test_nulls_text_and_records_without_a_step(make_run: Callable[..., Run]) -> None:
    run = make_run("odd", [{"step": None, "loss": 1.0}, {"step": 3, "loss": None, "note": "hot"}])
    assert run.records == ({"step": 3.0},)


def test_missing_keys_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    run = load_run(tmp_path)
    assert (run.label, run.status, run.seed) == (tmp_path.name, "running", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not a run folder: it holds no run.json"),
        ('{"name": ', "is not valid JSON"),
        ("[]", "holds a JSON list"),
        ('{"class_histogram": [[1, 2], [3]]}', "all of equal length"),
        ('{"class_histogram": [["many"]]}', "one list of counts per worker"),
        ('{"class_histogram": [3]}', "one list of counts per worker"),
    ],
)
def test_what_is_not_a_run_folder(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_run(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_labels_shared_by_runs_are_told_apart() -> None:
    runs = [Run("one", "sgd"), Run("two", "sgd"), Run("two", "sgd"), Run("three", "lion")]
    assert unique_labels(runs) == ["sgd (one)", "sgd (2)", "sgd (3)", "lion"]
