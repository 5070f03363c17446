"""What DDP exchanges was fixed when it wrapped the model, what is voted on when a vote was attached: are they alike?"""

import torch.distributed as dist
from torch import Tensor

from gradvote.engines.common.parameters import Parameters

GONE = (
    "DistributedDataParallel exchanges a parameter of shape {shape} that was taken out of the model before the votes "
    "were attached, so that nobody votes on it. Change the model before it is wrapped."
)
UNFROZEN = (
    "The parameter {name!r} was frozen, or was not there yet, when DistributedDataParallel wrapped the model, so that "
    "DDP leaves it out: nobody votes on it, and it would not be trained. Have it there and trained (requires_grad) "
    "before the model is wrapped."
)


class Wrapped:
    """Numbers of the parameters in DDP's buckets; with the first backward pass it is known which ones DDP has."""

    def __init__(self, parameters: Parameters) -> None:
        self._names = parameters.names
        self._numbers: dict[int, int | None] = {id(p): None for _, p in parameters.frozen}
        self._numbers |= {id(p): i for i, p in enumerate(parameters.tensors)}
        self._awaited = set(range(len(parameters.tensors)))

    def numbers(self, bucket: dist.GradBucket) -> list[int | None]:  # type: ignore[name-defined]  # not in its __all__
        """Of this bucket's parameters, in its order; None for one that was frozen since the model was wrapped.

        Raises:
            ValueError: it has one that the model has not; or it is the last, and one that is voted on has not come.
        """
        params: list[Tensor] = bucket.parameters()
        for p in params:
            if id(p) not in self._numbers:
                raise ValueError(GONE.format(shape=tuple(p.shape)))
        found = [self._numbers[id(p)] for p in params]
        if self._awaited:
            self._awaited.difference_update(i for i in found if i is not None)
            if self._awaited and bucket.is_last():
                raise ValueError(UNFROZEN.format(name=self._names[min(self._awaited)]))
        return found
