from typing import Any

import pytest
import torch

from tests.engines import stateful_workers
from tests.forked import spawn


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return spawn(stateful_workers.checkpoints, 3, str(tmp_path_factory.mktemp("checkpoints")))


def test_checkpoints_fit_other_numbers_of_ranks_and_torchs_own_format(ranks: list[Any]) -> None:
    states, smaller = ranks[0]["states"], ranks[0]["smaller"]
    assert all(r["dcp"] for r in ranks)
    assert "has rank 5" in ranks[1]["refused"]
    for rank in range(2):
        assert ranks[rank]["went on"] == 3
        assert stateful_workers.equal(ranks[rank]["loaded"], smaller[rank])
    for param, tensors in states[0]["worker"].items():
        for name in tensors:
            if name.endswith("memory"):
                before = sum(s["worker"][param][name].double() for s in states)
                after = sum(s["worker"][param][name].double() for s in smaller)
                assert before.abs().max() > 0
                assert torch.allclose(before, after, atol=1e-9)


def test_a_state_that_lacks_a_memory_is_refused(ranks: list[Any]) -> None:
    """It would begin empty, in silence; only `resize` may say so, of a rank that joins."""
    for own in ranks:
        said = own["missing"]
        assert "has no '0.momentum' of '0.weight' in its 'worker' entry" in said["worker"]
        assert "has no '0.momentum' of '0.weight' in its 'worker' entry" in said["parameter"]
        assert "has no 'codec.memory' of '4.bias' in its 'worker' entry" in said["memory"]
        assert "in its 'server' entry: that memory would begin empty. Load all" in said["server"]
    assert [state.get("joined") for state in ranks[0]["larger"]] == [None, None, True]


def test_a_memory_of_another_package_is_merged_as_it_says(ranks: list[Any]) -> None:
    states, smaller = ranks[0]["leftovers"]
    for param, tensors in states[0]["worker"].items():
        before = [s["worker"][param]["codec.leftover"] for s in states]
        after = [s["worker"][param]["codec.leftover"] for s in smaller]
        assert (
            bool(before[2].any()) and torch.equal(after[0], before[0] + before[2]) and torch.equal(after[1], before[1])
        )
        assert all(
            torch.equal(smaller[0]["worker"][param][name], own) for name, own in tensors.items() if "lef" not in name
        )


def test_server_memory_survives_a_change_of_ranks(ranks: list[Any]) -> None:
    states = ranks[0]
    blocks = [b for s in states["states"] for p in s["server"].values() for b in p["blocks"].tolist()]
    assert sorted(blocks) == list(range(len(blocks)))
    for s in states["smaller"]:
        assert sorted(b for p in s["server"].values() for b in p["blocks"].tolist()) == sorted(blocks)
