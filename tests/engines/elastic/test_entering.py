"""A vote is entered once, and steps inside: everything else is answered at once, not after a timeout."""

import warnings

import pytest
import torch
from torch import nn
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in torch's `__all__`

from gradvote import algorithms
from gradvote.elastic import attach


def test_a_vote_is_entered_once_and_steps_inside() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    vote = attach(model, optimizer, algorithms.signsgd(), min_workers=1, worker=0, store=HashStore(), deadline=0.2)
    with pytest.raises(RuntimeError, match=r"step\(\) was called before the vote was entered"):
        vote.step()
    with pytest.raises(RuntimeError, match=r"steps\(\) was called before the vote was entered"):
        next(vote.steps(5))
    with vote:
        model(torch.ones(4, 3)).sum().backward()
        vote.step()
        with pytest.raises(RuntimeError, match="was entered already, and that is done once"):
            vote.__enter__()
    assert vote.step_number == 1
    with pytest.raises(RuntimeError, match="after its `with` block"):
        vote.step()


def test_a_loop_that_never_steps_is_told_once() -> None:
    """It would go on for ever, as `steps` gives a step again until it was taken."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    vote = attach(model, optimizer, algorithms.signsgd(), min_workers=1, worker=0, store=HashStore(), deadline=0.2)
    with vote, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for times, _ in enumerate(vote.steps(3)):
            if times % 5 == 4 or times > 60:  # batches that are left out are the script's own matter
                model(torch.ones(4, 3)).sum().backward()
                vote.step()
                optimizer.zero_grad()
        assert seen == []
        for times, step in enumerate(vote.steps(4)):
            assert step == 3
            if times == 150:
                break
    (said,) = (str(w.message) for w in seen)
    assert said.startswith("Step 3 has come 100 times, as vote.step() was not called since")


def test_a_step_within_inference_mode_is_an_ordinary_step() -> None:
    """As a script's optimizer step may be. What it leaves can be written to: memories, momenta, gradients."""
    ends = []
    for within in (True, False):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        algorithm, store = algorithms.dist_ef_sgdm(), HashStore()
        with attach(model, optimizer, algorithm, min_workers=1, worker=0, store=store, deadline=0.2) as vote:
            for k in range(3):
                model(torch.ones(4, 3)).sum().backward()
                if k == 1:
                    model.bias.grad = None
                with torch.inference_mode(within):
                    vote.step()
                optimizer.zero_grad(set_to_none=False)
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*ends)
