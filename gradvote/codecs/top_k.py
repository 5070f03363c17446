"""The largest coordinates of each block, at two bits each."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.core import Codec, Context, Payload, Plane, State

VALUE_BITS = 2


@dataclass(frozen=True)
class TopK(Codec):
    """The k = ⌈density·n⌉ largest |x| of each block, as sign and one of two magnitudes; the rest is zero.

    The magnitudes are the means of those kept at or above, and of those below, the mean magnitude of the kept. A place
    in the block costs ⌈log₂ n⌉ bits, a value 2, the magnitudes 32 bits per block (bfloat16). Of equals the first are
    kept. A block with a non-finite value abstains.
    """

    density: float = 1 / 64

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise ValueError(f"The share of coordinates to keep must lie in (0, 1]; got {self.density}.")

    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        kept = Plane("kept", torch.int64, kernels.num_words(self.count(n) * self._width(n)))
        return (kept, Plane("levels", torch.bfloat16, 2))

    def count(self, n: int) -> int:
        """How many coordinates of a block of n are kept."""
        return min(n, max(1, -int(-self.density * n // 1))) if n else 0

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        x, n = kernels.at_least_float32(x), x.shape[-1]
        places = x.abs().argsort(stable=True, dim=-1, descending=True)[..., : self.count(n)].sort(-1).values
        kept = x.gather(-1, places)
        size = kept.abs()
        large = size >= _mean_where(size, torch.ones_like(size, dtype=torch.bool))
        levels = torch.cat((_mean_where(size, ~large), _mean_where(size, large)), -1).to(torch.bfloat16)
        fields = torch.stack((kept < 0, large), -1)
        bits = torch.cat((_to_bits(places, self._width(n) - VALUE_BITS), fields), -1)
        valid = kernels.finite(x) & levels.isfinite().all(-1)
        return Payload(valid, {"kept": kernels.pack_bits(bits.flatten(-2)), "levels": levels}), state

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        places, negative, large = self._fields(payload, n)
        levels = payload["levels"].float()
        size = torch.where(large, levels[..., 1:], levels[..., :1])
        values = torch.where(payload.valid[..., None], torch.where(negative, -size, size), 0.0)
        return values.new_zeros(*payload.valid.shape, n).scatter(-1, places.clamp(max=max(n - 1, 0)), values)

    def check(self, payload: Payload, n: int) -> Payload:
        """Places must rise within the block; a magnitude is finite and not negative."""
        places, levels = self._fields(payload, n)[0], payload["levels"].float()
        sound = (places.diff(dim=-1) > 0).all(-1) & (places < n).all(-1) & (levels.isfinite() & (levels >= 0)).all(-1)
        return Payload(payload.valid & sound, payload.planes)

    def _width(self, n: int) -> int:
        """The bits of a place and its value."""
        return max(n - 1, 0).bit_length() + VALUE_BITS

    def _fields(self, payload: Payload, n: int) -> tuple[Tensor, Tensor, Tensor]:
        count, width = self.count(n), self._width(n)
        bits = kernels.unpack_bits(payload["kept"], count * width).unflatten(-1, (count, width))
        return _from_bits(bits[..., :-VALUE_BITS]), bits[..., -2], bits[..., -1]


def _mean_where(x: Tensor, chosen: Tensor) -> Tensor:
    """The mean over the last axis of those chosen (..., 1), 0 where none is; in the fixed order of sums."""
    total = kernels.tree_sum(torch.where(chosen, x, 0.0))[..., None]
    return total / chosen.sum(-1, keepdim=True).clamp(min=1)


def _to_bits(numbers: Tensor, width: int) -> Tensor:
    return (numbers[..., None] >> torch.arange(width, device=numbers.device) & 1).bool()


def _from_bits(bits: Tensor) -> Tensor:
    return (bits.long() << torch.arange(bits.shape[-1], device=bits.device)).sum(-1)


SAMPLES = (TopK(), TopK(0.25), TopK(1.0))
