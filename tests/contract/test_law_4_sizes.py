"""Law 4: sizes are known beforehand and are what the formulas say; padding enters nothing."""

import pytest
import torch

from gradvote import algorithms
from gradvote.core import SERVER, Algorithm, Codec, Context, Payload
from gradvote.layout import layout_of, unit_of
from gradvote.transforms import Relative
from gradvote.wire import HEADER_BYTES, body_bytes, pack, unpack
from tests.contract.parts import CODECS, PLAIN, context, flat, same, updates

MODELS = {
    "one tensor of 100,000": (0.03, (100_000,)),
    "784-128-10": (0.03, (784 * 128, 128, 1280, 10)),
    "one tensor of 10,000": (0.15, (10_000,)),
    "80-128-10": (0.15, (80 * 128, 128, 1280, 10)),
}


def measured(algorithm: Algorithm, numels: tuple[int, ...]) -> tuple[int, int]:
    """Bytes of a worker's ballot and of the decision, flags and scales included."""
    layout, up, down, up_planes, down_planes = layout_of(numels, algorithm.block_size), [], [], [], []
    for n, group in ((g.n, g) for g in layout.groups):
        x = updates(len(group.blocks), n)
        ctx = Context(1, 0, group.block_on(x.device), 0)
        ballot, _ = algorithm.encode(x, algorithm.up.init(x), ctx)
        many = Payload(ballot.valid[None], {k: p[None] for k, p in ballot.planes.items()})
        decision, _ = algorithm.combine(
            many,
            algorithm.down.init(x),
            Context(1, 0, group.block_on(x.device), torch.zeros(1, 1, dtype=torch.int64)),
            n,
        )
        up, down = [*up, ballot], [*down, decision]
        up_planes.append(algorithm.up.planes(n, ctx))
        down_planes.append((*algorithm.down.planes(n, ctx.as_server()), *algorithm.up.reports))
    return len(pack(up, up_planes)), len(pack(down, down_planes))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", PLAIN)
def test_measured_bytes_follow_the_formula(name: str, model: str) -> None:
    tolerance, numels = MODELS[model]
    told = algorithms.facts(name)
    for bits, scales, found in zip(told.bits, told.scales, measured(PLAIN[name], numels), strict=True):
        formula = (bits * sum(numels) + 32 * scales * len(numels)) / 8
        assert abs(found / formula - 1) < tolerance
        if tolerance == 0.03:
            assert abs((found + HEADER_BYTES) / formula - 1) < tolerance, "also with the header of the message"


@pytest.mark.parametrize("name", ["signsgd", "signum", "lion"])
def test_abstaining_zeros_cost_a_second_bit(name: str) -> None:
    for found in measured(algorithms.create(name, zero="abstain"), (100_000,)):
        assert abs(found / (2 * 100_000 / 8) - 1) < 0.03


@pytest.mark.parametrize("name", ["signsgd", "signum", "lion"])
def test_units_of_zeros_cost_a_bit_each(name: str) -> None:
    """One in 64 coordinates, or one for each row that is shorter or not aligned; none of it without them."""
    for columns, unit in ((64, 64), (1024, 64), (1000, 1000), (100, 100), (48, 48), (16, 16)):
        layout = layout_of((1024 * columns,), 16384, (unit_of((1024, columns)),))
        algorithm = algorithms.create(name)
        for codec in (algorithm.up, algorithm.down):
            planes = [codec.planes(g.n, Context(1, 0, g.block, 0, units=g.units)) for g in layout.groups]
            bits = 8 * body_bytes(planes, [len(g.blocks) for g in layout.groups]) / layout.size
            assert 1 + 1 / unit <= bits < 1 + 1 / unit + 0.01
    assert all(
        abs(8 * found / 100_000 - 1) < 0.004 for found in measured(algorithms.create(name, still=False), (100_000,))
    )


