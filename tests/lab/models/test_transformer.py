"""The language model reads from left to right."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from gradvote.lab.models import Size, Transformer

SMALL = Size(vocabulary=11, context=8, width=12, layers=2, heads=3)


def test_a_place_sees_nothing_behind_it() -> None:
    model, codes = Transformer(SMALL), torch.arange(8)[None] % 11
    changed = codes.clone()
    changed[0, 5] = 10
    before, after = model(codes), model(changed)
    assert before.shape == (1, 11, 8)
    assert torch.equal(before[..., :5], after[..., :5])
    assert not torch.allclose(before[..., 5:], after[..., 5:])
    assert torch.allclose(model(codes[:, :3]), before[..., :3], atol=1e-6)


def test_places_matter() -> None:
    model = Transformer(SMALL)
    x = model(torch.zeros(1, 8, dtype=torch.int64))
    assert not torch.allclose(x[..., 0], x[..., 7])


def test_it_starts_undecided_and_every_parameter_learns() -> None:
    model, codes = Transformer(SMALL), torch.randint(11, (4, 9), generator=torch.Generator().manual_seed(1))
    loss = cross_entropy(model(codes[:, :-1]), codes[:, 1:])
    assert abs(loss.item() - math.log(11)) < 0.1
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.abs().max() > 0) for p in model.parameters())


def test_paper_size_has_a_few_million_parameters() -> None:
    with torch.device("meta"):
        assert 4.7e6 < sum(p.numel() for p in Transformer(Size(vocabulary=65)).parameters()) < 4.9e6


@pytest.mark.parametrize("wrong", [{"heads": 5}, {"layers": 0}, {"context": -1}])
def test_impossible_sizes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="multiple of the number of heads"):
        Size(**{"vocabulary": 11, "width": 12, "heads": 3, **wrong})


def test_a_text_longer_than_the_context_is_refused() -> None:
    with pytest.raises(ValueError, match="8 characters at a time"):
        Transformer(SMALL)(torch.zeros(1, 9, dtype=torch.int64))
