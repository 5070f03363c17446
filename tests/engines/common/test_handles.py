"""What a handle of a vote refuses, in one sentence each: copies, and calls where it is a number."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from gradvote.distributed import Exchange
from gradvote.engines.common.handles import VOTES_BY_ITSELF, Behind, refuse_call
from gradvote.engines.ddp import DDPVote
from gradvote.engines.elastic.vote import ElasticVote
from gradvote.engines.fragments import Fragments
from gradvote.engines.fsdp.vote import FSDPVote
from gradvote.engines.local_steps import LocalSteps
from gradvote.engines.torchft.vote import TorchftVote


@pytest.mark.parametrize("kind", [Exchange, DDPVote, FSDPVote, ElasticVote, TorchftVote, LocalSteps, Fragments])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_handle_is_not_copied(kind: type, copied: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=rf"{kind.__name__} cannot be copied or pickled.* Save its state_dict\(\)"):
        copied({"vote": object.__new__(kind)} if copied is not copy.copy else object.__new__(kind))


def test_what_stands_in_a_model_is_left_out() -> None:
    behind = Behind(lambda: None)
    assert copy.deepcopy({"hook": behind}) == {"hook": None} == pickle.loads(pickle.dumps({"hook": behind}))


class Session:
    step = 7


def vote_of(kind: type) -> object:
    vote = object.__new__(kind)
    vote._session = Session()
    return vote


class Long:
    """The name that is read stands behind more than 255 others, so that its number needs two bytes."""

    @property
    def step(self) -> int:
        refuse_call(VOTES_BY_ITSELF)
        return 7


@pytest.mark.parametrize("kind", [DDPVote, FSDPVote])
def test_a_number_that_is_called_is_explained(kind: type) -> None:
    vote: object = vote_of(kind)
    for _ in range(20):  # Python replaces instructions by faster ones after some calls
        with pytest.raises(TypeError, match=r"number of the next vote.* loss.backward\(\) votes .* optimizer.step\(\)"):
            vote.step()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [DDPVote, FSDPVote])
def test_a_number_that_is_read_is_an_int(kind: type) -> None:
    vote: object = vote_of(kind)
    for _ in range(20):
        found = vote.step  # type: ignore[attr-defined]
        assert type(found) is int and found == 7 == getattr(vote, "step")  # noqa: B009
        assert max(vote.step, 3) == 7 and f"{vote.step:03d}" == "007"  # type: ignore[attr-defined]
        assert [vote.step][0].bit_length() == 3  # type: ignore[attr-defined]


def test_names_beyond_the_first_hundreds() -> None:
    names = "; ".join(f"a{i} = {i}" for i in range(300))
    exec(f"{names}\nassert vote.step == 7\nassert str(vote.step).strip() == '7'", {"vote": Long()})
    with pytest.raises(TypeError, match="number of the next vote"):
        exec(f"{names}\nvote.step()", {"vote": Long()})
