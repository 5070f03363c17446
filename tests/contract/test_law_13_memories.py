"""Law 13: memories say themselves what they hold, and how two become one. Nothing is lost.

Error feedback: sent + unsent == input + unsent before (of a fading memory the share `keeps`), delivered or not, and no
step is taken at a zero rate. p − sent and then + sent rounds twice, so the sums agree to a few units in the last place
of the larger one. Estimates that both ends keep: mirrored == what was delivered in all, at any rate. A state that is
neither does not change when nothing is delivered or somebody leaves.
"""

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from gradvote.codecs import Chain, ErrorFeedback, chain
from gradvote.core import Codec, Context, State, Transform
from gradvote.transforms import Momentum
from tests.contract.parts import (
    ALGORITHMS,
    CODECS,
    TRANSFORMS,
    context,
    flat,
    mirrors,
    remembers,
    same,
    senders,
    updates,
)
from tests.plugins.ef21_plugin.codecs.ef21 import SAMPLES as ESTIMATES

M, B, N = 3, 2, 70
FEEDBACK = CODECS[ErrorFeedback]
EVERY: list[Codec] = list(
    dict.fromkeys(
        [c for group in CODECS.values() for c in group] + [h for a in ALGORITHMS.values() for h in (a.up, a.down)]
    )
)


REMEMBERING = [c for c in EVERY if remembers(c)]
MIRRORING = [c for c in [*EVERY, *ESTIMATES, chain(Momentum(0.9), ESTIMATES[0])] if mirrors(c)]
FORGETTING = [c for c in EVERY if not remembers(c) and not mirrors(c)]


def held(codec: Codec, state: State) -> Tensor:
    found = codec.unsent(state)
    assert found is not None
    return found


def close(a: Tensor, b: Tensor, size: Tensor, rounded: Tensor | float = 0.0) -> bool:
    return bool(((a - b).abs() <= 4e-7 * (size.abs() + b.abs()) + rounded).all())


def after(codec: Codec, steps: int = 2, seed: int = 0, lr: float = 0.1) -> State:
    state = codec.init(torch.zeros(M, B, N))
    for step in range(steps):
        _, state = codec.encode(updates(M, B, N, seed=seed + step), state, context(senders(M), B, step, lr))
    return state


def entering(codec: Codec, x: Tensor, state: State, ctx: Context) -> Tensor:
    """What is to be sent of x: behind the momentum and the noise."""
    if isinstance(codec, Chain):
        for i, transform in enumerate(codec.transforms):
            x, _ = transform(x, deepcopy(state[str(i)]), ctx)
    return x


def due(codec: Codec, state: State, x: Tensor, ctx: Context) -> Tensor:
    """All that is to be sent in a round, or later."""
    payload, state = codec.encode(x, deepcopy(state), ctx)
    return codec.decode(payload, ctx, N) + held(codec, state)


def test_algorithms_with_a_memory_are_found() -> None:
    found = {name for name, a in ALGORITHMS.items() if remembers(a.up)}
    assert found >= {name for name, a in ALGORITHMS.items() if "ErrorFeedback" in repr(a.up)}
    assert found.isdisjoint(name for name, a in ALGORITHMS.items() if a.mirrors)
    assert len(found) > 9 and len(FORGETTING) > 20


@pytest.mark.parametrize("codec", REMEMBERING, ids=repr)
def test_sent_and_unsent_are_the_input(codec: Codec) -> None:
    state, ctx, x = after(codec), context(senders(M), B, 2), updates(M, B, N, seed=2)
    new, before = entering(codec, x, state, ctx), held(codec, state) * codec.keeps
    payload, state = codec.encode(x, state, ctx)
    sent, left = codec.decode(payload, ctx, N), held(codec, state)
    assert bool(before.any()) and bool(left.any())
    assert close(sent + left, new + before, sent.abs() + new.abs() + before.abs(), codec.precision * left.abs())
    kept = codec.undelivered(deepcopy(state), payload, ctx, N)
    assert close(held(codec, kept), left + sent, sent, codec.precision * (left + sent).abs()) and not same(
        held(codec, kept), left
    )
    assert same(without(kept, held(codec, kept)), without(state, held(codec, state)))


