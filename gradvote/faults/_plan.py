"""Which workers are faulty, where, and when."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradvote.core import Context, Payload
from gradvote.errors import unknown
from gradvote.faults._base import Collusion, Fault
from gradvote.fitting import Checked
from gradvote.rng import Stream, draw
from gradvote.staging import CPU, to_device

PLACES = ("worker", "uplink", "downlink", "both")


@dataclass(frozen=True)
class Faulty(Checked):
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
        if self.fault.sees_all and self.place != "worker":
            raise ValueError(
                f"{self.fault} is a lie about gradients, made by workers that see those of all others; it cannot be "
                f"at the place '{self.place}'. Use the place 'worker'."
            )
        if self.workers is None and self.num < 0:
            raise ValueError(f"The number of faulty workers must not be negative; got {self.num}.")

    def check(self, num_workers: int) -> None:
        """Raise ValueError where there are not as many workers as the faults need."""
        outside = [w for w in self.workers or () if not 0 <= w < num_workers]
        if outside:
            raise ValueError(f"There is no worker {outside[0]}: the workers are 0 to {num_workers - 1}.")
        if self.workers is None and self.num > num_workers:
            raise ValueError(f"{self.num} faulty workers were asked for, but there are only {num_workers} workers.")

    def check_real(self, num_workers: int, on_links: bool = True) -> None:
        """The same for workers that are processes of their own, with or without faults `on_links`.

        Raises ValueError also for what only a simulation can play.
        """
        if self.fault.sees_all:
            raise ValueError(
                f"{self.fault} needs the gradients of all workers, and a real worker has only its own, so the attack "
                "would do nothing here. Play it in the simulation: gradvote.engines.simulation, or "
                "`gradvote train --engine simulation`."
            )
        if self.place != "worker" and not on_links:
            raise ValueError(
                f"The fault {self.fault} is at the place '{self.place}'; here only those of workers are played. What a "
                "link may do to a ballot is found by its digest: see docs/faults.md."
            )
        self.check(num_workers)

    def hits(self, ctx: Context, num_workers: int) -> Tensor:
        """Which workers (M,) bool are faulty in this round, on the CPU."""
        hit = torch.zeros(num_workers, dtype=torch.bool, device=CPU)
        if self.workers is not None:
            hit[list(self.workers)] = True
            return hit
        at = replace(ctx.as_server(), block=torch.zeros(1, dtype=torch.int64, device=CPU))
        position = draw(at if self.redraw else replace(at, step=0, attempt=0), Stream.FAULT)
        generator = torch.Generator(CPU).manual_seed(position.key % 2**63)
        hit[torch.randperm(num_workers, generator=generator, device=CPU)[: self.num]] = True
        return hit


def diverging(faults: Sequence[Faulty]) -> bool:
    """Whether faults on the way down make the workers' models differ."""
    return any(f.place in ("downlink", "both") for f in faults)


def on_gradients(faults: Sequence[Faulty], x: Tensor, ctx: Context, num_workers: int) -> Tensor:
    """Gradients (M, B, n) after the lies of faulty workers; a worker that drops has no gradient at all (NaN)."""
    lies = [faulty for faulty in faults if faulty.place == "worker"]
    told, hits = x, [faulty.hits(ctx, num_workers) for faulty in lies]
    honest = ~torch.stack(hits).any(0) if hits else torch.ones(num_workers, dtype=torch.bool, device=CPU)
    for faulty, hit in zip(lies, hits, strict=True):
        told = _where(hit, _told(faulty, told, x, honest, ctx), told)
    return told


def on_link(faults: Sequence[Faulty], place: str, payload: Payload, ctx: Context, num_workers: int) -> Payload:
    """Payloads (M, B, ...) after the links, `place` being "uplink" or "downlink"."""
    for faulty in faults:
        if faulty.place in (place, "both"):
            payload = _spoil(faulty, payload, ctx, faulty.hits(ctx, num_workers))
    return payload


def dropped(faults: Sequence[Faulty], place: str, ctx: Context, num_workers: int) -> Tensor:
    """Whose payloads (M,) bool are lost on the way, `place` being "uplink" or "downlink"."""
    lost = torch.zeros(num_workers, dtype=torch.bool, device=CPU)
    for faulty in faults:
        if faulty.fault.drops and faulty.place in (place, "both"):
            lost |= faulty.hits(ctx, num_workers)
    return lost


def _told(faulty: Faulty, told: Tensor, x: Tensor, honest: Tensor, ctx: Context) -> Tensor:
    """What a fault makes of what its worker would tell, all of them having the gradients x."""
    if faulty.fault.drops:
        return torch.full_like(x, torch.nan)
    if isinstance(faulty.fault, Collusion):
        heard = to_device(honest, x.device).view(-1, *[1] * (x.dim() - 2)) & x.isfinite().all(-1)
        return faulty.fault.on_all(x, heard, draw(ctx, Stream.FAULT)).to(x.dtype)
    return _on_values(faulty, told, ctx)


def _spoil(faulty: Faulty, payload: Payload, ctx: Context, hit: Tensor) -> Payload:
    if faulty.fault.drops:
        return replace(payload, valid=payload.valid & ~to_device(hit, payload.valid.device)[:, None])
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
    return torch.where(to_device(hit, x.device).view(-1, *[1] * (x.dim() - 1)), changed, x)
