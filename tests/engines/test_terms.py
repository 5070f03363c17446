"""Ranks that were given different things are told so when they begin, with both values; what may differ is let be."""

import inspect
from typing import Any

import pytest
import torch

from gradvote import ddp, local_steps
from gradvote.distributed import Exchange
from gradvote.engines.launch import spawn
from tests.engines import terms_workers

SAID = {
    "algorithm": "algorithm Algorithm(up=chain(Ema(beta=0.5), ",
    "seed": "seed 3 (on rank 0: 0)",
    "placement": "placement central (on rank 0: sharded)",
    "state_dtype": "Rounded",
    "init_sync": "init_sync False (on rank 0: True)",
    "chunks": "chunks 2 (on rank 0: 1)",
    "check_parameters_every": "check_parameters_every None (on rank 0: 500)",
    "scaler": "scaler enabled (on rank 0: none)",
    "rate": "lr of the optimizer 0.2 (on rank 0: 0.1)",
    "kind": "optimizer AdamW (on rank 0: SGD)",
    "no optimizer": "optimizer None (on rank 0: SGD)",
    "momentum": "momentum of the optimizer 0.9 (on rank 0: 0)",
    "ddp rate": "lr of the optimizer 0.2 (on rank 0: 0.1)",
    "ddp scaler": "scaler enabled (on rank 0: none)",
    "ddp buckets": "bucket_bytes_cap of DDP 1048576 (on rank 0: 26214400)",
    "every": "every 5 (on rank 0: 4)",
    "delay": "delay 1 (on rank 0: 2)",
    "no delay": "delay 1 (on rank 0: 0)",
    "mix": "mix 0.25 (on rank 0: 0.5)",
    "fragments": "fragments 2 (on rank 0: 1)",
    "no fragments": "fragments 2 (on rank 0: 1)",
    "a fragment's delay": "delay 1 (on rank 0: 0)",
    "outer rate": "lr of the outer optimizer 0.5 (on rank 0: 0.7)",
    "outer rate of a delayed round": "lr of the outer optimizer 0.5 (on rank 0: 0.7)",
    "outer kind": "outer optimizer AdamW (on rank 0: SGD)",
    "no inner optimizer": "inner optimizer None (on rank 0: given)",
}
TOLD = {"optimizer", "algorithm", "every", "outer", "delay", "mix", "fragments", *SAID}
MAY_DIFFER = {
    "max_norm": "each worker bounds its own gradient",
    "secret": "each worker has its own",
    "timeout": "how long one is patient",
    "faults": "who lies",
    "privacy": "what one lets others see",
    "group": "the ranks themselves",
    "params": "compared one by one",
    "model": "compared one by one",
    "ddp": "compared one by one",
    "engine": "other engines do not meet",
    "options": "those of the engine",
}


@pytest.fixture(scope="module")
def ranks() -> list[Any]:
    return spawn(terms_workers.everything, 2)


def test_each_difference_is_named_with_both_values(ranks: list[Any]) -> None:
    for own in ranks:
        assert own["told"].keys() == SAID.keys()
        for name, text in SAID.items():
            said = own["told"][name]
            assert said.startswith("ValueError: Rank 1 was given something else than rank 0: "), (name, said)
            assert text in said, (name, said)


def test_what_may_differ_is_let_be(ranks: list[Any]) -> None:
    assert all(own["alike"] == [""] * 4 for own in ranks)


def test_one_rank_may_bound_or_hide_its_gradient_behind_ddp(ranks: list[Any]) -> None:
    first, second = (own["bounded_on_one_rank"] for own in ranks)
    assert all(torch.equal(first[name], second[name]) for name in ("max_norm", "privacy"))


@pytest.mark.parametrize("build", [Exchange, ddp.attach, local_steps.attach, local_steps.attach_fragments])
def test_every_argument_is_compared_or_may_differ(build: Any) -> None:
    """An argument that comes later is to be decided upon: see `alike.check_alike` and docs/before-you-run.md."""
    names = inspect.signature(build).parameters.keys()
    assert names <= TOLD | MAY_DIFFER.keys()