@pytest.mark.parametrize("codec", REMEMBERING, ids=repr)
def test_an_abstention_keeps_what_is_unsent(codec: Codec) -> None:
    state, ctx, x = after(codec), context(senders(M), B, 2), updates(M, B, N, seed=2)
    before = held(codec, state).clone()
    x[1] = torch.nan
    payload, state = codec.encode(x, state, ctx)
    assert same(held(codec, state)[1], before[1])
    assert same(held(codec, codec.undelivered(state, payload, ctx, N))[1], before[1])


@pytest.mark.parametrize("codec", REMEMBERING, ids=repr)
def test_two_memories_become_one(codec: Codec) -> None:
    """Both are sent on, and nothing else of the other is: momenta and all other states stay one's own."""
    own, other, fresh = after(codec), after(codec, seed=7), codec.init(torch.zeros(M, B, N))
    total = held(codec, own) + held(codec, other)
    merged = codec.merge(deepcopy(own), deepcopy(other))
    assert same(held(codec, merged), total), "rounded to the nearest, as torch adds"
    assert same(without(merged, held(codec, merged)), without(own, held(codec, own)))
    assert same(codec.merge(own, fresh), own)
    assert same(held(codec, codec.merge(fresh, other)), held(codec, other))


@pytest.mark.parametrize("codec", REMEMBERING, ids=repr)
def test_memories_of_other_rates_become_one(codec: Codec) -> None:
    """Merged now or sent later by the one who leaves: η·unsent, what the parameters still have to get, is the same."""
    own, other, fresh = after(codec, lr=0.1), after(codec, seed=7, lr=0.03), codec.init(torch.zeros(M, B, N))
    ctx, x, nothing = context(senders(M), B, 2, 0.05), updates(M, B, N, seed=2), torch.zeros(M, B, N)
    inherited = due(codec, codec.merge(fresh, other), nothing, ctx) - due(codec, fresh, nothing, ctx)
    expected = due(codec, own, x, ctx) + inherited
    assert bool((inherited != 0).any())
    off = max(1e-5, 4 * codec.precision)
    torch.testing.assert_close(due(codec, codec.merge(own, other), x, ctx), expected, rtol=off, atol=off)


@pytest.mark.parametrize("codec", FORGETTING, ids=repr)
def test_without_a_memory_nothing_is_kept(codec: Codec) -> None:
    state, ctx = after(codec), context(senders(M), B, 2)
    payload, state = codec.encode(updates(M, B, N, seed=2), state, ctx)
    assert same(codec.undelivered(deepcopy(state), payload, ctx, N), state)
    assert same(codec.merge(deepcopy(state), after(codec, seed=7)), state)


def mirrored(codec: Codec, state: State) -> Tensor:
    found = codec.mirrored(state)
    assert found is not None and codec.unsent(state) is None, "what is mirrored owes nothing"
    return found.clone()


@pytest.mark.parametrize("codec", MIRRORING, ids=repr)
def test_the_receiver_has_what_is_mirrored(codec: Codec) -> None:
    """Whoever adds up what is delivered has the sender's estimate: lost payloads, abstentions and rates included."""
    state, total = codec.init(torch.zeros(M, B, N)), torch.zeros(M, B, N)
    size = total.clone()
    assert same(mirrored(codec, state), total)
    for step, lr in enumerate((0.1, 0.1, 0.0, 0.03, 0.3)):
        ctx, x = context(senders(M), B, step, lr), updates(M, B, N, seed=step)
        x[1] = torch.nan if step == 2 else x[1]
        payload, state = codec.encode(x, state, ctx)
        sent, lost = codec.decode(payload, ctx, N), step == 1
        assert bool(sent[0].any()) and payload.valid[1].tolist() == [step != 2] * B
        state = codec.undelivered(state, payload, ctx, N) if lost else state
        total, size = total + (0 if lost else sent), size + sent.abs()
        assert close(mirrored(codec, state), total, size)


@pytest.mark.parametrize("codec", MIRRORING, ids=repr)
def test_an_undelivered_payload_changes_nothing_but_what_is_mirrored(codec: Codec) -> None:
    state, ctx = after(codec), context(senders(M), B, 2)
    before = mirrored(codec, state)
    payload, state = codec.encode(updates(M, B, N, seed=2), state, ctx)
    kept = codec.undelivered(deepcopy(state), payload, ctx, N)
    assert not same(mirrored(codec, state), before)
    assert close(mirrored(codec, kept), before, codec.decode(payload, ctx, N))
    own, other = codec.mirrored(state), codec.mirrored(kept)
    assert own is not None and other is not None
    assert same(without(kept, other), without(state, own))
    assert same(codec.merge(deepcopy(state), after(codec, seed=7)), state)


