"""A run's folder on disk."""

import json
import threading

import pytest

from gradvote.train.folder import RunFolder


@pytest.fixture
def place(tmp_path):
    return RunFolder(tmp_path / "a" / "run")


def steps(place):
    return [json.loads(line)["step"] for line in place.records.read_text().splitlines()]


def test_checking_writes_nothing(place):
    place.check(overwrite=False)
    assert not place.path.exists() and not place.path.parent.exists()


@pytest.mark.parametrize("name", ["run.json", "records.jsonl", "checkpoint.pt"])
def test_any_of_its_files_is_a_run(place, name):
    place.create()
    (place.path / name).write_text("")
    with pytest.raises(ValueError, match=r"There is a run in .*Choose another --name, .* --resume .* --overwrite"):
        place.check(overwrite=False)
    place.check(overwrite=True)


def test_replacing_forgets_all_of_the_old_run_and_nothing_else(place):
    place.create()
    place.events.mkdir()
    for name in ("run.json", "records.jsonl", "checkpoint.pt", "report.html", "events/scalars", "mine.txt"):
        (place.path / name).write_text("old")
    place.create()
    assert [p.name for p in place.path.iterdir()] == ["mine.txt"]


def test_description(place):
    place.create()
    place.describe({"label": "ä", "steps": 3})
    place.describe({"label": "ö", "steps": 3})
    assert place.described("label") == "ö"
    assert place.described("steps") is None is place.described("nothing")  # a number is no text
    assert [p.name for p in place.path.iterdir()] == ["run.json"]


@pytest.mark.parametrize("text", ["", "[]", "nonsense", '{"label": 3}'])
def test_a_spoilt_description(place, text):
    place.create()
    place.about.write_text(text)
    assert place.described("label") is None


def test_records_are_forgotten_from_a_step_on_with_whatever_is_broken(place):
    place.create()
    place.forget_from(3)
    assert not place.records.exists()
    for step in (0, 2, 4, 6):
        place.append({"step": step, "loss": float("nan")})
    with place.records.open("a") as file:
        file.write('{"step": 1, "lo')  # the process was killed here
    place.forget_from(4)
    assert steps(place) == [0, 2]
    place.append({"step": 4})
    assert steps(place) == [0, 2, 4]
    place.forget_from(0)
    assert steps(place) == []


def test_reading_a_description_while_it_is_written(place):
    """It is replaced as a whole: a reader never sees half of it."""
    place.create()
    about = {"label": "x" * 100_000}
    place.describe(about)
    writer = threading.Thread(target=lambda: [place.describe(about) for _ in range(50)])
    writer.start()
    while writer.is_alive():
        assert place.described("label") == about["label"]
    writer.join()
