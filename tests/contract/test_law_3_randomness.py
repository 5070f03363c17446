"""Law 3: randomness is a pure function of (key, stream, step, attempt, block, sender, coordinate)."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gradvote import kernels
from gradvote.codecs import Masked, Sign, chain
from gradvote.codecs.sign import Zero
from gradvote.core import SERVER, Algorithm, Codec, Context
from gradvote.kernels.quantiles import QUANTILES
from gradvote.rng import PRIVATE, Stream, draw
from gradvote.transforms import Noise, Relative
from tests.contract.parts import ALGORITHMS, CODECS, context, flat, same, same_payload, senders, updates

N = 200
CHANGES = {
    "seed": {"seed": 8},
    "step": {"step": 5},
    "attempt": {"attempt": 1},
    "sender": {"sender": 1},
    "block": {"block": torch.arange(20, 23)},
}


def bits_of(ctx: Context, stream: Stream) -> Tensor:
    return kernels.random_bits(draw(ctx, stream), N)


@pytest.mark.parametrize("codec", flat(CODECS))
def test_encoding_is_deterministic(codec: Codec) -> None:
    x = updates(3, N)
    first, state = codec.encode(x, codec.init(x), context())
    torch.manual_seed(99)
    again, other = codec.encode(x, codec.init(x), context())
    assert same_payload(first, again)
    assert same(state, other)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("stream", Stream)
def test_every_coordinate_of_a_draw_counts(stream: Stream, change: str) -> None:
    """Other bits, and unrelated ones: half of them differ (600 fair coins; 5 standard deviations are 61)."""
    a, b = bits_of(context(), stream), bits_of(replace(context(), **CHANGES[change]), stream)
    differing = int(kernels.count_bits(a ^ b).sum())
    assert abs(differing - 300) < 61


def test_streams_differ() -> None:
    draws = [bits_of(context(), stream) for stream in Stream]
    for i, a in enumerate(draws):
        for b in draws[:i]:
            assert abs(int(kernels.count_bits(a ^ b).sum()) - 300) < 61


@pytest.mark.parametrize("stream", Stream)
def test_secrets_key_private_streams_only(stream: Stream) -> None:
    public, mine, yours = (bits_of(context(secret=s), stream) for s in (None, b"mine", b"yours"))
    assert same(public, mine) == same(mine, yours) == (stream not in PRIVATE)


def test_private_streams_with_a_secret_do_not_follow_from_the_seed_alone() -> None:
    assert {Stream.ZERO, Stream.NOISE, Stream.SAMPLING, Stream.ROUNDING} == PRIVATE
    for stream in PRIVATE:
        assert same(bits_of(context(secret=b"s", seed=1), stream), bits_of(context(secret=b"s", seed=2), stream))


def test_the_secret_is_not_printed_and_not_used_by_the_server() -> None:
    ctx = context(secret=b"do not print")
    assert "print" not in repr(ctx)
    assert ctx.as_server().secret is None
    assert ctx.as_server().sender == SERVER


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_a_secret_changes_stays_with_the_worker(name: str) -> None:
    """Both ends agree on sizes and masks, and the server's decision depends on the ballots only."""
    algorithm, x = ALGORITHMS[name], updates(3, 2, N)
    ctx, secret = context(senders(3), 2), context(senders(3), 2, secret=b"worker's own")
    ballots, _ = algorithm.encode(x, algorithm.up.init(x), secret)
    server = algorithm.down.init(x[0])
    for a, b in zip(algorithm.up.planes(N, ctx), algorithm.up.planes(N, secret), strict=True):
        assert torch.equal(torch.as_tensor(a.row), torch.as_tensor(b.row))
    decisions = [algorithm.combine(ballots, server, c, N)[0] for c in (ctx, secret)]
    assert same_payload(*decisions)
    assert same(algorithm.up.decode(ballots, ctx, N), algorithm.up.decode(ballots, secret, N))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_secret_changes_noise(name: str) -> None:
    algorithm, x = ALGORITHMS[name], updates(2, N).abs() * 1e-3 + 1e-4
    plain, _ = algorithm.encode(x, algorithm.up.init(x), context(blocks=2))
    secret, _ = algorithm.encode(x, algorithm.up.init(x), context(blocks=2, secret=b"s"))
    assert same_payload(plain, secret) == ("Noise(" not in repr(algorithm.up))


@pytest.mark.parametrize("keep", [0.3, 1.0])
def test_masks_are_public(keep: float) -> None:
    masked = Masked(keep, Sign())
    assert same(masked.mask(N, context()), masked.mask(N, context(secret=b"s")))


@pytest.mark.parametrize(
    ("distribution", "dtype"),
    [*((d, torch.float32) for d in QUANTILES), ("gaussian", torch.float64), ("gaussian", torch.bfloat16)],
)
@pytest.mark.parametrize("zero", ["random", "positive"])
@pytest.mark.parametrize("std", [0.0, 0.5, Relative(0.2)], ids=repr)
def test_fused_noise_and_sign_is_noise_then_sign(
    std: float | Relative, distribution: str, zero: Zero, dtype: torch.dtype
) -> None:
    noise, sign, x = Noise(std, distribution), Sign(zero=zero), updates(3, N, dtype=dtype)
    x[1, 3] = torch.nan
    fused = chain(noise, sign)
    state = fused.init(x)
    for step in range(2):
        ctx = context(step=step)
        noisy, expected = noise(x, state["0"], ctx)
        payload, _ = sign.encode(noisy, {}, ctx)
        together, state = fused.encode(x, state, ctx)
        assert same(payload["bits"][[0, 2]], together["bits"][[0, 2]])
        assert same(payload.valid, together.valid)
        assert same(state["0"], expected)


def test_noise_of_two_workers_is_unrelated(algorithm: Algorithm = ALGORITHMS["noisy-sgd"]) -> None:
    x = torch.zeros(2, 1, 4096)
    ballots, _ = algorithm.encode(x, algorithm.up.init(x), context(senders(2), 1))
    a, b = ballots["values"][:, 0].double() / 0.1
    assert abs(float((a * b).mean())) < 5 / 64
    assert float(a.var()) == pytest.approx(1.0, abs=0.12)
