"""A handle of a vote that is pickled or copied says what to save instead; a wrapped model is copied without it."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from gradvote.distributed import Exchange
from gradvote.engines.common.not_copied import Behind
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
