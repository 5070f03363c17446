import torch

from gradvote import algorithms
from gradvote.engines.common.protocol import Protocol, protocol_for
from gradvote.engines.common.recipe import difference


def protocol(*names: str, shape: tuple[int, ...] = (3, 4), seed: int = 0, algorithm: str = "signum") -> Protocol:
    params = [torch.zeros(shape) for _ in names]
    return protocol_for(params, algorithms.create(algorithm), seed, names)


def test_the_first_thing_that_differs_is_named() -> None:
    own = protocol("a", "b")
    assert difference(own.recipe_text, own) is None
    cases = {
        "as parameter 1 'c' of shape (3, 4); here it is 'b' of shape (3, 4)": protocol("a", "c"),
        "as parameter 0 'a' of shape (4, 3); here it is 'a' of shape (3, 4)": protocol("a", "b", shape=(4, 3)),
        "as parameter 1 none; here it is 'b'": protocol("a"),
        "the seed 7; here it is 0": protocol("a", "b", seed=7),
        "another algorithm: (Algorithm(up=Sign(": protocol("a", "b", algorithm="signsgd"),
    }
    for text, other in cases.items():
        assert text in str(difference(other.recipe_text, own))
    old = repr((own.algorithm, own.layout.numels, own.seed))
    assert difference(old, own) is not None and "another algorithm" in str(difference(None, own))
