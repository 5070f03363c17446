"""What is written is JSON for any reader, and what is read may be anything."""

import json
import math

import pytest

from gradvote.lab.files import check_page, check_results, from_json, is_page, number, to_json, write_text
from gradvote.lab.report import load_run
from gradvote.lab.train.folder import RunFolder

ODD = {"step": 3, "loss": math.nan, "grad_norm": [math.inf, {"a": -math.inf}], "seconds": 1.5, "drift": None}


def strict(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_numbers_that_json_does_not_have_are_texts():
    found = strict(to_json(ODD))
    assert found == {**ODD, "loss": "NaN", "grad_norm": ["Infinity", {"a": "-Infinity"}]}
    assert math.isnan(number(found["loss"])) and number("-Infinity") == -math.inf
    assert number("hot") is None is number(None) and number(10**400) == math.inf == -number(-(10**400))


@pytest.mark.parametrize("line", ["[" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000, "9" * 5000, "{", ""])
def test_what_cannot_be_read_is_a_value_error(line):
    with pytest.raises(ValueError, match=r"nested too deeply|digits|Expecting"):
        from_json(line)


DEEP = '{"step": 6, "x": ' + "[" * 100_000 + "]" * 100_000 + "}"


def test_records_old_and_odd(tmp_path):
    """A bare NaN of an older version, numbers beyond a float, and a record nested without end."""
    place = RunFolder(tmp_path)
    place.describe({"config": {}, "num_parameters": 10**400, "class_histogram": [[10**400, 1e308]]})
    place.append({"step": 0, "loss": math.nan})
    assert strict(place.records.read_text()) == {"step": 0, "loss": "NaN"}
    with place.records.open("a") as file:
        file.write(
            '{"step": 1, "loss": NaN, "drift": -Infinity}\n{"step": 2, "loss": 1e400, "drift": 1%s}\n' % ("0" * 400)
        )
    run = load_run(tmp_path)
    assert [math.isnan(run.records[i]["loss"]) for i in (0, 1)] == [True, True]
    assert run.records[2] == {"step": 2.0, "loss": math.inf, "drift": math.inf}
    with place.records.open("a") as file:
        file.write(DEEP + "\n" + DEEP + "\n")
    with pytest.raises(ValueError, match=r"Record 4 of .* is not valid JSON \(It is nested too deeply"):
        load_run(tmp_path)
    place.forget_from(2)
    assert len(load_run(tmp_path).records) == 2


@pytest.mark.parametrize("text", [DEEP, '{"config": {"engine": %s}}' % ("[" * 100_000), "1" * 5000])
def test_a_recipe_without_end(text, tmp_path):
    (tmp_path / "run.json").write_text(text)
    assert RunFolder(tmp_path).described("status") is None
    with pytest.raises(ValueError, match=r"run\.json is not valid JSON"):
        load_run(tmp_path)


def test_only_what_is_ours_is_replaced(tmp_path):
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    check_page(page)
    check_results(figures, "seconds")
    for text in ('{"minutes": 1}', "[]", "NaN", "["):
        for path in (page, figures):
            path.write_text(text)
        with pytest.raises(ValueError, match="no report of gradvote's"):
            check_page(page)
        with pytest.raises(ValueError, match="holds no figures"):
            check_results(figures, "seconds")
    write_text(figures, '[{"seconds": 1}]')
    check_results(figures, "seconds")
    (tmp_path / "link.html").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="no report of gradvote's"):
        check_page(tmp_path / "link.html")
    assert not is_page(tmp_path) and sorted(p.name for p in tmp_path.iterdir()) == [
        "figures.json",
        "link.html",
        "page.html",
    ]
