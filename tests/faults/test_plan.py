"""Which workers are faulty, where and when."""

import pytest
import torch

from gradvote.core import Context, Payload
from gradvote.faults import PLACES, Faulty, diverging, dropped, on_gradients, on_link
from gradvote.faults.drop import Drop
from gradvote.faults.invert import Invert
from gradvote.faults.nan import Nan
from gradvote.faults.rescale import Rescale

M = 7


def context(step=0, seed=5, num_workers=M):
    return Context(seed, step, torch.arange(2), torch.arange(num_workers)[:, None])


def hits(faulty, step=0, seed=5):
    return faulty.hits(context(step, seed), M).nonzero().flatten().tolist()


@pytest.mark.parametrize("num", range(M + 1))
@pytest.mark.parametrize("redraw", [False, True])
def test_as_many_as_asked_for(num, redraw):
    faulty = Faulty(Invert(), num=num, redraw=redraw)
    assert all(len(hits(faulty, step)) == num for step in range(20))


def test_drawn_once_or_afresh():
    fixed = [hits(Faulty(Invert(), num=2), step) for step in range(100)]
    assert all(hit == fixed[0] for hit in fixed)
    drawn = [hits(Faulty(Invert(), num=2, redraw=True), step) for step in range(200)]
    counts = torch.bincount(torch.tensor(drawn).flatten(), minlength=M)
    assert bool(((counts > 35) & (counts < 80)).all())  # 57 on average
    assert drawn == [hits(Faulty(Invert(), num=2, redraw=True), step) for step in range(200)]


def test_the_seed_draws_others():
    assert len({tuple(hits(Faulty(Invert(), num=2), seed=seed)) for seed in range(30)}) > 10


def test_a_retried_step_has_the_same_fixed_ones():
    ctx = context()
    again = Context(ctx.seed, ctx.step, ctx.block, ctx.sender, attempt=1)
    faulty = Faulty(Invert(), num=3)
    assert torch.equal(faulty.hits(ctx, M), faulty.hits(again, M))


def test_named_workers():
    assert hits(Faulty(Invert(), workers=(4, 1))) == [1, 4]
    assert hits(Faulty(Invert(), workers=())) == []


@pytest.mark.parametrize("place", PLACES)
def test_each_place_is_hit_by_its_own_faults_only(place):
    faults = [Faulty(Invert(), place, (2,))]
    x = torch.ones(M, 2, 3)
    payload = Payload(torch.ones(M, 2, dtype=torch.bool), {"values": x})
    changed = {
        "worker": on_gradients(faults, x, context(), M),
        "uplink": on_link(faults, "uplink", payload, context(), M)["values"],
        "downlink": on_link(faults, "downlink", payload, context(), M)["values"],
    }
    expected = {"both": {"uplink", "downlink"}}.get(place, {place})
    for where, values in changed.items():
        inverted = x.clone()
        inverted[2] = -1 if where in expected else 1
        assert torch.equal(values, inverted)
    assert diverging(faults) == (place in ("downlink", "both"))


def test_what_a_link_does_to_each_plane():
    """Scales and noise scales stay magnitudes, second bit planes stay as they are."""
    planes = {
        "bits": torch.full((M, 2, 1), 5, dtype=torch.int64),
        "nonzero": torch.full((M, 2, 1), 7, dtype=torch.int64),
        "scale": torch.full((M, 2, 1), 2.0),
        "values": torch.full((M, 2, 3), 2.0, dtype=torch.bfloat16),
    }
    payload = Payload(torch.ones(M, 2, dtype=torch.bool), planes)
    found = on_link([Faulty(Rescale(-3.0), "uplink", (0,))], "uplink", payload, context(), M)
    assert found["bits"][0, 0, 0] == ~5 and found["nonzero"][0, 0, 0] == 7
    assert found["scale"][0, 0, 0] == 6 and found["values"][0, 0, 0] == -6
    assert found["values"].dtype == torch.bfloat16
    for name, plane in planes.items():
        assert torch.equal(found[name][1:], plane[1:])


def test_faults_add_up_in_their_order():
    x = torch.ones(M, 2, 3)
    faults = [Faulty(Rescale(2.0), workers=(0, 1)), Faulty(Invert(), workers=(1, 2))]
    assert on_gradients(faults, x, context(), M)[:, 0, 0].tolist() == [2, -2, -1, 1, 1, 1, 1]


def test_dropped():
    faults = [Faulty(Drop(), "uplink", (1,)), Faulty(Drop(), "both", (2,)), Faulty(Drop(), "downlink", (3,))]
    faults += [Faulty(Drop(), "worker", (4,)), Faulty(Nan(), "both", (5,))]
    assert dropped(faults, "uplink", context(), M).nonzero().flatten().tolist() == [1, 2]
    assert dropped(faults, "downlink", context(), M).nonzero().flatten().tolist() == [2, 3]


def test_mistakes():
    with pytest.raises(ValueError, match="no place of a fault named 'up'"):
        Faulty(Invert(), "up")
    with pytest.raises(ValueError, match="must not be negative; got -1"):
        Faulty(Invert(), num=-1)
    with pytest.raises(ValueError, match="There is no worker 7: the workers are 0 to 6"):
        Faulty(Invert(), workers=(7,)).check(M)
    with pytest.raises(ValueError, match="There is no worker -1"):
        Faulty(Invert(), workers=(-1,)).check(M)
    with pytest.raises(ValueError, match="8 faulty workers were asked for, but there are only 7"):
        Faulty(Invert(), num=8).check(M)
