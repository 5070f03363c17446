"""benchmarks/scripts: diffs onto scripts of others. What can be checked without those scripts."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks" / "scripts"
sys.path.insert(0, str(FOLDER))

import diffs  # noqa: E402  # beside the runner
from case import METHODS, load  # noqa: E402
from run import ROOT10, Results, main, next_factor, rates  # noqa: E402
from table import _images, _judged  # noqa: E402

sys.path.remove(str(FOLDER))  # its folders have the names of packages that may be missing
CASES = sorted(path.parent for path in FOLDER.glob("*/script.toml"))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_a_script_names_its_commit_and_its_files(case: Path) -> None:
    about = tomllib.loads((case / "script.toml").read_text())
    assert re.fullmatch(r"https://github\.com/[\w-]+/[\w-]+", about["repository"])
    assert re.fullmatch(r"[0-9a-f]{40}", about["commit"])
    assert about["licence"] in {"MIT", "BSD-3-Clause", "Apache-2.0"}
    assert all(re.fullmatch(r"[0-9a-f]{40}", blob) for blob in about["files"].values())
    for path in case.glob("*.diff"):
        assert path.stem in {"here", "gradvote", *METHODS}
        assert set(diffs.parse(path.read_text())) <= set(about["files"]), "a diff of a file that is not copied"


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_the_lines_of_gradvote_are_python_that_names_an_algorithm_once(case: Path) -> None:
    for method in METHODS:
        assert_python(load(case.name).votes_of(method))


def assert_python(text: str) -> None:
    hunks = [hunk for found in diffs.parse(text).values() for hunk in found]
    added = [line for hunk in hunks for line in hunk.added]
    assert len(re.findall(r"gradvote\.algorithms\.signum\b", "\n".join(added))) == 1, "run.py puts the others there"
    assert diffs.size(text)[0] == sum(bool(line.strip()) for line in added) <= 12
    whole = [line for line in added if line.strip().startswith(("import", "from", "algorithm", "vote", "optimizer"))]
    for line in whole:
        if line.count("(") == line.count(")") and line.count("[") == line.count("]") and not line.endswith(","):
            ast.parse(line.strip())


def test_a_diff_is_applied_exactly_or_not_at_all() -> None:
    old, new = "a\nb\nc\nd\n", "a\nB\nB2\nd\ne\n"
    text = "--- a/x.py\n+++ b/x.py\n@@ -2,2 +2,2 @@\n-b\n-c\n+B\n+B2\n@@ -4,0 +5 @@\n+e\n"
    (hunks,) = diffs.parse(text).values()
    assert diffs.apply(hunks, old) == new
    assert diffs.size(text) == (3, 2)
    with pytest.raises(ValueError, match="Line 2 should be"):
        diffs.apply(hunks, "a\nx\nc\nd\n")
    with pytest.raises(ValueError, match="shorter than it says"):
        diffs.parse(text.rsplit("+e", 1)[0])
    with pytest.raises(ValueError, match="Line 1 is of no hunk"):
        diffs.parse("b\n")


def test_a_name_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "torchf"])
    with pytest.raises(SystemExit):
        main()
    assert "there is no script torchf; the names are accelerate, dcgan" in capsys.readouterr().err


def test_the_same_number_of_rates_and_the_last_one_beside_the_best() -> None:
    assert [next_factor([], 1.0), next_factor([1.0], 1.0), next_factor([1.0, 1 / ROOT10], 1.0)] == [
        1.0,
        1 / ROOT10,
        ROOT10,
    ]
    three = [1.0, 1 / ROOT10, ROOT10]
    assert next_factor(three, ROOT10) == pytest.approx(10)
    assert next_factor(three, 1 / ROOT10) == pytest.approx(0.1)
    assert next_factor(three, 1.0) == pytest.approx(ROOT10**0.5)
    assert next_factor([*three, ROOT10**0.5], 1.0) == pytest.approx(ROOT10**-0.5)


def test_a_run_that_failed_is_never_the_best_and_a_miss_is_shown() -> None:
    results = Results("no such script")
    results.rows = [
        {"method": "plain", "factor": 1.0, "seed": 0, "failed": "why"},
        {"method": "plain", "factor": 2.0, "seed": 0, "valid": float("nan")},
        {"method": "plain", "factor": 3.0, "seed": 0, "valid": 9.0},
        {"method": "plain", "factor": 4.0, "seed": 1, "valid": 1.0},
    ]
    assert results.best("plain") == 3.0
    assert (_judged(1.05, 1.05), _judged(1.051, 1.05)) == ("+5.0 %", "**+5.1 %**")


def test_the_two_best_go_on_and_the_seeds_that_both_have_choose() -> None:
    results = Results("no such script")
    losses = {(1.0, 0): 1.0, (2.0, 0): 1.1, (3.0, 0): 1.2, (1.0, 1): 2.0, (2.0, 1): 1.5, (1.0, 2): 0.1, (3.0, 1): 0.0}
    results.rows = [{"method": "plain", "factor": f, "seed": s, "valid": v} for (f, s), v in losses.items()]
    assert results.finalists("plain") == [1.0, 2.0] and results.best("plain") == 1.0
    assert results.chosen("plain") == 2.0  # seed 2 has run the other one only
    results.rows = [row for row in results.rows if row["factor"] != 2.0 or row["seed"] == 0]
    assert results.chosen("plain") == 1.0 and results.chosen("signum") is None


def test_a_factor_counts_once_whether_the_script_or_suggest_lr_has_it() -> None:
    assert rates(load("muon"), "signum", 0.1, 0.5) == (0.05, 1.0)
    assert rates(load("nanogpt"), "signum", 0.1, 0.5) == (0.1, 0.5)
    assert rates(load("muon"), "plain", 0.1, 0.5) == rates(load("nanogpt"), "plain", 0.1, 0.5) == (0.1, 1.0)


def test_a_file_of_another_commit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nanoGPT").mkdir()
    (tmp_path / "nanoGPT" / "train.py").write_text("print()\n")
    with pytest.raises(
        SystemExit, match=r"is not that of commit 3adf61e.*git clone https://github.com/karpathy/nanoGPT"
    ):
        load("nanogpt").check(tmp_path)
    with pytest.raises(SystemExit, match="is missing"):
        load("muon").check(tmp_path)


def test_moments_of_plain_are_held_against_those_of_its_other_seeds() -> None:
    rows = [{"moments": m, "mean": 0.0, "std": 1.0, "test": 0.5} for m in ([3.0, 4.0], [6.0, 8.0])]
    reference = [row["moments"] for row in rows]
    assert _images(rows, reference, own=True).endswith("0.75 [0.5, 1]")
    assert _images(rows[:1], reference, own=False).endswith("0.333")
    assert _images(rows[:1], reference[:1], own=True).endswith("nan")
