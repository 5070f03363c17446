"""Floating-point numbers as they are."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.core import Codec, Context, Payload, Plane, State
from gradvote.errors import unknown

DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Dense(Codec):
    """decode(encode(x)) = x rounded to `dtype`; 32 bits per coordinate for float32. A non-finite block abstains."""

    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown("dtype", self.dtype, DTYPES)

    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        return (Plane("values", DTYPES[self.dtype], n),)

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        values = x.to(DTYPES[self.dtype])
        return Payload(kernels.finite(values), {"values": values}), state

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        return kernels.at_least_float32(torch.where(payload.valid[..., None], payload["values"], 0))

    def check(self, payload: Payload, n: int) -> Payload:
        return Payload(payload.valid & kernels.finite(payload["values"]), payload.planes)


SAMPLES = (Dense(), Dense("float64"), Dense("bfloat16"), Dense("float16"))
