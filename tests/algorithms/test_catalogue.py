"""The table of DESIGN.md: what each algorithm is made of."""

from pathlib import Path

import pytest

from gradvote import algorithms
from gradvote.aggregators import MajorityVote, Mean, Median
from gradvote.codecs import Chain, Dense, ErrorFeedback, Masked, Sign, chain
from gradvote.core import Algorithm, Codec, Context, Payload, Plane, State
from gradvote.discovery import Parts
from gradvote.transforms import Adam, Ema, LionMomentum, Momentum, Noise, OwnNoise, Relative

SCALED = ErrorFeedback(Sign("l1"))


def masked(keep: float) -> ErrorFeedback:
    return ErrorFeedback(Masked(keep, Sign(6e-3)), track_lr=False)


STILL = Sign(still=True)
TABLE = {
    "sgd": Algorithm(Dense(), Mean(), Dense()),
    "mediansgd": Algorithm(Dense(), Median(), Dense()),
    "signsgd": Algorithm(STILL, MajorityVote(still=True), STILL),
    "signum": Algorithm(chain(Ema(0.9), STILL), MajorityVote(still=True), STILL),
    "ef-signsgd": Algorithm(SCALED, Mean(), Dense(), None),
    "dist-ef-adam": Algorithm(chain(Adam(0.8, 0.999), SCALED), Mean(), SCALED, None),
    "dist-ef-sgdm": Algorithm(chain(Momentum(0.9, nesterov=True), SCALED), Mean(), SCALED, None),
    "dropsignsgd": Algorithm(chain(Momentum(0.9, nesterov=True), masked(0.3)), Mean(), masked(0.5)),
    "lion": Algorithm(chain(LionMomentum(0.9, 0.99), STILL), MajorityVote(still=True), STILL),
    "flexcompress": Algorithm(
        chain(Momentum(0.9, nesterov=True), ErrorFeedback(Masked(0.3, Sign("l1")))), Mean(), SCALED, None
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_defaults_are_the_papers(name: str) -> None:
    assert algorithms.create(name) == TABLE[name]


@pytest.mark.parametrize("name", algorithms.names())
def test_noise_on_the_gradient_comes_first(name: str) -> None:
    own = {"still": False} if "still" in algorithms.options(name) else {}
    plain, noisy = algorithms.create(name, **own), algorithms.create(f"noisy-{name}", noise_std=0.5, noise="laplace")
    assert noisy.up == chain(Noise(0.5, "laplace"), without_own_noise(plain.up))
    assert (noisy.aggregate, noisy.down, noisy.block_size) == (plain.aggregate, plain.down, plain.block_size)


def without_own_noise(codec: Codec) -> Codec:
    """Of an algorithm that has noise itself, what is left where other noise takes its place."""
    if not isinstance(codec, Chain):
        return codec
    return chain(*(t for t in codec.transforms if not isinstance(t, OwnNoise)), codec.codec)


def test_noise_of_an_algorithm_s_own_is_replaced() -> None:
    assert algorithms.create("noisy-z-signfedavg").up != algorithms.create("z-signfedavg").up
    assert repr(algorithms.create("noisy-z-signfedavg").up).count("Noise(") == 1


def test_noise_at_the_vote_comes_last() -> None:
    noise = Noise(Relative())
    signum = algorithms.create("noisy-signum", noise_std=Relative(), position="vote")
    assert signum.up == chain(Ema(0.9), noise, STILL)
    drop = algorithms.create("noisy-dropsignsgd", noise_std=Relative(), position="vote")
    inner = ErrorFeedback(chain(noise, Masked(0.3, Sign(6e-3))), track_lr=False)
    assert drop.up == chain(Momentum(0.9, nesterov=True), inner)
    assert algorithms.create("noisy-sgd", noise_std=0.1, position="vote").up == chain(Noise(0.1), Dense())


def test_noise_before_a_codec_of_ones_own() -> None:
    class Own(Codec):
        def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
            return ()

        def encode(self, x, state: State, ctx: Context) -> tuple[Payload, State]:  # type: ignore[no-untyped-def]
            raise NotImplementedError

        def decode(self, payload: Payload, ctx: Context, n: int):  # type: ignore[no-untyped-def]
            raise NotImplementedError

    own = Own()
    for position in ("gradient", "vote"):
        found = algorithms.noisy(Algorithm(own, Mean(), own), 0.1, position=position)  # type: ignore[arg-type]
        assert found.up == chain(Noise(0.1), own)


def test_zero_and_tie_rules_go_together() -> None:
    for zero in ("random", "positive", "abstain"):
        for name in ("signsgd", "signum", "lion"):
            algorithm = algorithms.create(name, zero=zero)
            assert algorithm.down == Sign(zero=zero, still=True)  # type: ignore[arg-type]
            assert algorithm.aggregate == MajorityVote(zero, still=True)  # type: ignore[arg-type]
            without = algorithms.create(name, zero=zero, still=False)
            assert (without.down, without.aggregate) == (Sign(zero=zero), MajorityVote(zero))  # type: ignore[arg-type]


def test_noise_leaves_no_zeros_but_where_there_is_none() -> None:
    """Units of zeros cost bits only where there can be any."""
    for name in ("signsgd", "signum", "lion"):
        for position in ("gradient", "vote"):
            assert "still=True" not in repr(algorithms.create(f"noisy-{name}", noise_std=0.1, position=position))
            for silent in (0.0, Relative()):
                assert "still=True" in repr(algorithms.create(f"noisy-{name}", noise_std=silent, position=position))


def test_the_docs_have_the_table_that_the_files_make() -> None:
    """`gradvote list algorithms --table` prints it."""
    own = [line for line in algorithms.table().splitlines() if line.split("`")[1:2] != ["ef21"]]
    assert "\n".join(own) in (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text(encoding="utf-8")


def test_what_an_algorithm_does_not_say_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "mute.py").write_text('"""Mute."""\nLR = 1\nBITS = (1, 1)\n', encoding="utf-8")
    monkeypatch.setattr(algorithms, "_PARTS", Parts("algorithms", "algorithm", "mutes", [str(tmp_path)]))
    with pytest.raises(ValueError, match=r"'mute' does not say its WORDS: add a line such as WORDS = .* to mute.py"):
        algorithms.facts("mute")
