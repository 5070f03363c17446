"""Rounds of local steps by the engines that take them, by name; each engine is imported when it is chosen."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.common.start import Start, start_of
from gradvote.engines.local_steps import Rounds
from gradvote.engines.overlap import Rates

if TYPE_CHECKING:
    from gradvote.engines.distributed.exchange import ExchangeOfStarts

STAYING = ("distributed", "fsdp")
"""Engines whose workers all stay, so that a round may be under way between two steps, and several in turn."""


def start_for(engine: object, model: nn.Module, inside: nn.Module | None = None) -> Start:
    """The start of a model, or of a fragment of the one that it is `inside`."""
    if engine != "fsdp":
        return start_of(model)
    from gradvote.engines.fsdp.start import ShardedStart  # noqa: PLC0415  # engines are loaded when chosen

    return ShardedStart(model) if inside is None else ShardedStart(inside, model)


class Exchanged:
    """An exchange and the outer optimizer's step, which the other engines take themselves."""

    def __init__(self, exchange: "ExchangeOfStarts", outer: Optimizer) -> None:
        self._exchange, self._outer = exchange, outer
        self.stats, self.all_stats, self.account = exchange.stats, exchange.all_stats, exchange.account
        self.state_dict, self.load_state_dict = exchange.state_dict, exchange.load_state_dict

    def __repr__(self) -> str:
        return repr(self._exchange)

    def step(self) -> None:
        """A vote, and the outer optimizer's step."""
        self._exchange.step()
        self._outer.step()


class Delayed(Exchanged):
    """The same in three parts, with the rates that the outer optimizer had when a round was sent."""

    def __init__(
        self,
        make: "Callable[..., ExchangeOfStarts]",
        start: Start,
        outer: Optimizer,
        algorithm: Algorithm,
        **options: Any,
    ) -> None:
        self._rates = Rates(outer)
        exchange = make(start, algorithm, outer, optimizer=self._rates, **options)
        super().__init__(exchange, outer)
        self.send, self.exchange = self._rates.take, exchange.step

    def land(self) -> None:
        """The step that the outer optimizer has now: a scheduler that is built on it puts its own around it."""
        self._outer.step()


class Managed:
    """A vote under torchft's manager, whose quorum begins with each round."""

    def __init__(self, manager: Any, vote: Any) -> None:
        self._manager, self._vote = manager, vote
        self.stats, self.state_dict, self.load_state_dict = vote.stats, vote.state_dict, vote.load_state_dict
        self.worker, self.account = vote.worker, vote.account

    def __repr__(self) -> str:
        return repr(self._vote)

    def step(self) -> bool:
        """A quorum, a vote and the outer optimizer's step; False where it was not taken."""
        self._manager.start_quorum()
        return bool(self._vote.step())


def exchange_of(engine: str, apart: bool = False) -> "Callable[..., ExchangeOfStarts]":
    """What makes the exchange of an engine whose workers stay; `apart`: it runs beside the inner steps."""
    if engine == "fsdp":
        from gradvote.engines.fsdp.rounds import ShardedRounds  # noqa: PLC0415  # engines are loaded when chosen

        return partial(ShardedRounds, apart=apart)
    from gradvote.engines.distributed.exchange import ExchangeOfStarts  # noqa: PLC0415  # engines are loaded when chosen

    return ExchangeOfStarts


def _distributed(start: Start, outer: Optimizer, algorithm: Algorithm, **options: Any) -> Rounds:
    return Exchanged(exchange_of("distributed")(start, algorithm, outer, optimizer=outer, **options), outer)


def _elastic(start: Start, outer: Optimizer, algorithm: Algorithm, **options: Any) -> Rounds:
    from gradvote.engines.elastic import attach as attach_elastic  # noqa: PLC0415  # engines are loaded when chosen

    return attach_elastic(start, outer, algorithm, **options)


def _torchft(start: Start, outer: Optimizer, algorithm: Algorithm, *, manager: Any, **options: Any) -> Rounds:
    from gradvote.engines.torchft import attach as attach_torchft  # noqa: PLC0415  # engines are loaded when chosen

    return Managed(manager, attach_torchft(manager, start, outer, algorithm, **options))


def _fsdp(start: Start, outer: Optimizer, algorithm: Algorithm, **options: Any) -> Rounds:
    return Exchanged(exchange_of("fsdp")(start, algorithm, outer, optimizer=outer, **options), outer)


ENGINES: dict[str, Callable[..., Rounds]] = {
    "distributed": _distributed, "elastic": _elastic, "torchft": _torchft, "fsdp": _fsdp,
}  # fmt: skip
"""Engines by name; each is imported when it is chosen."""
