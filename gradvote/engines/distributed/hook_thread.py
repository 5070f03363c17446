"""The thread behind a DDP hook: buckets in, directions out, in DDP's order and all or nothing for each step."""

import queue
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.futures import Future

from gradvote.engines.common.clipping import factor
from gradvote.engines.common.flat_buffer import FlatBuffer, Outbox
from gradvote.engines.common.kept import Kept
from gradvote.engines.common.scaling import all_finite
from gradvote.engines.common.training import add
from gradvote.engines.distributed import pipeline
from gradvote.engines.distributed.comparison import Comparison
from gradvote.engines.distributed.failures import Watch
from gradvote.engines.distributed.part_round import PartRound
from gradvote.engines.distributed.pipeline import Traffic
from gradvote.engines.distributed.session import Session
from gradvote.engines.distributed.slices import squares_of, update_of
from gradvote.layout import Layout

SMALL = 1 << 21
"""Bytes of gradients below which a bucket waits for the next: an exchange has a price whatever it carries."""


@dataclass(frozen=True)
class Bucket:
    """Local gradients by parameter number, views of `buffer`; a parameter that was not `used` abstains.

    The buffer may have other parameters, which were frozen since DDP wrapped the model: they have no gradient.

    Gradients are `scale` times the true ones, `None` without a scaler. `aside` is added to the directions. On a card
    `filled` is what has to be done before the gradients are there, and the future carries what its readers wait for.
    """

    gradients: Mapping[int, Tensor]
    used: frozenset[int]
    buffer: Tensor
    lr: float | list[float]
    last: bool
    scale: float | None = None
    aside: Mapping[int, Kept] = field(default_factory=dict)
    filled: torch.cuda.Event | None = None
    taken: Future[Tensor | None] = field(init=False)

    def __post_init__(self) -> None:
        cards: list[int | str | torch.device] | None = [self.buffer.device] if self.buffer.is_cuda else None
        object.__setattr__(self, "taken", Future(devices=cards))


@dataclass(frozen=True)
class Joined:
    """Buckets that are exchanged together."""

    layout: Layout
    gradients: Mapping[int, Tensor]
    used: frozenset[int]
    round_: PartRound


@dataclass
class _Step:
    """What has been done of a step."""

    overflow: bool = False
    abstained: bool = False
    buckets: list[Bucket] = field(default_factory=list)
    waiting: list[Bucket] = field(default_factory=list)
    groups: dict[Hashable, Joined] = field(default_factory=dict)
    squares: list[Tensor] = field(default_factory=list)
    traffic: list[Traffic] = field(default_factory=list)

    @property
    def scale(self) -> float | None:
        """What gradients are multiplied by, if there is a scaler."""
        return self.buckets[0].scale


