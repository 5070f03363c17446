"""The page that stands in the repository is what its records say, and no statement on it can be had by doing nothing."""

from pathlib import Path

import pytest

from gradvote.lab.experiments import session
from gradvote.lab.experiments.claims import names
from gradvote.lab.experiments.document import row

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "reproductions.md").read_text(encoding="utf-8")
FILES = {
    (name, scale): file
    for name in names()
    for scale in ("quick", "medium", "paper")
    if (file := DOCS / "figures" / f"{name}{'' if scale == 'quick' else f'-{scale}'}.jsonl").is_file()
}


@pytest.mark.parametrize(("name", "scale"), FILES)
def test_verdicts_follow_from_the_records_and_fail_for_nulls(name: str, scale: str) -> None:
    finding = session.committed(name, session.scale_named(scale), FILES[name, scale])
    assert finding is not None, "cells without a record"
    rows = [row(finding, verdict) for verdict in finding.verdicts]
    assert all(line in PAGE for line in rows)
    for verdict, refused in zip(finding.verdicts, finding.refused, strict=True):
        assert refused or finding.claim.sees(verdict.statement), f"nothing fails '{verdict.statement}'"


def test_the_page_has_every_claim_that_needs_no_foreign_data() -> None:
    assert {name for name, _ in FILES} >= set(names()) - {"dropsign-imagenet"}
    assert max(map(len, PAGE[: PAGE.index("<a id=")].splitlines())) < 250, "rows are short"
