"""PyTorch's optimizers without the machinery of torch.compile, whose import takes as long as that of PyTorch itself.

They compute the same bits: only the wrappers around `step` and its like are left out, which import it to keep a
compiler away. Where PyTorch has no such wrappers, or other ones, nothing is changed.
"""

import functools
import inspect

import torch
from torch.optim import Optimizer

WRAPPED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


@functools.cache
def lean(kind: type[Optimizer]) -> type[Optimizer]:
    """A class with the steps, the options and the state of `kind`."""
    for name in WRAPPED:
        function = getattr(getattr(Optimizer, name), "__wrapped__", None)
        if function is not None and getattr(function, "__dynamo_disable", None) is None:
            function.__dynamo_disable = function  # what the wrapper calls, which it would import a compiler to make
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {"step": step, "__doc__": kind.__doc__, "__module__": kind.__module__})
