"""What an exchange keeps between steps and needs within one: counted in bytes of live tensors, for each parameter."""

import gc
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

import gradvote
from gradvote import algorithms, staging
from gradvote.distributed import Exchange
from gradvote.engines.common.ballot import Ballot
from gradvote.engines.common.protocol import Protocol
from gradvote.engines.common.replica import Replica
from gradvote.engines.common.slot import Slot
from gradvote.engines.distributed import chunking, slices
from gradvote.engines.distributed import states as states_of
from gradvote.engines.distributed.part_round import PartRound
from gradvote.engines.distributed.transport import Transport

D, SLICE, BLOCK = 1 << 17, 1 << 14, 1 << 11
STATES = {"signsgd": 0, "signum": 4, "dist-ef-sgdm": 12, "dropsignsgd": 12, "mediansgd": 0}
"""Bytes of momentum and memories, of the worker and of a server for all."""
WITHIN = {"signsgd": 2.0, "signum": 2.5, "dist-ef-sgdm": 2.5, "dropsignsgd": 3.0}


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """A group of one rank in this process, whose states are cut into slices as those of large models are."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    with mock.patch.object(slices, "SLICE", SLICE):
        yield
    dist.destroy_process_group()


def exchange_of(name: str, **options: Any) -> tuple[nn.Parameter, Exchange]:
    p = nn.Parameter(torch.zeros(D))
    return p, Exchange([p], replace(algorithms.create(name), block_size=BLOCK), **{"chunks": 1, **options})


def step(p: nn.Parameter, exchange: Exchange, seed: int) -> None:
    p.grad = torch.randn(D, generator=torch.Generator().manual_seed(seed))
    exchange.step()


def live() -> float:
    """Bytes of all tensors that there are, for each parameter."""
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in _tensors() if x.is_cpu}
    return sum(storages.values()) / D


def _tensors() -> Iterator[Tensor]:
    return (x for x in gc.get_objects() if type(x) in (Tensor, nn.Parameter))


@pytest.mark.parametrize("state_dtype", [None, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", STATES)
def test_states_exist_once_but_for_a_slice(name: str, state_dtype: torch.dtype | None) -> None:
    """In bfloat16 they are half, and what is float32 for the time of a step is that of a slice."""
    gc.collect()
    before = live()
    p, exchange = exchange_of(name, state_dtype=state_dtype)
    own = 8  # parameter and gradient
    states = STATES[name] if state_dtype is None else STATES[name] / 2
    step(p, exchange, 0)
    deadline = time.monotonic() + 5  # a thread that is not run at once still has in hand what it sent last
    while (kept := live() - before - own) > states + 0.5 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert kept <= states + 0.5
    if name not in WITHIN:
        return
    calls, found, verbs = [], [], {verb: getattr(Protocol, verb) for verb in ("encode", "combine", "decode_to")}

    def watched(verb: str) -> Any:
        def call(*args: Any) -> Any:
            result = verbs[verb](*args)
            calls.append(verb)
            if len(calls) % 3 == 0:
                found.append(live())
            return result

        return call

    with mock.patch.multiple(Protocol, **{verb: watched(verb) for verb in verbs}):
        step(p, exchange, 2)
    assert len(calls) > 3 * (STATES[name] > 0)
    assert max(found) - before - own <= states + WITHIN[name]


@pytest.mark.parametrize("name", ["mediansgd", "sgd", "ef-signsgd"])
def test_of_dense_ballots_and_decisions_only_a_few_chunks_are_there(name: str) -> None:
    """Of ballots and decisions two each are sent and two received, beside what is read: ten copies of a chunk."""
    gc.collect()
    before = live()
    with mock.patch.object(chunking, "DENSE", SLICE):
        p, exchange = exchange_of(name, chunks=None)
    step(p, exchange, 0)
    kept, found, send = live(), list[float](), Transport._send

    def watched(*args: Any, **options: Any) -> Any:
        found.append(live())
        return send(*args, **options)

    with mock.patch.object(Transport, "_send", watched), mock.patch.object(staging, "APART", 1):
        step(p, exchange, 1)
    assert len(found) == 2 * D / SLICE
    assert kept - before < 8 + 4 * (name == "ef-signsgd") + 0.5
    chunk = 4 * 3 / 20  # of eight, the first and the last are a third of the others
    assert max(found) - kept < 10 * chunk


@pytest.mark.parametrize("state_dtype", [None, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_a_checkpoint_needs_no_second_copy(state_dtype: torch.dtype | None, tmp_path: Path) -> None:
    """Saved as views of the states themselves; loaded from a file, slice by slice, without the old ones beside."""
    p, exchange = exchange_of("dropsignsgd", state_dtype=state_dtype)
    step(p, exchange, 0)
    gc.collect()
    before = live()
    saved = exchange.state_dict(views=True)
    assert live() - before < 0.1
    assert all(len(own["codec.memory"]) > 2 for own in saved["worker"].values()), "the states are of several slices"
    torch.save(saved, tmp_path / "vote.pt")
    states = STATES["dropsignsgd"] / (1 if state_dtype is None else 2)
    assert (tmp_path / "vote.pt").stat().st_size < (states + 0.3) * D
    whole = exchange.state_dict()
    step(p, exchange, 1)
    after = p.grad
    for state in (saved, whole, torch.load(tmp_path / "vote.pt", weights_only=True)):
        exchange.load_state_dict(state)
        step(p, exchange, 1)
        assert torch.equal(p.grad, after)  # type: ignore[arg-type]  # it has one
    del saved, whole, state
    read = torch.load(tmp_path / "vote.pt", weights_only=True, mmap=True)
    gc.collect()
    before, found, stacked = live(), [], states_of._stacked

    def watched(*args: Any) -> Tensor:
        found.append(live())
        return stacked(*args)

    with mock.patch.object(states_of, "_stacked", watched):
        exchange.load_state_dict(read)
        step(p, exchange, 1)
    assert len(found) > 10 and max(found) - before < WITHIN["dropsignsgd"]
    assert torch.equal(p.grad, after)  # type: ignore[arg-type]  # it has one


def test_pieces_that_do_not_fit_are_refused() -> None:
    p, exchange = exchange_of("signum")
    step(p, exchange, 0)
    saved = exchange.state_dict(views=True)
    pieces = saved["worker"]["0"]["0.momentum"]
    for wrong in (pieces[:-1], [*pieces[:-1], pieces[-1][:-1]], [*pieces, pieces[0]]):
        saved["worker"]["0"]["0.momentum"] = wrong
        with pytest.raises(ValueError, match=r"0\.momentum of the checkpoint has .* numbers for 64 blocks"):
            exchange.load_state_dict(saved)


def test_a_step_that_fails_half_way_is_said_and_mended_by_a_checkpoint() -> None:
    p, exchange = exchange_of("dist-ef-sgdm")
    step(p, exchange, 0)
    saved = exchange.state_dict()
    with mock.patch.object(PartRound, "hear", side_effect=OSError("the cable")), pytest.raises(OSError, match="cable"):
        step(p, exchange, 1)
    for action in (exchange.state_dict, lambda: step(p, exchange, 1)):
        with pytest.raises(RuntimeError, match=r"Step 1 failed on this rank .* Load a checkpoint"):
            action()
    exchange.load_state_dict(saved)
    step(p, exchange, 1)
    assert p.grad is not None
    other, again = exchange_of("dist-ef-sgdm")
    for seed in range(2):
        step(other, again, seed)
    assert torch.equal(p.grad, other.grad)  # type: ignore[arg-type]  # it has one


@pytest.mark.parametrize("where", ["vote", "hear"])
def test_where_nothing_was_replaced_a_failed_step_is_taken_again(where: str) -> None:
    """Before the first slice, or of an algorithm without states."""
    name = "dist-ef-sgdm" if where == "vote" else "signsgd"
    p, exchange = exchange_of(name)
    step(p, exchange, 0)
    with mock.patch.object(PartRound, where, side_effect=OSError("the cable")), pytest.raises(OSError, match="cable"):
        step(p, exchange, 1)
    saved = exchange.state_dict()
    assert saved["step"] == 1
    step(p, exchange, 1)


def test_an_overflow_changes_no_state_and_sends_nothing() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    p, exchange = exchange_of("dist-ef-sgdm", scaler=scaler)
    scaler.scale(torch.ones(()))
    step(p, exchange, 0)
    before, sent = exchange.state_dict(), exchange.stats().steps
    p.grad = torch.full((D,), torch.inf)
    exchange.step()
    after = exchange.state_dict()
    for side in ("worker", "server"):
        for name, tensor in before[side]["0"].items():
            assert torch.equal(tensor, after[side]["0"][name]), name
    assert exchange.stats().steps == sent and after["step"] == before["step"] + 1


def test_an_elastic_worker_lets_go_of_a_rounds_ballots() -> None:
    """What those who are behind may ask for is kept as bytes, not as the ballots of the round."""
    model, made, vote_on = nn.Linear(8, 8), list[weakref.ref[Ballot]](), Replica.vote

    def watched(replica: Replica, slot: Slot) -> Ballot:
        ballot = vote_on(replica, slot)
        made.append(weakref.ref(ballot))
        return ballot

    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options: dict[str, Any] = {"min_workers": 1, "worker": 0, "workers": 1, "store": HashStore()}
    for placement in ("replicated", "sharded"):
        with (
            mock.patch.object(Replica, "vote", watched),
            gradvote.elastic.attach(model, optimizer, algorithms.signsgd(), placement=placement, **options) as vote,
        ):
            model(torch.ones(1, 8)).sum().backward()
            vote.step()
            gc.collect()
            assert made.pop()() is None
        options["store"] = HashStore()
        optimizer.zero_grad()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Page faults are counted as Linux counts them.")
@pytest.mark.parametrize("name", ["signum", "dist-ef-sgdm", "dropsignsgd"])
def test_a_step_asks_the_system_for_hardly_any_page(name: str) -> None:
    """New pages cost more than the work on them: what a slice no longer needs serves the next one."""
    import resource  # Linux only

    d = 5 << 20
    p = nn.Parameter(torch.zeros(d))
    with mock.patch.object(slices, "SLICE", 1 << 20):
        exchange = Exchange([p], replace(algorithms.create(name), block_size=1 << 14), chunks=1)
        asked = []
        for _ in range(6):
            p.grad = torch.ones(d)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            exchange.step()
            asked.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    states = STATES[name] * d // resource.getpagesize()
    assert min(asked) < states / 10, f"pages asked for by each step: {asked}, of {states} of its states"


@pytest.mark.parametrize("name", [*WITHIN])
def test_gradients_in_several_tensors_are_read_and_written_where_they_are(name: str) -> None:
    """A vector of a chunk's coordinates, which they would be copied into and out of, is made by those that need one."""
    params = [nn.Parameter(torch.zeros(n)) for n in (700, 64, 3000, 65, 1)]
    exchanges = [Exchange(params, algorithms.create(name), chunks=1) for _ in range(2)]
    found = []
    for exchange, dtype in zip(exchanges, (torch.float32, torch.bfloat16), strict=True):
        for k, p in enumerate(params):
            p.grad = None
            p.grad_dtype = dtype
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(k)).bfloat16().to(dtype)
        exchange.step()
        found.append([p.grad.float() for p in params if p.grad is not None])
    assert [len(exchange._buffer._flat) for exchange in exchanges] == [0, sum(p.numel() for p in params)]
    assert all(torch.equal(a.bfloat16().float(), b) for a, b in zip(*found, strict=True))
