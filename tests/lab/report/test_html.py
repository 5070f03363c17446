import base64
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gradvote.errors import MissingExtra
from gradvote.lab.files import is_page
from gradvote.lab.report import Run, Scene
from gradvote.lab.report.html import write_report

HOSTILE = "<script>alert('x')</script>\"$\\frac{"
VOID = {"meta", "input", "br", "hr", "img", "link", "source", "wbr"}


class Page(HTMLParser):
    """Counts elements, checks that they nest, and keeps the attributes and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data if self.open and self.open[-1] not in ("style", "script") else ""

    def values(self, tag: str, name: str) -> list[str]:
        return [value for t, n, value in self.attributes if (t, n) == (tag, name)]


def _report(tmp_path: Path, *scenes: Scene) -> tuple[str, Page]:
    text = write_report(scenes, tmp_path / "out" / "report.html", "The title", "The intro").read_text("utf-8")
    return text, Page(text)


def test_the_numbers_are_in_the_table(tmp_path: Path, make_run: Callable[..., Run], diverged: Run) -> None:
    text, page = _report(tmp_path, Scene("Heading", "Words", (make_run("sgd"), diverged)))
    for words in ("The title", "The intro", "Heading", "Words", "0.974", "3.1e-02", "2.0e-01", "1.02", "600.0 kB"):
        assert words in page.words
    assert "diverged at step 30" in page.words
    assert "lost: The loss is not finite." in page.words
    assert "Algorithm('sgd')" in page.words
    assert "gradvote train --algorithm sgd" in page.words
    assert page.tags.count("tr") == 3
    assert text.count('class="number best"') == 0, "one finished run has nobody to be better than"


def test_the_best_of_a_column_stands_out(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    worse = make_run("worse", [{"step": 1, "test_accuracy": 0.5}])
    third = make_run("third", [{"step": 1, "test_accuracy": 0.25, "grad_norm": 0.001}])
    text, _ = _report(tmp_path, Scene("", "", (make_run("good"), worse, third)))
    assert re.findall(r'class="number best"><span class="value">([^<]+)<', text) == ["0.974", "1.0e-03"]


def test_one_file_without_a_network(tmp_path: Path, make_run: Callable[..., Run], diverged: Run) -> None:
    runs = (make_run("a"), make_run("big", class_histogram=[[i] * 10 for i in range(1000)]), diverged)
    text, page = _report(tmp_path, Scene("One", "", runs), Scene("Two", "", runs[:1]))
    assert not re.search(r"(https?|file|ftp)://|@import|//cdn", text)
    linked = page.values("a", "href") + page.values("image", "href") + page.values("use", "href")
    assert linked
    assert all(address.startswith(("#", "data:")) for address in linked)
    assert not {"link", "iframe", "img", "object", "embed"} & set(page.tags)
    assert page.values("script", "src") == []
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {address[1:] for address in linked if address.startswith("#")} <= set(ids)
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(ids)


def test_hostile_words_are_only_words(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    run = make_run(
        "hostile",
        label=HOSTILE,
        algorithm=HOSTILE,
        command=HOSTILE,
        message=HOSTILE,
        faults=HOSTILE,
        hardware=HOSTILE,
        class_names=[HOSTILE, "b"],
        status=HOSTILE,
        config={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
    )
    text, page = _report(tmp_path, Scene(HOSTILE, HOSTILE, (run,)))
    assert page.tags.count("script") == 1, "only our own"
    assert "<script>alert" not in text
    assert HOSTILE in page.words


@pytest.mark.parametrize("num_records", [0, 1])
def test_runs_with_hardly_anything(tmp_path: Path, make_run: Callable[..., Run], num_records: int) -> None:
    records = [{"step": 0, "loss": 2.3}][:num_records]
    run = make_run("young", records, status="running", class_histogram=[])
    _, page = _report(tmp_path, Scene("", "", (run,)))
    assert ("running (step 0)" if num_records else "running") in page.words
    assert "not measured" in page.words
    assert "—" in page.words


def test_twelve_runs(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    _, page = _report(tmp_path, Scene("", "", tuple(make_run(f"run-{i}") for i in range(12))))
    assert page.tags.count("tr") == 13
    assert page.tags.count("article") == 12


def test_the_raw_files_can_be_saved(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    run = make_run("raw", name="raw / run")
    _, page = _report(tmp_path, Scene("", "", (run,)))
    assert page.values("a", "download") == ["raw-run.records.jsonl", "raw-run.run.json"]
    contents = [base64.b64decode(link.partition(",")[2]).decode() for link in page.values("a", "href")]
    assert contents == [run.raw_records, run.raw_run]


def test_a_failed_write_leaves_the_old_report(
    tmp_path: Path, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene("", "", (make_run("a"),))
    out = write_report([scene], tmp_path / "report.html", "Old")
    assert is_page(out)

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report([scene], out, "New")
    assert "<title>Old</title>" in out.read_text("utf-8")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["report.html"]


@pytest.mark.parametrize("scenes", [[], [Scene("Empty", "", ())]])
def test_a_report_of_nothing_is_refused(tmp_path: Path, scenes: list[Scene]) -> None:
    with pytest.raises(ValueError, match="at least one run"):
        write_report(scenes, tmp_path / "report.html", "Nothing")
    assert list(tmp_path.iterdir()) == []


def test_without_jinja2_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "gradvote.lab.report.html")
    with pytest.raises(MissingExtra, match=r"gradvote\[report\]"):
        import gradvote.lab.report.html  # noqa: F401
