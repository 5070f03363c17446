"""The model as both ends hold it: named arrays, and the step of plain SGD that every decision takes.

Server and clients hold the same arrays and take the same steps, so only decisions travel. Arrays that are not voted on
(statistics of BatchNorm, counters) stay each client's own; the server keeps those of the start.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass

import numpy as np
import torch
from flwr.app import Array, ArrayRecord
from numpy.typing import NDArray
from torch import Tensor

from gradvote.core import Algorithm
from gradvote.engines.common.protocol import Protocol, protocol_for
from gradvote.staging import CPU

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Endings of the names of what a BatchNorm counts, which no gradient moves."""
MEND = (
    "Give voted=[name for name, _ in model.named_parameters(remove_duplicate=False)]; the others stay each client's own"
)


@dataclass(frozen=True)
class Outer:
    """The optimizer that takes a step with each decision: torch's SGD, in bits the same on every machine."""

    lr: float
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} is a number; got {value!r}.")
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative; got {value}.")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov=True looks ahead along a momentum: give momentum=, such as 0.9, as well.")

    @staticmethod
    def read(given: Mapping[str, float]) -> "Outer":
        """From the numbers that the server sent."""
        lr, momentum, decay = (given.get(name, 0.0) for name in ("lr", "momentum", "weight_decay"))
        return Outer(lr, momentum, bool(given.get("nesterov", 0.0)), decay)


