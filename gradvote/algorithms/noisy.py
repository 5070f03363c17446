"""Noise before the vote or the median, which brings both to the mean on data that differ between workers.

Chen, Chen, Sun, Wu, Hong, "Distributed training with heterogeneous data: bridging median- and mean-based algorithms",
NeurIPS 2020, Algorithms 3 (noisy signSGD) and 4 (noisy medianSGD).
"""

from dataclasses import replace
from typing import Literal

from gradvote.aggregators import MajorityVote
from gradvote.codecs import Chain, ErrorFeedback, Masked, Rounded, Sign, WrapperCodec, chain
from gradvote.core import Aggregator, Algorithm, Codec
from gradvote.errors import unknown
from gradvote.schedules import Schedule
from gradvote.transforms import Noise, OwnNoise, Relative


def noisy(
    algorithm: Algorithm,
    noise_std: float | Relative | Schedule = 0.01,
    noise: str = "gaussian",
    position: Literal["gradient", "vote"] = "gradient",
) -> Algorithm:
    """Any algorithm with b·ξ added by each worker, ξ symmetric of variance 1; the bits stay the same.

    `noise_std` is b in gradient units, a `Schedule` of it (b may fall with the rate, or differ by worker), or
    `Relative(0.1)`: b per block from the workers' largest gradients (32 more bits per block and direction). `noise`:
    gaussian, laplace, uniform or logistic. `position="gradient"` adds it before the momentum, `"vote"` just before the
    sign (or the sending). It takes the place of noise that the algorithm has of its own (`z_signfedavg`). A b > 0
    leaves no units of zeros, which are then not asked for (`still`); a `Relative` one does, in a block that is all
    zeros, and a `Schedule` may.
    """
    if not isinstance(algorithm, Algorithm):
        raise TypeError(f"noisy takes an algorithm, such as gradvote.algorithms.signsgd(); got {algorithm!r}.")
    if position not in ("gradient", "vote"):
        raise unknown("position of the noise", position, ["gradient", "vote"])
    part = Noise(noise_std, noise)
    if not isinstance(part.std, Relative | Schedule) and part.std != 0:
        algorithm = _without_zeros(algorithm)
    plain = _silent(algorithm.up)
    up = chain(part, plain) if position == "gradient" else _before_sending(plain, part)
    return replace(algorithm, up=up)


def _silent(codec: Codec) -> Codec:
    """The codec without noise of its own."""
    if isinstance(codec, Chain):
        return chain(*(t for t in codec.transforms if not isinstance(t, OwnNoise)), _silent(codec.codec))
    return _around(codec, _silent(codec.codec)) if isinstance(codec, WrapperCodec) else codec


def _before_sending(codec: Codec, part: Noise) -> Codec:
    if isinstance(codec, Chain):
        return chain(*codec.transforms, _before_sending(codec.codec, part))
    if isinstance(codec, ErrorFeedback | Rounded):
        return replace(codec, codec=_before_sending(codec.codec, part))
    return chain(part, codec)


def _without_zeros(algorithm: Algorithm) -> Algorithm:
    """The algorithm where no unit is all zeros."""
    up, down = _bare(algorithm.up), _bare(algorithm.down)
    return replace(algorithm, up=up, aggregate=_deciding(algorithm.aggregate), down=down)


def _bare(codec: Codec) -> Codec:
    if isinstance(codec, Sign):
        return replace(codec, still=False)
    if isinstance(codec, Masked):
        return replace(codec, codec=replace(codec.codec, still=False))
    return _around(codec, _bare(codec.codec)) if isinstance(codec, WrapperCodec) else codec


def _around(codec: WrapperCodec, inner: Codec) -> Codec:
    return replace(codec, codec=inner)  # type: ignore[type-var]  # codecs are dataclasses


def _deciding(rule: Aggregator) -> Aggregator:
    return replace(rule, still=False) if isinstance(rule, MajorityVote) else rule
