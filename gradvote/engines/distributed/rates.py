"""The learning rate of each parameter, read from the user's optimizer at each step."""

from collections.abc import Sequence

from torch import Tensor
from torch.optim import Optimizer


class Rates:
    """`rates()` is one number where all parameters have the same, else a list by parameter; 1.0 without an optimizer.

    Raises:
        ValueError: a parameter is not in the optimizer.
    """

    def __init__(self, params: Sequence[Tensor], names: Sequence[str], optimizer: Optimizer | None) -> None:
        self.optimizer = optimizer
        self._params = [id(p) for p in params]
        if optimizer is None:
            return
        known = self._by_param()
        absent = [name for name, key in zip(names, self._params, strict=True) if key not in known]
        if absent:
            raise ValueError(
                f"The optimizer does not have the parameter {absent[0]!r} ({len(absent)} are missing). Build it over "
                "all exchanged parameters, or give the exchange only those that it has."
            )

    def __call__(self) -> float | list[float]:
        if self.optimizer is None:
            return 1.0
        known = self._by_param()
        rates = [known[key] for key in self._params]
        return rates[0] if len(set(rates)) == 1 else rates

    def _by_param(self) -> dict[int, float]:
        assert self.optimizer is not None
        return {id(p): float(group["lr"]) for group in self.optimizer.param_groups for p in group["params"]}
