"""Terms as texts: what an error says of two that differ."""

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW

from gradvote.engines.common.terms import differences, mark_of, optimizer_terms, texts_of


def test_both_values_are_named_and_long_ones_from_their_first_difference() -> None:
    long = "Algorithm(" + "x" * 300
    one = texts_of({"a": 1, "text": "t", "long": long + "1)", "own": 2})
    other = texts_of({"a": 1, "text": "u", "long": long + "2)"})
    text, cut, own = differences(one, other, "on rank 0")
    assert text == "text t (on rank 0: u)" and own == "own 2 (on rank 0: missing)"
    assert cut == f"long ...{'x' * 40}1) (on rank 0: ...{'x' * 40}2))"
    assert mark_of({"a": 1}) != mark_of({"a": 2}) and mark_of({"a": 1}) == mark_of({"a": 1})


def test_terms_of_an_optimizer_are_what_changes_its_steps() -> None:
    a, b, other = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    groups = [{"params": [a]}, {"params": [b], "lr": 0.2}, {"params": [other], "lr": 9.0}]
    plain = optimizer_terms([SGD(groups, 0.1, momentum=0.9)], [a, b])
    assert plain["optimizer"] == "SGD" and plain["number of groups of the optimizer"] == 2
    assert plain["lr of the optimizer"] == "(0.1, 0.2)" and plain["momentum of the optimizer"] == "0.9"
    tensor = SGD([a], torch.tensor(0.5, dtype=torch.float64), foreach=False)
    assert optimizer_terms([tensor], [a]) == optimizer_terms([SGD([a], 0.5, foreach=True)], [a])
    assert optimizer_terms([AdamW([a])], [a])["betas of the optimizer"] == "(0.9, 0.999)"
    assert optimizer_terms([], [a]) == {"optimizer": "None"}


def test_how_an_optimizer_works_is_compared_where_it_rounds_otherwise() -> None:
    """Adam's fused step, and one at a rate that is a tensor, end on other bits: ranks would part."""
    p = nn.Parameter(torch.zeros(1))
    told = [
        optimizer_terms([Adam([p], 0.5, **how)], [p])["optimizer"] for how in ({}, {"foreach": False}, {"fused": True})
    ]
    assert told == ["Adam", "Adam", "Adam with fused=True"]
    assert optimizer_terms([Adam([p], torch.tensor(0.5))], [p])["optimizer"] == "Adam with its lr a tensor"