class Model:
    """Arrays by name. `voted` are those that are trained, floats; None: all."""

    def __init__(self, arrays: Mapping[str, NDArray[np.generic]], voted: Collection[str] | None = None) -> None:
        self.names = _chosen(arrays, voted)
        self.others = {name: array for name, array in arrays.items() if name not in set(self.names)}
        self._order = [*arrays]
        self.params = [torch.from_numpy(np.array(arrays[name])).requires_grad_() for name in self.names]

    @property
    def statistics(self) -> list[str]:
        """The names of running statistics, which are not voted on."""
        return [name for name in self.others if name.endswith(STATISTICS[:2])]

    def protocol(self, algorithm: Algorithm, seed: int) -> Protocol:
        """What both ends have agreed on."""
        return protocol_for(self.params, algorithm, seed, self.names)

    def arrays(self, others: Mapping[str, NDArray[np.generic]] | None = None) -> dict[str, NDArray[np.generic]]:
        """All arrays in their order, copied; `others` in place of those that are not voted on."""
        own = {name: p.detach().numpy().copy() for name, p in zip(self.names, self.params, strict=True)}
        both = {**self.others, **(others or {}), **own}
        return {name: both[name] for name in self._order}

    def flat(self, protocol: Protocol, arrays: Mapping[str, NDArray[np.generic]] | None = None) -> Tensor:
        """The voted arrays (d,) in the order of the layout, or those of others in their place.

        Raises:
            ValueError: an array is missing, or has another shape; the sentence names it.
        """
        given = [p.detach() for p in self.params] if arrays is None else self._alike(arrays)
        return self._flattened(protocol, given)

    def ended(self, arrays: Mapping[str, NDArray[np.generic]]) -> list[Tensor | None]:
        """What each voted array has become where a client trained; None for one that it left as it was, to the bit.

        Raises:
            ValueError: an array is missing, has another shape, was rounded, or is tied to one that is not voted on.
        """
        for name, p in zip(self.names, self.params, strict=True):
            if name in arrays and not np.can_cast(own := p.detach().numpy().dtype, arrays[name].dtype):
                raise ValueError(
                    f"The client's train function returned {name!r} as {arrays[name].dtype}; {own} was expected: "
                    "rounding would change the signs of small differences. Return the arrays as they were trained."
                )
        own_ends = self._alike(arrays)
        ends = [None if torch.equal(p, end) else end for p, end in zip(self.params, own_ends, strict=True)]
        self._check_ties(arrays, ends)
        return ends

    def difference(self, protocol: Protocol, ends: Sequence[Tensor | None]) -> Tensor:
        """start − end (d,). What was left as it was is NaN, as a missing gradient is elsewhere: noise would move it."""
        nan = [torch.full_like(p, math.nan) if end is None else end for p, end in zip(self.params, ends, strict=True)]
        return self.flat(protocol) - self._flattened(protocol, [x.detach() for x in nan])

    def step(
        self, protocol: Protocol, direction: Tensor, decided: AbstractSet[int], outer: Outer, momenta: list[Tensor]
    ) -> list[Tensor]:
        """Take a step along a direction (d,); what nobody voted on stays. Gives the new momenta, if there are any."""
        gradients = [torch.empty_like(p) for p in self.params]
        protocol.layout.unflatten(direction, gradients)
        optimizer = torch.optim.SGD(self.params, **asdict(outer))
        for p, own in zip(self.params, momenta, strict=False):
            if own.numel():
                optimizer.state[p]["momentum_buffer"] = own.reshape(p.shape).clone()
        for i, (p, gradient) in enumerate(zip(self.params, gradients, strict=True)):
            p.grad = gradient if i in decided else None
        optimizer.step()
        for p in self.params:
            p.grad = None
        buffers = [optimizer.state[p].get("momentum_buffer") for p in self.params]
        none = torch.zeros(0, dtype=torch.float32, device=CPU)
        return [none if own is None else own.detach() for own in buffers] if outer.momentum else []

    def _flattened(self, protocol: Protocol, given: Sequence[Tensor]) -> Tensor:
        dtype = torch.float64 if any(x.dtype == torch.float64 for x in self.params) else torch.float32
        return protocol.layout.flatten(given, torch.empty(protocol.layout.size, dtype=dtype, device=CPU))

    def _check_ties(self, arrays: Mapping[str, NDArray[np.generic]], ends: Sequence[Tensor | None]) -> None:
        """Two names of one parameter, of which one is not voted on: loading it would undo what was decided."""
        for other, before in self.others.items():
            after = arrays.get(other, before)
            if not np.issubdtype(after.dtype, np.floating) or np.array_equal(before, after) or _constant(after):
                continue
            for name, end in zip(self.names, ends, strict=True):
                if end is not None and np.array_equal(arrays[name], after):
                    raise ValueError(
                        f"The arrays {name!r} and {other!r} came back as one: the model ties them, but voted names "
                        f"only the first, and the second would put its old values in its place. {MEND}."
                    )

    def _alike(self, arrays: Mapping[str, NDArray[np.generic]]) -> list[Tensor]:
        found = []
        for name, p in zip(self.names, self.params, strict=True):
            if name not in arrays:
                raise ValueError(
                    f"The client's train function returned no array {name!r}, which is trained ({len(arrays)} others: "
                    f"{', '.join([*arrays][:3])}, ...). Return all arrays by the names they came with, or give the "
                    "strategy voted=, the names of those that are trained."
                )
            if arrays[name].shape != tuple(p.shape):
                raise ValueError(
                    f"The client's train function returned {name!r} with shape {arrays[name].shape}; "
                    f"{tuple(p.shape)} was expected."
                )
            if not np.issubdtype(arrays[name].dtype, np.floating):
                raise ValueError(
                    f"The client's train function returned {name!r} as {arrays[name].dtype}; {p.dtype} was expected."
                )
            found.append(torch.from_numpy(np.array(arrays[name])).to(p.dtype))
        return found


def numpy_of(record: ArrayRecord) -> dict[str, NDArray[np.generic]]:
    """The arrays of a record by name."""
    return {name: array.numpy() for name, array in record.items()}


def record_of(arrays: Mapping[str, NDArray[np.generic]]) -> ArrayRecord:
    """The inverse of `numpy_of`."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def _chosen(arrays: Mapping[str, NDArray[np.generic]], voted: Collection[str] | None) -> Sequence[str]:
    if voted is not None:
        missing = [name for name in voted if name not in arrays]
        if missing or not voted:
            raise ValueError(f"voted names {missing or 'nothing'}; the arrays are {', '.join(arrays) or 'none'}.")
    names = [name for name in arrays if voted is None or name in set(voted)]
    for name in names:
        array = arrays[name]
        if not np.issubdtype(array.dtype, np.floating) or name.endswith(STATISTICS):
            raise ValueError(
                f"The array {name!r} ({array.dtype}) is not moved by gradients, so nobody can vote on it. {MEND}."
            )
    return names


def _constant(array: NDArray[np.generic]) -> bool:
    """Whether all values are equal: other arrays may have the same by chance."""
    return array.size < 2 or bool((array == array.flat[0]).all())
