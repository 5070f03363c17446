"""The site of the docs has all that it should; `bash scripts/docs`, which also builds it, finds dead links."""

import inspect
import re

import gradvote
from tests.documents.reading import ROOT

DOCS = ROOT / "docs"
SHOWN_ELSEWHERE = {"bench", "cli", "experiments"}
"""Rooms of the lab that are used by their commands."""


def test_every_public_module_has_its_reference() -> None:
    text = "\n".join(file.read_text(encoding="utf-8") for file in (DOCS / "api").glob("*.md"))
    shown = set(re.findall(r"^::: gradvote\.(\S+)$", text, re.MULTILINE))
    public = {name for name in gradvote.__all__ if inspect.ismodule(getattr(gradvote, name))} - {"lab"}
    public |= {f"lab.{name}" for name in gradvote.lab.__all__ if name not in SHOWN_ELSEWHERE}
    assert public <= shown, f"Add to docs/api: {sorted(public - shown)}"
    for folder in re.findall(r"^<!-- parts: (\S+) -->$", text, re.MULTILINE):
        assert list((ROOT / folder).glob("[!_]*.py")), folder


def test_every_page_is_in_the_menu() -> None:
    menu = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    pages = {str(file.relative_to(DOCS)) for file in DOCS.rglob("*.md")}
    assert pages - menu == {page for page in pages if re.match(r"decisions/\d{3}-", page)}


def test_decisions_are_numbered_and_listed() -> None:
    index = (DOCS / "decisions" / "index.md").read_text(encoding="utf-8")
    files = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    assert len({file.name[:3] for file in files}) == len(files), "no number twice"
    for file in files:
        text = file.read_text(encoding="utf-8")
        title = re.match(r"# (\d{3})\. (.+)\n", text)
        assert title and title[1] == file.name[:3], file.name
        assert "\n## What\n" in text and "\n## Why\n" in text, f"{file.name} says what, and why"
        assert f"| {title[1]} | [{title[2]}]({file.name}) |" in index, f"The index lacks {file.name}"
    assert len(files) >= 50
