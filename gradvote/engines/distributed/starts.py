"""The exchange of local steps: what ranks must have alike there is more than an exchange by itself knows of."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.common.terms import optimizer_terms
from gradvote.engines.distributed.exchange import Exchange


class ExchangeOfStarts(Exchange):
    """An exchange of a start's parameters, on which `outer` steps; `alike` are the arguments of the local steps."""

    def __init__(
        self, start: nn.Module, algorithm: Algorithm, outer: Optimizer, *, alike: Mapping[str, object], **options: Any
    ) -> None:
        self._start, self._outer, self._alike = start, outer, alike
        super().__init__(start.named_parameters(), algorithm, **options)

    def _terms(self, compares: bool) -> dict[str, object]:
        outer = optimizer_terms([self._outer], self._start.parameters(), "outer optimizer") if compares else {}
        return {**super()._terms(False), **self._alike, **outer}
