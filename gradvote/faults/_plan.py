"""Which workers are faulty, where, and when."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradvote.core import Context, Payload
from gradvote.errors import unknown
from gradvote.faults._base import Fault
from gradvote.rng import Stream, draw

PLACES = ("worker", "uplink", "downlink", "both")


@dataclass(frozen=True)
class Faulty:
    """`fault` at `place` ("worker": its gradient; "uplink", "downlink", "both": its link) of some workers.

    `workers` are the numbers of the faulty ones; otherwise `num` of them are drawn from the seed, once or, with
    `redraw`, afresh at each step: the same ones for every fault drawn so.
    """

    fault: Fault
    place: str = "worker"
    workers: tuple[int, ...] | None = None
    num: int = 1
    redraw: bool = False

    def __post_init__(self) -> None:
        if self.place not in PLACES:
            raise unknown("place of a fault", self.place, PLACES)
        if self.workers is None and self.num < 0:
            raise ValueError(f"The number of faulty workers must not be negative; got {self.num}.")

    def check(self, num_workers: int) -> None:
        """Raise ValueError where there are not as many workers as the faults need."""
        outside = [w for w in self.workers or () if not 0 <= w < num_workers]
        if outside:
            raise ValueError(f"There is no worker {outside[0]}: the workers are 0 to {num_workers - 1}.")
        if self.workers is None and self.num > num_workers:
            raise ValueError(f"{self.num} faulty workers were asked for, but there are only {num_workers} workers.")

    def hits(self, ctx: Context, num_workers: int) -> Tensor:
        """Which workers (M,) bool are faulty in this round."""
        hit = torch.zeros(num_workers, dtype=torch.bool)
        if self.workers is not None:
            hit[list(self.workers)] = True
            return hit
        at = replace(ctx.as_server(), block=torch.zeros(1, dtype=torch.int64))
        position = draw(at if self.redraw else replace(at, step=0, attempt=0), Stream.FAULT)
        generator = torch.Generator().manual_seed(position.key % 2**63)
        hit[torch.randperm(num_workers, generator=generator)[: self.num]] = True
        return hit


def diverging(faults: Sequence[Faulty]) -> bool:
    """Whether faults on the way down make the workers' models differ."""
    return any(f.place in ("downlink", "both") for f in faults)


def on_gradients(faults: Sequence[Faulty], x: Tensor, ctx: Context, num_workers: int) -> Tensor:
    """Gradients (M, B, n) after the lies of faulty workers; a worker that drops has no gradient at all (NaN)."""
    for faulty in faults:
        if faulty.place == "worker":
            changed = torch.full_like(x, torch.nan) if faulty.fault.drops else _on_values(faulty, x, ctx)
            x = _where(faulty.hits(ctx, num_workers), changed, x)
    return x


def on_link(faults: Sequence[Faulty], place: str, payload: Payload, ctx: Context, num_workers: int) -> Payload:
    """Payloads (M, B, ...) after the links, `place` being "uplink" or "downlink"."""
    for faulty in faults:
        if faulty.place in (place, "both"):
            payload = _spoil(faulty, payload, ctx, faulty.hits(ctx, num_workers))
    return payload


def dropped(faults: Sequence[Faulty], place: str, ctx: Context, num_workers: int) -> Tensor:
    """Whose payloads (M,) bool are lost on the way, `place` being "uplink" or "downlink"."""
    lost = torch.zeros(num_workers, dtype=torch.bool)
    for faulty in faults:
        if faulty.fault.drops and faulty.place in (place, "both"):
            lost |= faulty.hits(ctx, num_workers)
    return lost


def _spoil(faulty: Faulty, payload: Payload, ctx: Context, hit: Tensor) -> Payload:
    if faulty.fault.drops:
        return replace(payload, valid=payload.valid & ~hit[:, None])
    planes = {}
    for name, plane in payload.planes.items():
        changed = _on_plane(faulty, name, plane, ctx)
        planes[name] = _where(hit, changed, plane)
    return replace(payload, planes=planes)


def _on_plane(faulty: Faulty, name: str, plane: Tensor, ctx: Context) -> Tensor:
    if name == "bits":
        return faulty.fault.on_bits(plane, draw(ctx, Stream.FAULT))
    if plane.dtype == torch.int64:
        return plane
    changed = _on_values(faulty, plane, ctx)
    return changed if name == "values" else changed.abs()


def _on_values(faulty: Faulty, x: Tensor, ctx: Context) -> Tensor:
    return faulty.fault.on_values(x, draw(ctx, Stream.FAULT)).to(x.dtype)


def _where(hit: Tensor, changed: Tensor, x: Tensor) -> Tensor:
    return torch.where(hit.view(-1, *[1] * (x.dim() - 1)), changed, x)
