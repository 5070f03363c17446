"""Noise of an algorithm that could be taken for that of the account: refused beside an account, each with its reason.

What follows a release is post-processing, so such noise costs nothing. It protects nothing either, and whoever reads
the recipe would count it.
"""

import torch

from gradvote.codecs import Chain, WrapperCodec
from gradvote.core import Algorithm, Codec
from gradvote.staging import CPU
from gradvote.transforms import Noise

MEND = "Leave it out of the algorithm: the noise of privacy= comes before everything, and is the one that is accounted"


def check_noise(algorithm: Algorithm, keyed: bool) -> None:
    """Whether the algorithm's own noise may stand beside an account; `keyed`: its draws have a secret key.

    Raises:
        ValueError: it is relative, of another distribution, behind a memory, or derived from a seed.
    """
    for noise, remembers in _noises(algorithm.up, False):
        if noise.relative:
            raise ValueError(f"{noise!r} is as large as the data say, so that no account can hold with it. {MEND}.")
        if noise.distribution != "gaussian":
            raise ValueError(f"{noise!r} is {noise.distribution}, but the account is of Gaussian noise. {MEND}.")
        if remembers:
            raise ValueError(
                f"{noise!r} stands behind a momentum or a memory, whose sum over all rounds nobody has bounded. {MEND}."
            )
        if not keyed:
            raise ValueError(
                f"{noise!r} is derived from the seed here, which others know, so that they can take it off again. Give "
                f"secret=os.urandom(32), or leave it out: the noise of privacy= is the one that is accounted."
            )


def _noises(codec: Codec, remembers: bool) -> list[tuple[Noise, bool]]:
    """The noises of a worker's half, and whether something before them remembers."""
    found: list[tuple[Noise, bool]] = []
    if not isinstance(codec, WrapperCodec):
        return found
    like = torch.zeros(1, 1, dtype=torch.float32, device=CPU)
    if isinstance(codec, Chain):
        for transform in codec.transforms:
            if isinstance(transform, Noise):
                found.append((transform, remembers))
            else:
                remembers = remembers or bool(transform.init(like))
    else:
        own = set(codec.init(like)) - ({codec.INNER} if codec.INNER is not None else set(codec.codec.init(like)))
        remembers = remembers or bool(own)
    return found + _noises(codec.codec, remembers)
