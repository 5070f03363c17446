"""What the trainers have in common, without any of them."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gradvote
from gradvote.errors import MissingExtra
from gradvote.integrations import checkpoints
from gradvote.integrations.attached import ddp_of, plain
from tests.forked import spawn


@pytest.mark.parametrize("name", ["transformers", "lightning", "accelerate"])
def test_an_absent_trainer_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"gradvote.integrations.{name}", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked, package=None: None)
    with pytest.raises(MissingExtra, match=rf"This needs {name}, .* pip install 'gradvote\[{name}\]'"):
        importlib.import_module(f"gradvote.integrations.{name}")


def test_what_is_not_ddp_is_refused_by_what_it_is() -> None:
    for model, why in {
        nn.Linear(2, 1): "there is one process",
        nn.DataParallel(nn.Linear(2, 1)): "one process drives all devices",
        type("FullyShardedDataParallel", (nn.Module,), {})(): "no rank has a whole gradient",
        type("DeepSpeedEngine", (nn.Module,), {})(): "no rank has a whole gradient",
    }.items():
        with pytest.raises(ValueError, match=f"the Trainer has {type(model).__name__}: {why}"):
            ddp_of(model, "the Trainer")


def test_wrapped_optimizers_are_unwrapped() -> None:
    inner = torch.optim.SGD(nn.Linear(2, 1).parameters(), 0.1)
    outer = type("Wrapper", (), {"optimizer": type("Wrapper", (), {"optimizer": inner})()})()
    assert plain(inner) is inner
    with pytest.raises(TypeError, match="takes torch optimizers; got Wrapper"):
        plain(outer)  # its `.optimizer` is no torch optimizer itself
    assert plain(outer.optimizer) is inner


def test_a_folder_for_another_number_of_ranks(tmp_path: Path) -> None:
    """Nothing unsent is lost, and all ranks read what was made for them; files of another number are left by nobody."""
    unsent = spawn(_saved, 2, str(tmp_path))
    for num_ranks in (3, 1, 2):
        checkpoints.resize(tmp_path, num_ranks)
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names == [f"gradvote-{rank}-of-{num_ranks}.pt" for rank in range(num_ranks)]
        files = [torch.load(tmp_path / name) for name in names]
        assert {file["step"] for file in files} == {7}
        total = sum(_memory(file["vote"]) for file in files)
        torch.testing.assert_close(total, sum(unsent), rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="There are no votes' files"):
        checkpoints.resize(tmp_path / "elsewhere", 2)
    (tmp_path / "gradvote-0-of-2.pt").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"gradvote-0-of-2.pt cannot be read .* Take another checkpoint."):
        checkpoints.resize(tmp_path, 3)


def _saved(place: str) -> torch.Tensor:
    rank = torch.distributed.get_rank()
    torch.manual_seed(0)
    model = nn.Linear(6, 5)
    ddp = DistributedDataParallel(model)
    vote = gradvote.ddp.attach(ddp, gradvote.algorithms.ef_signsgd(), timeout=60)
    for _ in range(2):
        ddp.zero_grad()
        ddp(torch.randn(3, 6, generator=torch.Generator().manual_seed(rank))).square().sum().backward()
    checkpoints.save(Path(place), vote, 7)
    return _memory(vote.state_dict())


def _memory(state: dict[str, Any]) -> torch.Tensor:
    """What a rank has not sent of the first parameter."""
    own = state["worker"].get("weight", {})
    (name,) = [key for key in own if key.endswith("memory")] or [""]
    found = own[name] if name else torch.zeros(30)
    return torch.cat(found) if isinstance(found, list) else found  # a trainer saves pieces, without a copy
