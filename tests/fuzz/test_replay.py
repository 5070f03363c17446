"""Some hundred inputs for each parser of bytes from peers, the same ones each time; more of them by `tests.fuzz`."""

import logging

import pytest

from tests.fuzz import members, parsers
from tests.fuzz.mutations import mutated
from tests.fuzz.target import Target

TARGETS = {target.name: target for target in (*parsers.TARGETS, *members.TARGETS)}

NEVER_REFUSE = {"small parsers", "names of processes", "torchft greetings", *members.ROUNDS}
"""Whatever comes is taken, or counted as somebody's fault."""


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "gradvote.elastic")


@pytest.mark.parametrize("name", TARGETS)
def test_a_parser_reads_or_refuses_within_its_means(name: str) -> None:
    target: Target = TARGETS[name]
    assert all(target.accepts(seed) for seed in target.seeds)
    inputs = [b"", b"\0" * 100, b"\xff" * 100, *mutated(target.seeds, 150)]
    refused = sum(not target.accepts(data) for data in inputs)
    assert refused or name in NEVER_REFUSE, "no input was refused: the mutator does not reach this parser"
    for data in inputs[::10]:
        assert target.costs(data) <= target.cap(data), f"{len(data)} bytes cost too much"
