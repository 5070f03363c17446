"""The thread behind a DDP hook: buckets in, directions out, in DDP's order and all or nothing for each step."""

import queue
import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.futures import Future

from gradvote.engines.distributed import pipeline
from gradvote.engines.distributed.failures import Watch
from gradvote.engines.distributed.gradients import Desk
from gradvote.engines.distributed.session import Session
from gradvote.engines.distributed.transport import Delivery
from gradvote.engines.distributed.turn import Turn
from gradvote.layout import Layout

SMALL = 1 << 21
"""Bytes of gradients below which a bucket waits for the next: an exchange has a price whatever it carries."""


@dataclass(frozen=True)
class Bucket:
    """Local gradients by parameter number, views of `buffer`; a parameter that was not `used` abstains."""

    gradients: Mapping[int, Tensor]
    used: frozenset[int]
    buffer: Tensor
    lr: float | list[float]
    last: bool
    taken: Future[None] = field(default_factory=Future)


@dataclass
class _Step:
    """What has been done of a step."""

    scale: float
    overflow: bool = False
    buckets: list[Bucket] = field(default_factory=list)
    waiting: list[Bucket] = field(default_factory=list)
    parts: list[tuple[Layout, Mapping[int, Tensor]]] = field(default_factory=list)
    turns: dict[Hashable, Turn] = field(default_factory=dict)
    deliveries: list[tuple[Delivery, Delivery]] = field(default_factory=list)


class HookThread(threading.Thread):
    """Exchanges buckets one after another, and resolves all futures of a step together after its last bucket.

    Small buckets wait until they are `SMALL` bytes together, or the last one is there.
    With a scaler, gradients are divided by its scale before the vote, and directions multiplied by it, as the scaler
    will divide them. Where most ranks overflowed, all gradients become infinite and no state changes: every rank's
    scaler skips the step and shrinks its scale.
    """

    def __init__(self, session: Session, watch: Watch, dtype: torch.dtype, scaler: GradScaler | None) -> None:
        super().__init__(name="gradvote exchange", daemon=True)
        self._session, self._watch, self._scaler = session, watch, scaler
        self._desk = Desk(dtype)
        self._inbox: queue.SimpleQueue[Bucket] = queue.SimpleQueue()
        self._step = _Step(1.0)
        self._layouts: dict[tuple[int, ...], Layout] = {}
        self._error: Exception | None = None

    def put(self, bucket: Bucket) -> Future[Tensor]:
        """Queue a bucket; the future gives its buffer, holding the direction, or raises what went wrong."""
        promise: Future[Tensor] = bucket.taken.then(lambda _: self._result(bucket))
        self._inbox.put(bucket)
        return promise

    def run(self) -> None:
        """Work until the process ends."""
        while True:
            bucket = self._inbox.get()
            if not self._step.buckets:
                self._step = _Step(self._scaler.get_scale() if self._scaler is not None else 1.0)
            self._step.buckets.append(bucket)
            self._step.waiting.append(bucket)
            self._try(bucket.last)
            if bucket.last or self._error is not None:
                buckets, self._step = self._step.buckets, _Step(1.0)
                for each in buckets:
                    each.taken.set_result(None)

    def _try(self, last: bool) -> None:
        try:
            if self._error is None:
                if last or sum(bucket.buffer.nbytes for bucket in self._step.waiting) >= SMALL:
                    self._exchange()
                if last:
                    self._finish()
        except Exception as error:
            self._error = self._watch.failed(error, self._session.step)

    def _exchange(self) -> None:
        step, waiting = self._step, self._step.waiting
        gradients = {i: gradient for bucket in waiting for i, gradient in bucket.gradients.items()}
        used = frozenset[int]().union(*(bucket.used for bucket in waiting))
        key = tuple(gradients)
        if key not in self._layouts:
            self._layouts[key] = self._session.protocol.layout.subset(key)
        layout = self._layouts[key]
        step.parts.append((layout, gradients))
        step.turns[key] = self._session.turn(key, layout, waiting[0].lr)
        flat = self._update(layout, {i: gradient if i in used else None for i, gradient in gradients.items()})
        step.deliveries += pipeline.run(self._session.transport, [step.turns[key]], [flat])
        step.waiting = []

    def _update(self, layout: Layout, gradients: Mapping[int, Tensor | None]) -> Tensor:
        flat = self._desk.gather(layout, gradients)
        if self._scaler is None:
            return flat
        self._step.overflow |= any(not bool(g.isfinite().all()) for g in gradients.values() if g is not None)
        return flat / self._step.scale

    def _finish(self) -> None:
        step = self._step
        skipped = self._scaler is not None and self._most_overflowed()
        if skipped:
            for bucket in step.buckets:
                bucket.buffer.fill_(torch.inf)
            self._session.skip(step.deliveries)
            return
        for (layout, gradients), turn in zip(step.parts, step.turns.values(), strict=True):
            self._desk.scatter([(layout, turn.read)], gradients, step.scale)
        self._session.commit(step.turns, step.deliveries)

    def _most_overflowed(self) -> bool:
        overflowed = self._session.transport.gather(torch.tensor([int(self._step.overflow)]))
        return 2 * int(overflowed.sum()) > len(overflowed)

    def _result(self, bucket: Bucket) -> Tensor:
        if self._error is not None:
            raise self._error
        return bucket.buffer
