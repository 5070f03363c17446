"""Transforms before a codec."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradvote.codecs.error_feedback import ErrorFeedback
from gradvote.codecs.fusion import fuses
from gradvote.codecs.masked import Masked
from gradvote.codecs.sign import Sign
from gradvote.core import Aggregator, Codec, Context, Part, Payload, Plane, State, Transform
from gradvote.kernels import Inertia
from gradvote.transforms.clip import Clip
from gradvote.transforms.momentum import Ema, LionMomentum, Momentum
from gradvote.transforms.noise import Noise, Relative


@dataclass(frozen=True, repr=False)
class Chain(Codec):
    """Transforms applied in order, then a codec."""

    transforms: tuple[Transform, ...]
    codec: Codec

    def __post_init__(self) -> None:
        if _num_noises(self) > 1:
            raise ValueError(
                "A codec can add noise once: a second Noise would repeat the draws of the first. "
                "Choose one position, and the standard deviation wanted in all."
            )

    def __repr__(self) -> str:
        return f"chain({', '.join(map(repr, (*self.transforms, self.codec)))})"

    def init(self, like: Tensor) -> State:
        states = {str(i): t.init(like) for i, t in enumerate(self.transforms)}
        return {**states, "codec": self.codec.init(like)}

    def planes(self, n: int, ctx: Context) -> tuple[Plane, ...]:
        report = (Plane("report", torch.float32, 1),) if self._exchanging() else ()
        return (*self.codec.planes(n, ctx), *report)

    def encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        payload, state = self._encode(x, state, ctx)
        found = self._exchanging()
        if found is None:
            return payload, state
        return replace(payload, planes={**payload.planes, "report": state[found[0]]["own"][..., None]}), state

    def _encode(self, x: Tensor, state: State, ctx: Context) -> tuple[Payload, State]:
        new = dict(state)
        *before, last = self.transforms
        for i, transform in enumerate(before):
            x, new[str(i)] = transform(x, state[str(i)], ctx)
        payload, new[str(len(before))], new["codec"] = self._end(last, x, state[str(len(before))], state["codec"], ctx)
        return payload, new

    def _end(
        self, last: Transform, x: Tensor, state: State, inner: State, ctx: Context
    ) -> tuple[Payload, State, State]:
        """The last transform and the codec, in one pass where that is the same."""
        codec = self.codec
        if isinstance(last, Noise) and isinstance(codec, Sign) and codec.takes_noise:
            std, state = last.std_of(x, state)
            return codec.encode_noisy(x, std, last.distribution, ctx), state, inner
        if type(last) is Momentum and isinstance(codec, ErrorFeedback):
            inertia = Inertia(state["momentum"], last.mu, last.nesterov)
            if fuses(codec.codec, x, codec.unsent(inner), inertia.momentum):
                payload, inner, momentum = codec.encode_moving(x, inertia, inner, ctx)
                return payload, {"momentum": momentum}, inner
        x, state = last(x, state, ctx)
        payload, inner = codec.encode(x, inner, ctx)
        return payload, state, inner

    def decode(self, payload: Payload, ctx: Context, n: int) -> Tensor:
        return self.codec.decode(payload, ctx, n)

    def decode_into(self, payload: Payload, ctx: Context, n: int, out: Tensor) -> None:
        self.codec.decode_into(payload, ctx, n, out)

    def check(self, payload: Payload, n: int) -> Payload:
        payload = self.codec.check(payload, n)
        if self._exchanging() is None:
            return payload
        report = payload["report"][..., 0]
        return replace(payload, valid=payload.valid & report.isfinite() & (report >= 0))

    def reduce(self, payload: Payload, aggregator: Aggregator, ctx: Context, n: int) -> Tensor:
        return self.codec.reduce(payload, aggregator, ctx, n)

    def elect(self, payload: Payload, aggregator: Aggregator, down: Codec, ctx: Context, n: int) -> Payload | None:
        return self.codec.elect(payload, aggregator, down, ctx, n)

    def undelivered(self, state: State, payload: Payload, ctx: Context, n: int) -> State:
        return {**state, "codec": self.codec.undelivered(state["codec"], payload, ctx, n)}

    def unsent(self, state: State) -> Tensor | None:
        held = [part.unsent(state[key]) for key, part in self._parts()]
        known = [own for own in held if own is not None]
        return sum(known[1:], known[0]) if known else None

    def mirrored(self, state: State) -> Tensor | None:
        return self.codec.mirrored(state["codec"])

    def merge(self, own: State, other: State) -> State:
        return {**own, **{key: part.merge(own[key], other[key]) for key, part in self._parts()}}

    def _parts(self) -> list[tuple[str, Part]]:
        """The parts by the names of their states."""
        return [*((str(i), t) for i, t in enumerate(self.transforms)), ("codec", self.codec)]

    def _exchanging(self) -> tuple[str, Noise] | None:
        for i, transform in enumerate(self.transforms):
            if isinstance(transform, Noise) and transform.relative:
                return str(i), transform
        return None

    @property
    def reports(self) -> bool:
        return self._exchanging() is not None or self.codec.reports

    def agree(self, reports: Tensor, valid: Tensor) -> Tensor:
        found = self._exchanging()
        return found[1].agree(reports, valid) if found else self.codec.agree(reports, valid)

    def learn(self, state: State, agreed: Tensor) -> State:
        found = self._exchanging()
        if found is None:
            return {**state, "codec": self.codec.learn(state["codec"], agreed)}
        return {**state, found[0]: found[1].learn(state[found[0]], agreed)}


def _num_noises(codec: Codec) -> int:
    own = sum(isinstance(t, Noise) for t in codec.transforms) if isinstance(codec, Chain) else 0
    inner = getattr(codec, "codec", None)
    return own + (_num_noises(inner) if isinstance(inner, Codec) else 0)


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