class HookThread(threading.Thread):
    """Exchanges buckets one after another, and resolves all futures of a step together after its last bucket.

    Small buckets wait until they are `SMALL` bytes together, or the last one is there. Where some rank has `max_norm`,
    or an account of privacy, those of all ranks wait for the last one (`waits`), as the norm of the whole gradient is
    known then; with a rule that needs whole vectors they also travel together.
    With a scaler, gradients are divided by its scale before the vote, and directions multiplied by it, as the scaler
    will divide them. Where most ranks overflowed, all gradients become infinite and no state changes: every rank's
    scaler skips the step and shrinks its scale. That is known at the end of a step: until then the old states stay
    beside the new ones.
    """

    def __init__(
        self,
        session: Session,
        watch: Watch,
        dtype: torch.dtype,
        max_norm: float | None,
        comparison: Comparison,
        waits: bool,
    ) -> None:
        super().__init__(name="gradvote exchange", daemon=True)
        self._session, self._watch, self._max_norm, self._comparison = session, watch, max_norm, comparison
        self._waits = waits
        self._whole = not session.protocol.algorithm.aggregate.separable
        self._buffer = FlatBuffer(dtype, session.transport.home)
        self._asides: list[Mapping[int, Kept]] = []
        self._inbox: queue.SimpleQueue[Bucket] = queue.SimpleQueue()
        self._step = _Step()
        self._layouts: dict[tuple[int, ...], Layout] = {}
        self._error: Exception | None = None
        self.decided: frozenset[int] = frozenset()
        self.skipped = self.abstained = False
        """What became of the last step: to be read when its futures are done."""

    def put(self, bucket: Bucket) -> Future[Tensor]:
        """Queue a bucket; the future gives its buffer, holding the direction, or raises what went wrong.

        On a card, whoever waits for the future lets its current stream wait for the direction.
        """
        promise: Future[Tensor] = bucket.taken.then(lambda _: self._result(bucket))
        self._inbox.put(bucket)
        return promise

    def run(self) -> None:
        """Work until the process ends: a thread that ended with its model would race with the interpreter's end."""
        with _stream_of_its_own(self._buffer.device):
            while True:
                bucket = self._inbox.get()
                self._step.buckets.append(bucket)
                self._step.waiting.append(bucket)
                self._try(bucket)
                if bucket.last or self._error is not None:
                    buckets, self._step = self._step.buckets, _Step()
                    self._asides = [each.aside for each in buckets]  # a card may not have read them yet
                    for each in buckets:  # of a card that has failed nobody can say when a buffer is there
                        each.taken.set_result(each.buffer if self._error is None else None)

    def _try(self, bucket: Bucket) -> None:
        last = bucket.last
        try:
            if self._error is None:
                if bucket.filled is not None:
                    torch.cuda.current_stream(self._buffer.device).wait_event(bucket.filled)
                ready = sum(bucket.buffer.nbytes for bucket in self._step.waiting) >= SMALL and not self._whole
                if last or ready:
                    self._close_group()
                if last:
                    self._finish()
        except Exception as error:
            self._error = self._watch.failed(error, self._session.step)

    def _close_group(self) -> None:
        step, waiting = self._step, self._step.waiting
        gradients = {i: gradient for bucket in waiting for i, gradient in bucket.gradients.items()}
        if not gradients:  # all were frozen since the model was wrapped
            step.waiting = []
            return
        used = frozenset[int]().union(*(bucket.used for bucket in waiting))
        key = tuple(sorted(gradients))
        if key not in self._layouts:
            self._layouts[key] = self._session.protocol.layout.subset(key)
        layout = self._layouts[key]
        if not step.groups:
            self._session.begin()
            self._comparison.look(self._session.step, self._session.came_from())
        round_ = self._session.round_of(key, layout, waiting[0].lr, keep=step.scale is not None)
        step.groups[key] = group = Joined(layout, gradients, used, round_)
        step.waiting = []
        if step.scale is not None:
            step.overflow |= not all_finite(gradients[i] for i in used)
        if not self._waits:
            self._exchange([group], 1.0)
        elif self._max_norm is not None:
            step.squares += squares_of(self._buffer, [layout], _wanted([group]), step.scale or 1.0)

    def _exchange(
        self, groups: Sequence[Joined], shrink: float, released: Mapping[int, Tensor | None] | None = None
    ) -> None:
        wanted = _wanted(groups) if released is None else released
        update = update_of(self._buffer, wanted, self._step.scale or 1.0, shrink)
        self._step.traffic += pipeline.run(self._session.transport, [group.round_ for group in groups], update)

    def _released(self, groups: Sequence[Joined]) -> Mapping[int, Tensor | None]:
        """What others may see of all gradients."""
        places = {i: own for group in groups for i, own in group.gradients.items()}
        return self._session.seen(self._buffer.gather, _wanted(groups), [places[i] for i in range(len(places))])

    def _finish(self) -> None:
        step = self._step
        groups = [*step.groups.values()]
        if self._session.releases is not None:
            self._exchange(groups, 1.0, self._released(groups))
        elif self._waits:
            self._exchange(groups, 1.0 if self._max_norm is None else factor(step.squares, self._max_norm))
        self.abstained = any(group.round_.abstained for group in step.groups.values())
        self.skipped = step.scale is not None and self._session.transport.most(step.overflow)
        if self.skipped:
            for bucket in step.buckets:
                bucket.buffer.fill_(torch.inf)
            self._session.skip(step.traffic)
            return
        for group in step.groups.values():
            outbox = Outbox(self._buffer, group.gradients, step.scale or 1.0)
            group.round_.read(outbox.write)
            outbox.finish()
        self._buffer.fit(max(group.layout.size for group in step.groups.values()))
        for bucket in step.buckets:
            add(bucket.aside, bucket.gradients)
        aside = (i for bucket in step.buckets for i in bucket.aside)
        self.decided = frozenset(aside).union(*(group.round_.decided for group in step.groups.values()))
        self._session.commit({key: group.round_ for key, group in step.groups.items()}, step.traffic)

    def _result(self, bucket: Bucket) -> Tensor:
        if self._error is not None:
            raise self._error
        return bucket.buffer


def _wanted(groups: Sequence[Joined]) -> dict[int, Tensor | None]:
    """The gradients of groups; None for a parameter that was not used."""
    return {i: own if i in group.used else None for group in groups for i, own in group.gradients.items()}


@contextmanager
def _stream_of_its_own(device: torch.device) -> Iterator[None]:
    """Within, what this thread asks of a card is done beside the backward pass, and before it where both wait."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_device(device)
    with torch.cuda.stream(torch.cuda.Stream(device, priority=-1)):
        yield
