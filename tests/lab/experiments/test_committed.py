"""The page in the repository is what its records say, and no statement on it can be had by doing nothing."""

from pathlib import Path

import pytest

from gradvote.lab.experiments import session
from gradvote.lab.experiments.claim import SCALES, Scale
from gradvote.lab.experiments.claims import names
from gradvote.lab.experiments.costs import cost_of
from gradvote.lab.experiments.document import row
from gradvote.lab.experiments.findings import key_of

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "reproductions.md").read_text(encoding="utf-8")
FILES = {
    (name, scale): file
    for name in names()
    for scale in SCALES
    if (file := DOCS / "figures" / f"{key_of(name, scale)}.jsonl").is_file()
}


@pytest.mark.parametrize(("name", "scale"), FILES)
def test_verdicts_follow_from_the_records_and_fail_for_nulls(name: str, scale: Scale) -> None:
    finding = session.committed(name, scale, DOCS)
    if finding is None:
        assert scale != "quick", "cells without a record"
        there = len(session.exported(name, scale, DOCS))
        cost = cost_of(name, scale)
        assert f"| {there} of {cost.choosing + cost.judging} |" in PAGE
        return
    rows = [row(finding, verdict) for verdict in finding.verdicts]
    assert all(line in PAGE for line in rows)
    for verdict, refused in zip(finding.verdicts, finding.refused, strict=True):
        assert refused or finding.claim.sees(verdict.statement), f"nothing fails '{verdict.statement}'"


def test_the_page_tells_of_every_claim_and_its_rows_are_short() -> None:
    shown = {name for name, _ in FILES}
    assert shown and all(f"`gradvote reproduce {name}`" in PAGE for name in set(names()) - shown)
    assert max(map(len, PAGE[: PAGE.index("<a id=")].splitlines())) < 250
