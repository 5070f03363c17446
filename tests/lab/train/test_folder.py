"""A run's folder on disk."""

import json
import threading

import pytest

from gradvote.lab.files import PAGE_MARK
from gradvote.lab.train.folder import OF_ENGINE, RunFolder


@pytest.fixture
def place(tmp_path):
    return RunFolder(tmp_path / "a" / "run")


def steps(place):
    return [json.loads(line)["step"] for line in place.records.read_text().splitlines()]


def test_checking_writes_nothing(place):
    place.check(overwrite=False)
    assert not place.path.exists() and not place.path.parent.exists()


RUN = {"config": {"engine": "simulation"}}


def described(place, **about):
    place.create()
    place.describe({**RUN, **about})
    place.release()
    return place


def test_a_run_is_replaced_only_when_asked(place):
    described(place)
    with pytest.raises(ValueError, match=r"There is a run in .*Choose another --name, .* --resume .* --overwrite"):
        place.check(overwrite=False)
    place.check(overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("run.json", ""),
        ("records.jsonl", ""),
        ("checkpoint.pt", ""),
        ("report.html", ""),
        ("events/events.out.tfevents.1", ""),
        ("job.json", "elastic"),
        ("worker-0.pt", "elastic"),
        ("checkpoint-3.rank0.pt", "ddp"),
    ],
)
def test_a_file_that_no_run_has_made_is_nobody_s_to_replace(place, name, engine, overwrite):
    theirs = place.path / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    for attempt in (place.check, place.create):
        with pytest.raises(ValueError, match=rf"{theirs} is there, which no run of gradvote has made"):
            attempt(overwrite, engine)
    assert [p for p in place.path.rglob("*") if p.is_file()] == [theirs] and theirs.read_text() == "mine"
    if engine:
        place.check(overwrite=False)  # another engine has no file of that name


def test_replacing_forgets_all_of_the_old_run_and_nothing_else(place):
    described(place)
    (place.path / "events").mkdir()
    theirs = {"mine.txt", "job.json", "events/notes", "worker-0.pt"}  # no run on the simulation writes the last
    for name in {"records.jsonl", "checkpoint.pt", "events/events.out.tfevents.1"} | theirs:
        (place.path / name).write_text("old")
    place.report.write_text(PAGE_MARK)
    place.create(overwrite=True)
    place.release()
    assert {str(p.relative_to(place.path)) for p in place.path.rglob("*") if p.is_file()} == theirs


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("engine", OF_ENGINE)
def test_the_files_of_an_engine_go_with_its_run(engine, listed, place):
    """Also where an older version, or a worker in a process of its own, has written the recipe without a list."""
    place.create(engine=engine)
    place.claimed = place.claimed if listed else None
    place.describe({"config": {"engine": engine}})
    place.release()
    for name in (*OF_ENGINE[engine], "mine.pt"):
        (place.path / name.replace("*", "1")).write_text("old")
    place.create(overwrite=True)
    place.release()
    assert [p.name for p in place.path.iterdir()] == ["mine.pt"]


def test_a_page_of_the_user_s_in_the_folder_of_a_run_stays(place):
    described(place)
    place.report.write_text("mine")
    with pytest.raises(ValueError, match=r"report\.html is there, which no run"):
        place.create(overwrite=True)
    assert place.about.is_file() and place.report.read_text() == "mine"


def test_what_a_recipe_claims_beyond_a_run_s_names_is_not_believed(place):
    described(place)
    (place.path.parent / "precious").write_text("mine")
    about = json.loads(place.about.read_text())
    place.about.write_text(json.dumps({**about, "files": ["../precious", "run.json", "*"]}))
    (place.path / "mine.txt").write_text("mine")
    RunFolder(place.path).create(overwrite=True)
    assert (place.path.parent / "precious").exists() and (place.path / "mine.txt").exists()


def test_description(place):
    place.create()
    place.describe({"label": "ä", "steps": 3})
    place.describe({"label": "ö", "steps": 3})
    assert place.described("label") == "ö"
    assert place.described("steps") is None is place.described("nothing")  # a number is no text
    place.release()
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
