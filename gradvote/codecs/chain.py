"""Transforms before a codec."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from gradvote.codecs.error_feedback import ErrorFeedback
from gradvote.codecs.masked import Masked
from gradvote.codecs.sign import Sign
from gradvote.codecs.wrapper import WrapperCodec
from gradvote.core import Codec, Context, Part, Payload, Plane, State, Transform, shortcut
from gradvote.transforms.clip import Clip
from gradvote.transforms.momentum import Ema, LionMomentum, Momentum
from gradvote.transforms.noise import Noise, Relative


@dataclass(frozen=True, repr=False)
class Chain(WrapperCodec):
    """Transforms applied in order, then a codec."""

    transforms: tuple[Transform, ...]
    codec: Codec
    INNER: ClassVar[str] = "codec"

    def __post_init__(self) -> None:
        if _num_noises(self) > 1:
            raise ValueError(
                "A codec can add noise once: a second Noise would repeat the draws of the first. "
                "Choose one position, and the standard deviation wanted in all."
            )

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, (*self.transforms, self.codec)))})"

    def init(self, like: Tensor) -> State:
        return {**{key: t.init(like) for key, t in self._own()}, **super().init(like)}

    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        planes = super().planes(n, ctx)
        for transform in self.transforms:
            planes += transform.reports
        return planes

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        new = dict(state)
        *before, (end, last) = own = self._own()
        for key, transform in before:
            x, new[key] = transform(x, state[key], ctx)
        payload, new[end], new["codec"] = self._end(last, x, state[end], state["codec"], ctx)
        for key, transform in own:
            if transform.reports:
                payload = payload.carrying(transform.report(new[key]))
        return payload, new

    def _end(
        self, last: Transform, x: Tensor, state: State, inner: State, ctx: Context
    ) -> tuple[Payload, State, State]:
        """The last transform and the codec, in one pass where that is the same."""
        short: tuple[Payload, State, State] | None = shortcut(
            "transform and encode", (last, self.codec), x, state, inner, ctx
        )
        if short is not None:
            return short
        x, state = last(x, state, ctx)
        payload, inner = self.codec.encode(x, inner, ctx)
        return payload, state, inner

    def check(self, payload: Payload, n: int) -> Payload:
        payload = super().check(payload, n)
        for transform in self.transforms:
            payload = transform.check_reports(payload)
        return payload

    def unsent(self, state: State) -> Tensor | None:
        held = [part.unsent(state[key]) for key, part in self._parts()]
        known = [own for own in held if own is not None]
        return sum(known[1:], known[0]) if known else None

    def merge(self, own: State, other: State) -> State:
        return {**own, **{key: part.merge(own[key], other[key]) for key, part in self._parts()}}

    @property
    def reports(self) -> tuple[Plane, ...]:
        planes = self.codec.reports
        for transform in self.transforms:
            planes += transform.reports
        return planes

    def check_reports(self, payload: Payload) -> Payload:
        for _, part in self._parts():
            payload = part.check_reports(payload)
        return payload

    def combine_reports(self, ballots: Payload) -> dict[str, Tensor]:
        planes: dict[str, Tensor] = {}
        for _, part in self._parts():
            planes |= part.combine_reports(ballots)
        return planes

    def learn(self, state: State, decision: Payload) -> State:
        return {**state, **{key: part.learn(state[key], decision) for key, part in self._parts()}}

    def _own(self) -> list[tuple[str, Transform]]:
        """The transforms by the names of their states."""
        return [(str(i), t) for i, t in enumerate(self.transforms)]

    def _parts(self) -> list[tuple[str, Part]]:
        return [*self._own(), ("codec", self.codec)]


def _num_noises(codec: Codec) -> int:
    own = sum(isinstance(t, Noise) for t in codec.transforms) if isinstance(codec, Chain) else 0
    return own + (_num_noises(codec.codec) if isinstance(codec, WrapperCodec) else 0)


def chain(*parts: Transform | Codec) -> Codec:
    """`chain(*transforms, codec)`: the codec behind the transforms, in order; nested chains are flattened."""
    if not parts or not isinstance(parts[-1], Codec) or any(isinstance(p, Codec) for p in parts[:-1]):
        raise ValueError(f"chain takes transforms and then exactly one codec; got {parts!r}.")
    transforms, codec = tuple(p for p in parts[:-1] if isinstance(p, Transform)), parts[-1]
    if isinstance(codec, Chain):
        transforms, codec = transforms + codec.transforms, codec.codec
    return Chain(transforms, codec) if transforms else codec


SAMPLES = (
    chain(Momentum(0.9), Sign()),
    chain(Noise(0.5), Sign()),
    chain(Noise(Relative()), Sign(zero="positive")),
    chain(Noise(Relative()), Sign(still=True)),
    chain(Clip(1.0), Ema(0.9), Noise(0.5, "logistic"), Sign("l1", "abstain")),
    chain(Momentum(0.9, nesterov=True), ErrorFeedback(Sign("l1"))),
    chain(Noise(Relative()), LionMomentum(), ErrorFeedback(Masked(0.5, Sign(0.1)))),
    ErrorFeedback(chain(Noise(0.1), Masked(0.5, Sign("l1")))),
)