def test_a_memory_that_hides_is_found_out() -> None:
    """Error feedback cannot pass for an estimate, nor an estimate for a part without a memory."""

    class Hidden(ErrorFeedback):
        def unsent(self, state: State) -> None:  # type: ignore[override]
            return None

        def mirrored(self, state: State) -> Tensor:
            return super().unsent(state)

    with pytest.raises(AssertionError):
        test_the_receiver_has_what_is_mirrored(Hidden(FEEDBACK[0].codec))

    class Silent(type(ESTIMATES[0])):  # type: ignore[misc]
        def mirrored(self, state: State) -> None:
            return None

    with pytest.raises(AssertionError):
        test_without_a_memory_nothing_is_kept(Silent(FEEDBACK[0].codec))


@pytest.mark.parametrize("transform", flat(TRANSFORMS))
def test_transforms_keep_nothing_back(transform: Transform) -> None:
    """A momentum is an average of what was passed on already."""
    state, other = (transform.init(updates(M, B, N, seed=seed)) for seed in (0, 1))
    assert transform.unsent(state) is None is transform.mirrored(state) and same(transform.merge(state, other), state)


def test_algorithms_ask_their_worker_half() -> None:
    algorithm = ALGORITHMS["dist-ef-sgdm"]
    a, b = after(algorithm.up), after(algorithm.up, seed=7)
    assert same(algorithm.unsent(a), algorithm.up.unsent(a))
    assert same(algorithm.merge(a, b), algorithm.up.merge(a, b))


@pytest.mark.parametrize("codec", FEEDBACK, ids=repr)
def test_a_memory_follows_the_rate(codec: ErrorFeedback) -> None:
    """p = x + (η_{t−1}/η_t)e = sent + e'."""
    state, last = codec.init(torch.zeros(M, B, N)), None
    for step, lr in enumerate((0.1, 0.1, 0.04, 0.3)):
        ctx, x = context(senders(M), B, step, lr), updates(M, B, N, seed=step)
        ratio = (last or lr) / lr if codec.track_lr else 1.0
        before = codec.unsent(state) * ratio
        payload, state = codec.encode(x, state, ctx)
        sent = codec.decode(payload, ctx, N)
        assert close(sent + codec.unsent(state), x + before, sent.abs() + x.abs() + before.abs())
        last = lr


@pytest.mark.parametrize("codec", [c for c in FEEDBACK if c.track_lr], ids=repr)
def test_a_zero_rate_leaves_the_memory_alone(codec: ErrorFeedback) -> None:
    """At η = 0 nothing reaches the model, so nothing was sent and nothing new is owed."""
    state = codec.encode(updates(M, B, N), codec.init(torch.zeros(M, B, N)), context(senders(M), B, 0, 0.1))[1]
    before, ctx = deepcopy(state), context(senders(M), B, 1, 0.0)
    payload, state = codec.encode(updates(M, B, N, seed=1), state, ctx)
    assert same(state["memory"], before["memory"])
    assert same(state["lr"], before["lr"])
    assert same(codec.undelivered(deepcopy(state), payload, ctx, N)["memory"], before["memory"])


@pytest.mark.parametrize("codec", [c for c in FEEDBACK if c.track_lr], ids=repr)
def test_each_block_keeps_its_own_ratio(codec: ErrorFeedback) -> None:
    rates = [torch.tensor([0.1, 0.0]), torch.tensor([0.05, 0.2]), torch.tensor([0.05, 0.1])]
    together = codec.init(torch.zeros(M, 2, N))
    alone = [codec.init(torch.zeros(M, 1, N)) for _ in range(2)]
    for step, lr in enumerate(rates):
        x, ctx = updates(M, 2, N, seed=step), context(senders(M), torch.tensor([4, 5]), step, lr)
        together = codec.encode(x, together, ctx)[1]
        for b in range(2):
            one = context(senders(M), torch.tensor([4 + b]), step, float(lr[b]))
            alone[b] = codec.encode(x[:, b : b + 1], alone[b], one)[1]
            assert same(together["memory"][:, b : b + 1], alone[b]["memory"])


def without(state: State, memory: Tensor) -> State:
    """The state apart from what is unsent."""
    return {k: without(v, memory) if isinstance(v, dict) else v for k, v in state.items() if v is not memory}
