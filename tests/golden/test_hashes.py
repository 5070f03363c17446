"""Every algorithm, on every engine and placement, gives what it gave."""

import pytest
import torch

from tests.golden import cases, engines, hashes


@pytest.fixture(scope="module")
def frozen() -> hashes.Frozen:
    return hashes.read()


def check(found: engines.Found, frozen: hashes.Frozen) -> None:
    lines = hashes.differences(found, frozen)
    assert not lines, "\n".join(lines)


def test_simulation(frozen: hashes.Frozen) -> None:
    check(engines.on_simulation(), frozen)
    assert not hashes.unknown([*cases.all_cases(), cases.KEPT], frozen)


@pytest.mark.parametrize("placement", engines.ELASTIC)
def test_elastic(placement: str, frozen: hashes.Frozen) -> None:
    check(engines.on_elastic(placement), frozen)


def test_torchft(frozen: hashes.Frozen) -> None:
    check(engines.on_torchft(), frozen)


def test_one_flipped_bit_is_named(frozen: hashes.Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    """The least bit of one number of one worker, in step 2: too little for a vote, but not for what it remembers."""
    drawn = cases.gradient

    def flipped(worker: int, step: int, index: int, shape: tuple[int, ...]) -> torch.Tensor | None:
        own = drawn(worker, step, index, shape)
        if own is not None and (worker, step, index) == (1, 2, 7):
            own.view(torch.int32)[16000] ^= 1
        return own

    monkeypatch.setattr(cases, "gradient", flipped)
    found = {("signum", "simulation"): engines.simulated(cases.all_cases()["signum"])}
    assert hashes.differences(found, frozen) == ["signum, simulation: momentum changed from step 2 on"]


def test_a_new_algorithm_asks_for_its_hashes(frozen: hashes.Frozen) -> None:
    [line] = hashes.differences({("new", "simulation"): {}}, frozen)
    assert "new has no frozen hashes yet: run `python tests/golden/freeze.py`" in line


def test_an_engine_of_its_own_is_not_frozen(frozen: hashes.Frozen) -> None:
    plain = frozen["signum"][""]
    other = {**plain, "parameters": ["0" * 16] * cases.STEPS}
    with pytest.raises(AssertionError, match="signum, ddp sharded: parameters as in no simulation"):
        hashes.frozen_from({("signum", "simulation"): plain, ("signum", "ddp sharded"): other})
