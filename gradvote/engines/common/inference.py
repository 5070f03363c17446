"""A step that a script takes within `torch.inference_mode`, as it may take its optimizer's."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """Within, new tensors are ordinary ones, also where the script is in inference mode; nothing is recorded then.

    Gradients, momenta and starts that were made in inference mode have no version, and could never be written to
    outside of it: the step would fail after it has been voted on.
    """
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield
