"""A handle that is printed says in one line what runs and where it stands; it never raises, and asks nobody."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

import gradvote
from gradvote.algorithms import signsgd, signum
from gradvote.distributed import Exchange
from gradvote.engines.common.handles import Handle
from gradvote.engines.common.protocol import protocol_for
from gradvote.engines.ddp import DDPVote
from gradvote.engines.elastic.vote import ElasticVote
from gradvote.engines.fragments import Fragments
from gradvote.engines.fsdp.vote import FSDPVote
from gradvote.engines.local_steps import LocalSteps
from gradvote.engines.simulation import Simulation
from gradvote.engines.torchft.vote import TorchftVote
from tests.forked import spawn

KINDS = [Exchange, DDPVote, FSDPVote, ElasticVote, TorchftVote, LocalSteps, Fragments]


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_was_never_built_is_printed_too(kind: type) -> None:
    assert issubclass(kind, Handle)
    assert repr(object.__new__(kind)) == f"<{kind.__name__}>"


def test_handles_say_what_runs_and_where_they_stand() -> None:
    for rank, found in enumerate(spawn(printed, 2)):
        at, what = f"rank {rank} of 2", repr(signum())
        assert found["exchange"] == f"<Exchange: {at}, step 1, sharded; {what}>"
        assert found["ddp"] == f"<DDPVote: {at}, step 1, replicated; {what}>"
        inside = f"<ExchangeOfStarts: {at}, step 0, sharded; Algorithm(up=AfterSteps("
        assert found["local"].startswith(f"<LocalSteps: round 0, 3 of 4 steps to go; {inside}")
        first = f"<LocalSteps: round 0, 4 of 4 steps to go; {inside}"
        assert found["fragments"].startswith(f"<Fragments: 2 parts, of which the first is; {first}")
        assert not any("\n" in text for text in found.values())


def printed() -> dict[str, str]:
    assert dist.is_initialized()
    model = nn.Linear(3, 2)
    exchange = Exchange(model.named_parameters(), signum())
    model(torch.ones(1, 3)).sum().backward()
    exchange.step()
    ddp = DistributedDataParallel(nn.Linear(3, 2))
    vote = gradvote.ddp.attach(ddp, signum(), placement="replicated")
    ddp(torch.ones(1, 3)).sum().backward()
    alone = nn.Linear(3, 2)
    inner = SGD(alone.parameters(), 0.1)
    local = gradvote.local_steps.attach(alone, inner, signum(), every=4, outer=lambda p: SGD(p, 0.1))
    alone(torch.ones(1, 3)).sum().backward()
    inner.step()
    local.step()
    other = nn.Linear(3, 2)
    inside = SGD(other.parameters(), 0.1)
    parts = gradvote.local_steps.attach_fragments(
        other, inside, signum(), every=4, outer=lambda p: SGD(p, 0.1), fragments=2
    )
    return {"exchange": repr(exchange), "ddp": repr(vote), "local": repr(local), "fragments": repr(parts)}


def stood_in(kind: type, **inside: Any) -> str:
    vote: Any = object.__new__(kind)
    vars(vote).update(inside)
    return repr(vote)


def test_those_of_engines_that_need_others() -> None:
    replica = SimpleNamespace(number=2, protocol=protocol_for([torch.ones(3)], signsgd(), 0))
    node = SimpleNamespace(me=replica, slot=SimpleNamespace(step=7), members={2: replica})
    elastic = stood_in(ElasticVote, _node=node, _server=SimpleNamespace(replica=replica))
    assert elastic == f"<ElasticVote: worker 2, members (2,), step 7; {signsgd()!r}>"
    manager = SimpleNamespace(current_step=lambda: 9)
    assert (
        stood_in(TorchftVote, _manager=manager, _replica=replica) == f"<TorchftVote: worker 2, step 9; {signsgd()!r}>"
    )
    session = SimpleNamespace(told=lambda: ("rank 0 of 2, step 3, sharded", signsgd()))
    assert stood_in(FSDPVote, _session=session) == f"<FSDPVote: replica 0 of 2, step 3, sharded; {signsgd()!r}>"


def test_a_simulation_is_printed_without_its_states() -> None:
    text = repr(Simulation(protocol_for([torch.ones(3)], signum(), 0), 3))
    assert "tensor(" not in text and "num_workers=3" in text


def test_a_strategy_says_its_round_and_rule() -> None:
    flower = pytest.importorskip("gradvote.flower")
    assert repr(flower.GradVote(signsgd())) == f"<GradVote: after round 0; {signsgd()!r}>"
    assert repr(object.__new__(flower.GradVote)) == "<GradVote>"
