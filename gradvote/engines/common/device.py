"""Gradients are where the votes began. (Apart from `parameters`, which loads what a simulation does not need.)"""

from collections.abc import Iterable

import torch
from torch import Tensor


def check_device(gradients: Iterable[Tensor | None], device: torch.device) -> None:
    """Raise ValueError for a gradient on another device than this one, where the votes began."""
    for gradient in gradients:
        if gradient is not None and gradient.device != device:
            raise ValueError(
                f"A gradient is on {gradient.device}, but the parameters were on {device} when the votes began, and "
                "memories are there still. Move the model to its device before the vote is attached or built."
            )
