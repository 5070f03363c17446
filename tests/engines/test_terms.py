"""Each argument of an engine is compared between ranks, or may differ: `test_habits` has two ranks that are told so."""

import inspect
from typing import Any

import pytest

from gradvote import ddp, elastic, fsdp, local_steps, torchft
from gradvote.distributed import Exchange

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
TOLD = {"optimizer", "algorithm", "every", "outer", "delay", "mix", "fragments", "min_workers", *SAID}
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
    "worker": "each has its own",
    "manager": "torchft's own",
    "deadline": "how long one is patient",
    "timeouts": "how long one is patient",
    "host": "where one listens",
    "store": "who comes to another one does not meet the others",
    "workers": "with placement='sharded' told as a part of the placement",
    "keys": "all or none: said by the greeting, before anything else",
    "insecure": "about one's own address",
}


@pytest.mark.parametrize(
    "build",
    [
        Exchange, ddp.attach, fsdp.attach, elastic.attach, torchft.attach, local_steps.attach,
        local_steps.attach_fragments,
    ],
)  # fmt: skip
def test_every_argument_is_compared_or_may_differ(build: Any) -> None:
    """An argument that comes later is to be decided upon: see `alike.check_alike` and docs/before-you-run.md."""
    names = inspect.signature(build).parameters.keys()
    assert names <= TOLD | MAY_DIFFER.keys()
