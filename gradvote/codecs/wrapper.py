"""What all codecs around another one have in common."""

from abc import ABC
from typing import Any, ClassVar

from torch import Tensor

from gradvote.core import Aggregator, Codec, Context, Payload, Plane, State


class WrapperCodec(Codec, ABC):
    """A codec around another one, in its field `codec`: passes every member of `Codec` on, but for `encode`.

    A subclass is a frozen dataclass that has `encode` and overrides what it changes. Where `decode` or `reduce` are
    its own, it reads its payloads itself, and no shortcut goes around it.
    """

    codec: Codec
    INNER: ClassVar[str | None] = "inner"
    """The name of the inner codec's state in this one's; None: it is all there is."""
    _passes_on: ClassVar[bool]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._passes_on = cls.decode is WrapperCodec.decode and cls.reduce is WrapperCodec.reduce

    def _inner(self, state: State) -> State:
        return state if self.INNER is None else state[self.INNER]

    def _around(self, inner: State, state: State) -> State:
        """The state with another one of the inner codec's."""
        return inner if self.INNER is None else {**state, self.INNER: inner}

    def init(self, like: Tensor) -> State:
        return self._around(self.codec.init(like), {})

    @property
    def reader(self) -> Codec:
        return self.codec.reader if self._passes_on else self

    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        return self.codec.planes(n, ctx)

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        return self.codec.decode(payload, ctx, n)

    def check(self, payload: Payload, n: int) -> Payload:
        return self.codec.check(payload, n)

    def reduce(self, payload: Payload, aggregator: Aggregator, ctx: Context, n: int) -> Tensor:
        if not self._passes_on:
            return super().reduce(payload, aggregator, ctx, n)
        return self.codec.reduce(payload, aggregator, ctx, n)

    def undelivered(self, state: State, payload: Payload, ctx: Context, n: int) -> State:
        return self._around(self.codec.undelivered(self._inner(state), payload, ctx, n), state)

    def unsent(self, state: State) -> Tensor | None:
        return self.codec.unsent(self._inner(state))

    @property
    def keeps(self) -> float:
        return self.codec.keeps

    @property
    def precision(self) -> float:
        return self.codec.precision

    def mirrored(self, state: State) -> Tensor | None:
        return self.codec.mirrored(self._inner(state))

    def merge(self, own: State, other: State) -> State:
        return self._around(self.codec.merge(self._inner(own), self._inner(other)), own)

    @property
    def reports(self) -> tuple[Plane, ...]:
        return self.codec.reports

    def check_reports(self, payload: Payload) -> Payload:
        return self.codec.check_reports(payload)

    def combine_reports(self, ballots: Payload) -> dict[str, Tensor]:
        return self.codec.combine_reports(ballots)

    def learn(self, state: State, decision: Payload) -> State:
        return self._around(self.codec.learn(self._inner(state), decision), state)
