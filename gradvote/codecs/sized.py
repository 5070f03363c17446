"""Decisions with the size that the workers have told: the other end of `transforms.Size`."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradvote.codecs.sign import Sign
from gradvote.codecs.wrapper import WrapperCodec
from gradvote.core import Codec, Context, Payload, State
from gradvote.transforms.size import SIZE


@dataclass(frozen=True)
class Sized(WrapperCodec):
    """What the codec inside decodes to, times the size of each block that the decision carries; one where it has none.

    Bits as of the codec inside; the size is the workers' report (`Size`), whose bits are counted there.
    """

    codec: Codec
    INNER: ClassVar[None] = None

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        return self.codec.encode(x, state, ctx)

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        direction, size = self.codec.decode(payload, ctx, n), payload.planes.get(SIZE.name)
        if size is None:
            return direction
        usable = payload.valid[..., None] & size.isfinite() & (size >= 0)
        return direction * torch.where(usable, size, 0.0)


SAMPLES = (Sized(Sign()), Sized(Sign(still=True)))
