"""All instances of a class, found without disturbing threads that make tuples meanwhile."""

import threading

import torch
from torch import nn
from torch.optim import SGD, Optimizer

from gradvote.engines.common.owners import live


class Own(nn.Linear):
    """A class of a script's own."""


def test_instances_of_a_class_and_its_subclasses() -> None:
    models = [nn.Sequential(Own(2, 2), nn.Linear(2, 2)), Own(1, 1)]
    optimizer = SGD(models[0].parameters(), lr=0.1)
    inside = {id(m) for model in models for m in model.modules()}
    assert inside <= {id(m) for m in live(nn.Module)} and {id(m) for m in live(Own)} <= inside
    assert id(optimizer) in {id(o) for o in live(Optimizer)}
    assert not live(type("Nobody", (nn.Module,), {}))


def test_threads_make_their_tuples_meanwhile() -> None:
    """Each list of all objects, held for a moment, made some two of them fail, with a SystemError."""
    ended, failed, made = threading.Event(), [], []

    def make() -> None:
        while not ended.is_set():
            try:
                made.append(len(tuple(i for i in range(200))))
            except SystemError as error:
                failed.append(error)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    model = nn.Linear(1, 1)
    try:
        for _ in range(20):
            assert any(m is model for m in live(nn.Module))
            torch.zeros(1)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert made and not failed, len(failed)