def test_noise_is_free_and_relative_noise_costs_a_number_per_block() -> None:
    plain, still = measured(algorithms.signsgd(still=False), (100_000,)), measured(PLAIN["signsgd"], (100_000,))
    blocks = -(-100_000 // 16384)
    assert measured(algorithms.create("noisy-signsgd"), (100_000,)) == plain
    relative = measured(algorithms.create("noisy-signsgd", noise_std=Relative()), (100_000,))
    assert relative == tuple(bytes_ + 4 * blocks for bytes_ in still)


@pytest.mark.parametrize("n", [1, 7, 65, 200])
@pytest.mark.parametrize("codec", flat(CODECS))
def test_sizes_do_not_depend_on_data(codec: Codec, n: int) -> None:
    """Also zeros and NaN have the announced size."""
    ctx, expected = context(), None
    for x in (updates(3, n), torch.zeros(3, n), torch.full((3, n), torch.nan)):
        payload, _ = codec.encode(x, codec.init(x), ctx)
        planes = codec.planes(n, ctx)
        assert {p.name for p in planes} == payload.planes.keys()
        assert all(payload[p.name].dtype == p.dtype for p in planes)
        found = len(pack([payload], [planes]))
        assert found == body_bytes([planes], [3]) == (expected or found)
        expected = found


@pytest.mark.parametrize("n", [7, 65, 130])
@pytest.mark.parametrize("codec", flat(CODECS))
def test_garbage_in_padding_bits_changes_nothing(codec: Codec, n: int) -> None:
    """Bits beyond a block's own are no votes, and are zero when sent honestly."""
    ctx, x = context(), updates(3, n)
    x[:, -1] = 1.0
    payload, _ = codec.encode(x, codec.init(x), ctx)
    spoiled, untouched = {}, codec.decode(payload, ctx, n)
    for plane in codec.planes(n, ctx):
        spoiled[plane.name] = payload[plane.name]
        if plane.dtype == torch.int64:
            used = _used_bits(codec, plane.name, payload, ctx, n)
            assert not bool((payload[plane.name] & ~used).any())
            spoiled[plane.name] = payload[plane.name] | ~used
    assert same(codec.decode(Payload(payload.valid, spoiled), ctx, n), untouched)


def _used_bits(codec: Codec, name: str, payload: Payload, ctx: Context, n: int) -> torch.Tensor:
    """Words of the bits that carry a coordinate: those whose change shows in the decoded vector."""
    words = payload[name]
    loud = {k: torch.ones_like(p) if k == "scale" else p for k, p in payload.planes.items()}
    if name != "still" and "still" in loud:
        loud["still"] = torch.zeros_like(loud["still"])
    if name == "bits" and "nonzero" in loud:
        loud["nonzero"] = torch.full_like(loud["nonzero"], -1)
    payload = Payload(payload.valid, loud)
    used, before = torch.zeros_like(words), codec.decode(payload, ctx, n)
    for word in range(words.shape[-1]):
        for bit in range(64):
            flip = torch.zeros_like(words)
            flip[..., word] = 1 << bit if bit < 63 else -(2**63)
            changed = codec.decode(Payload(payload.valid, {**payload.planes, name: words ^ flip}), ctx, n)
            used |= torch.where((changed != before).any(-1)[..., None], flip, 0)
    return used


@pytest.mark.parametrize("codec", flat(CODECS))
def test_rows_survive_the_wire(codec: Codec) -> None:
    for n in (1, 65, 200):
        ctx, x = context(), updates(3, n)
        payload, _ = codec.encode(x, codec.init(x), ctx)
        planes = codec.planes(n, ctx)
        (arrived,) = unpack(pack([payload], [planes]), [planes], [3])
        assert same(arrived.valid, payload.valid)
        assert same(codec.decode(codec.check(arrived, n), ctx, n), codec.decode(payload, ctx, n))


def test_the_server_is_a_sender_like_any_other() -> None:
    assert context().as_server().sender == SERVER
