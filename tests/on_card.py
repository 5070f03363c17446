"""With GRADVOTE_TEST_DEVICE=cuda, what tests and library make without naming a device is made on the card."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

DEVICE = os.environ.get("GRADVOTE_TEST_DEVICE", "cpu")


class _Made(TorchFunctionMode):
    """Moves what is made. Not `torch.set_default_device`: tests draw from generators of the processor."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        made = func(*args, **given)
        is_new = func in _device_constructors() and given.get("device") is None and isinstance(made, Tensor)
        return made.to(DEVICE) if is_new else made


def begin() -> None:
    """From now on, all is made on the card, if tests are to run there."""
    if DEVICE != "cpu":
        _Made().__enter__()
