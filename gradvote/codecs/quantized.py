"""Whole numbers of 8 bits, with one scale per block."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.core import Codec, Context, Payload, Plane, State

MOST = 127


@dataclass(frozen=True)
class Quantized(Codec):
    """decode(encode(x)) = s·q with s = max|x|/127 per block and q = x/s rounded to the nearest (even) whole number.

    8 bits per coordinate and 32 per block. |x − decode| is at most s/2. A block with a non-finite value abstains.
    """

    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        return (Plane("values", torch.int8, n), Plane("scale", torch.float32, 1))

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        x = kernels.at_least_float32(x)
        scale = (x.abs().amax(-1, keepdim=True) / x.new_full((), MOST)).float()
        steps = torch.where(scale > 0, x / torch.where(scale > 0, scale, 1.0), 0.0)
        whole = steps.nan_to_num(0.0).round().clamp(-MOST, MOST).to(torch.int8)
        return Payload(kernels.finite(x) & scale[..., 0].isfinite(), {"values": whole, "scale": scale}), state

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        scale = torch.where(payload.valid[..., None], payload["scale"], 0.0)
        return payload["values"].float() * scale

    def check(self, payload: Payload, n: int) -> Payload:
        scale = payload["scale"][..., 0]
        return Payload(payload.valid & scale.isfinite() & (scale >= 0), payload.planes)


SAMPLES = (Quantized(),)
