"""How large each worker's update is, block by block, told beside its ballot."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradvote import kernels
from gradvote.core import Context, Payload, Plane, State, Transform

SIZE = Plane("size", torch.float32, 1)
"""One float32 ≥ 0 per block: a worker's mean magnitude on its way to the server, the median of all on its way back."""


@dataclass(frozen=True)
class Size(Transform):
    """x stays as it is; each ballot carries mean|x| of each block, the decision the median over the valid workers.

    32 more bits per block and direction. A minority that lies about its size does not move it beyond honest ones.
    """

    def init(self, like: Tensor) -> State:
        return {"own": torch.zeros(like.shape[:-1], dtype=torch.float32, device=like.device)}

    def __call__(self, x: Tensor, state: State, ctx: Context) -> tuple[Tensor, State]:
        return x, {"own": kernels.mean_abs(x).float()}

    @property
    def reports(self) -> tuple[Plane, ...]:
        return (SIZE,)

    def report(self, state: State) -> dict[str, Tensor]:
        return {SIZE.name: state["own"][..., None]}

    def check_reports(self, payload: Payload) -> Payload:
        size = payload[SIZE.name][..., 0]
        return Payload(payload.valid & size.isfinite() & (size >= 0), payload.planes)

    def combine_reports(self, ballots: Payload) -> dict[str, Tensor]:
        return {SIZE.name: kernels.median(ballots[SIZE.name], ballots.valid)}


SAMPLES = (Size(),)
