"""All objects of a kind in this process, for what torch keeps no list of: modules, optimizers, scalers."""

import gc
from itertools import chain
from typing import TypeVar

T = TypeVar("T")


def live(kind: type[T]) -> list[T]:
    """The instances of a Python class and of its subclasses.

    Not by a loop over `gc.get_objects()`: it holds the tuples, too, that other threads are about to make, and those
    fail then (`tuple(generator)`, SystemError). So the list is used up within one call of C, for the classes there are;
    each instance refers to its own.
    """
    seen = set(map(type, chain.from_iterable(map(gc.get_objects, (None,)))))
    kinds = [each for each in seen if issubclass(each, kind)]
    return [o for o in gc.get_referrers(*kinds) if issubclass(type(o), kind)] if kinds else []
