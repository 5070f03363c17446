"""From a model's name, or the place of the user's own factory, to a checked module with seeded parameters."""

import importlib
import inspect
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from gradvote.arguments import checked, hints_of, parse_spec
from gradvote.discovery import imported
from gradvote.errors import unknown
from gradvote.lab.models.names import ARGUMENTS, describe_model, factory_named, is_foreign


def build(spec: str, input_shape: Sequence[int], num_classes: int, seed: int) -> nn.Module:
    """A model for (N, *input_shape) float32 samples that returns (N, num_classes) logits.

    `spec` is a name of `model_names` (dashes or underscores), with options as in
    `"mlp:hidden=(64,)"`, or `"package.module:factory"`, imported from the Python path or the current
    directory. The factory is called with those of `input_shape=` and `num_classes=` that it names as
    parameters. The model is tried on two samples of zeros.

    Parameters are drawn on the CPU from `seed`; the global random state is left as it was. Raises
    `ValueError`, saying which, when the factory is missing, fails, gives no `nn.Module`, or one that has
    no trainable parameters or does not fit the data.
    """
    if num_classes < 1:
        raise ValueError(f"The number of classes is {num_classes}; a model needs at least 1.")
    factory = _imported(spec) if is_foreign(spec) else _named(spec)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = _called(spec, factory, tuple(input_shape), num_classes)
        _check_fit(spec, net, tuple(input_shape), num_classes)
    if not any(p.requires_grad and p.numel() > 0 for p in net.parameters()):
        raise ValueError(f"The model '{spec}' has no trainable parameters, so there is nothing to train.")
    return net


def _named(spec: str) -> Callable[..., object]:
    """The factory NAME, or NAME:key=value,... with these options."""
    describe_model(spec)
    name, given = parse_spec(spec)
    known = factory_named(name)
    function: Callable[..., object] = getattr(imported(known.found, "model"), known.function)
    hints = {key: hint for key, hint in hints_of(function).items() if key not in ARGUMENTS}
    return partial(function, **checked(f"the model {name}", given, hints))


def _imported(spec: str) -> Callable[..., object]:
    module_name, _, attribute = spec.partition(":")
    if not module_name.strip(".") or module_name.startswith(".") or not attribute.isidentifier():
        raise ValueError(f"The model '{spec}' is not of the form 'package.module:factory'.")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"The module '{module_name}' of the model '{spec}' could not be imported "
            f"({type(error).__name__}: {error}). It must be installed, or lie in the current directory."
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        raise unknown(f"factory in the module '{module_name}'", attribute, _callables(module))
    if not callable(found):
        raise ValueError(f"'{attribute}' in the module '{module_name}' is not a function or class that gives a model.")
    factory: Callable[..., object] = found
    return factory


def _callables(module: object) -> list[str]:
    return [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]


def _called(spec: str, factory: Callable[..., object], input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    given = {"input_shape": input_shape, "num_classes": num_classes}
    try:
        parameters = inspect.signature(factory).parameters
        arguments = {name: value for name, value in given.items() if name in parameters}
        net = factory(**arguments)
    except (Exception, SystemExit) as error:
        if not is_foreign(spec):
            raise
        raise ValueError(f"The factory of the model '{spec}' failed ({type(error).__name__}: {error}).") from error
    if not isinstance(net, nn.Module):
        raise ValueError(f"The factory of the model '{spec}' gave {type(net).__name__} instead of an nn.Module.")
    return net


def _check_fit(spec: str, net: nn.Module, input_shape: tuple[int, ...], num_classes: int) -> None:
    """Run two samples of zeros through the model, in evaluation mode, and look at what comes out."""
    modes = [(module, module.training) for module in net.modules()]
    device = next((p.device for p in net.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            out = net.eval()(torch.zeros(2, *input_shape, device=device))
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"The model '{spec}' fails on samples of shape {input_shape} ({type(error).__name__}: {error})."
        ) from error
    finally:
        for module, training in modes:
            module.training = training
    if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != 2 or out.shape[1] < num_classes:
        shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(
            f"The model '{spec}' gives {shape} for two samples; expected (2, {num_classes}), one logit per class."
        )
