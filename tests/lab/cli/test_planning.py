"""`gradvote plan`."""

from dataclasses import replace

import pytest

from gradvote import algorithms
from gradvote.aggregators import Krum
from gradvote.lab import plan
from gradvote.lab.cli import planning, run
from gradvote.lab.memory import elastic_memory
from gradvote.lab.plan import bits_of


def test_slow_links_pay_and_fast_ones_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["plan", "signsgd", "--params", "10k", "--workers", "4", "--bandwidth"]
    assert run([*common, "1kbit"]) == 0
    out = capsys.readouterr().out
    assert "times less than" in out and "GB of memory beside parameters and gradients" in out
    assert "member of an elastic run" in out
    assert "10,000 parameters, 4 workers, 1 kbit/s each way, latency 0 ms" in out, "what was read, units and all"
    assert run([*common, "1000Gbit", "--compute", "10s"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "does not pay" in out and "Recommended: averaging in float32 at every step" in out


def test_an_unknown_algorithm_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plan", "signsdg", "--params", "10k", "--workers", "4", "--bandwidth", "1Mbit"]) == 2
    assert "Did you mean 'signsgd'" in capsys.readouterr().err


def test_memory_of_an_elastic_member_stands_where_such_a_run_takes_the_algorithm() -> None:
    """Rules of whole vectors are refused where these are cut into shards."""
    plain = algorithms.create("signsgd")
    made = {"signsgd": plain, "krum": replace(algorithms.create("sgd"), aggregate=Krum(1))}
    found = planning._of_members(made, 10_000_000, 4)
    assert found.keys() == {("signsgd", "replicated"), ("signsgd", "sharded"), ("krum", "replicated")}
    for place in ("replicated", "sharded"):
        assert found["signsgd", place] == elastic_memory(plain, 10_000_000, 4, bits_of(plain), placement=place)


def test_algorithms_have_their_options(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SAMPLE", 1 << 14)
    specs = ["dropsignsgd:granularity=64,lr=0.1", "dropsignsgd:keep_up=0.01"]
    common = ["--params", "10k", "--workers", "4", "--bandwidth", "1Mbit"]
    assert run(["plan", *specs, *common]) == 0
    assert all(spec in capsys.readouterr().out for spec in specs[1:])
    assert run(["plan", "dropsignsgd:granulrity=64", *common]) == 2
    assert "Did you mean 'granularity'" in capsys.readouterr().err
