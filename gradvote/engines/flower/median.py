"""FedMedian and FedTrimmedAvg that a NaN, a wrong shape or an error of one client does not ruin: drop-in strategies."""

from collections.abc import Iterable
from logging import WARNING
from typing import Any

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray

from gradvote.aggregators import Median, TrimmedMean
from gradvote.core import Aggregator, Context
from gradvote.engines.flower import metrics
from gradvote.engines.flower.model import numpy_of, record_of
from gradvote.engines.flower.records import ReplyError
from gradvote.engines.flower.settings import ByMessages
from gradvote.staging import CPU

Arrays = dict[str, NDArray[Any]]


class _Robust(ByMessages, FedAvg):
    """FedAvg with another rule for each coordinate; a client's array with a value that is not finite is left out."""

    _rule: Aggregator
    _sent: Arrays

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """FedAvg's; the arrays are kept for those on which nobody finite answers."""
        self._sent = numpy_of(arrays)
        messages: Iterable[Message] = super().configure_train(server_round, arrays, config, grid)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """The rule over the arrays of all clients whose reply can be one."""
        given: list[Arrays] = []
        counted: dict[int, metrics.Numbers] = {}
        for message in replies:
            node = message.metadata.src_node_id
            try:
                given.append(_arrays_in(message, self._sent))
                counted[node] = metrics.numbers(message.content)
            except ReplyError as error:
                log(WARNING, "Round %d: node %d is left out: %s", server_round, node, error)
        if not given:
            return None, None
        found = {name: self._combined(name, [own[name] for own in given], server_round) for name in self._sent}
        return record_of(found), MetricRecord(metrics.mean(counted, self.weighted_by_key))

    def _combined(self, name: str, given: list[NDArray[Any]], server_round: int) -> NDArray[Any]:
        own = self._sent[name]
        wide = own.dtype == np.float64 or np.issubdtype(own.dtype, np.integer)  # float32 counts to 2**24 only
        x = torch.stack([torch.from_numpy(np.asarray(each, np.float64 if wide else np.float32)) for each in given])
        rows = x.reshape(len(given), 1, -1)
        valid = rows.isfinite().all(-1)
        if not bool(valid.any()):
            log(WARNING, "Round %d: nobody's %r is finite; it stays as it was.", server_round, name)
            return own
        if not bool(valid.all()):
            log(
                WARNING,
                "Round %d: %d of %d are left out of %r: not finite.",
                server_round,
                int((~valid).sum()),
                len(given),
                name,
            )
        ctx = Context(
            0,
            server_round,
            torch.zeros(1, dtype=torch.int64, device=CPU),
            torch.arange(len(given), device=CPU)[:, None],
        )
        found = self._rule(rows, valid, ctx)[0].reshape(own.shape).numpy()
        return found.round().astype(own.dtype) if np.issubdtype(own.dtype, np.integer) else found.astype(own.dtype)


class NanSafeMedian(_Robust):
    """x_j = median_i x_ij over the clients i whose whole array is finite: `FedMedian` that no NaN ruins.

    The same arguments as `FedAvg`; 32 bits per coordinate each way.
    """

    _rule = Median()


class NanSafeTrimmedMean(_Robust):
    """x_j = the mean of x_ij without the `trim` largest and smallest: `FedTrimmedAvg` that no NaN ruins.

    The other arguments are those of `FedAvg`; 32 bits per coordinate each way.
    """

    def __init__(self, trim: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rule = TrimmedMean(trim)


def _arrays_in(message: Message, sent: Arrays) -> Arrays:
    if message.has_error():
        raise ReplyError(f"its ClientApp failed: {metrics.last_line(message.error.reason)}")
    records = [*message.content.array_records.values()]
    if len(records) != 1:
        raise ReplyError(f"it sent {len(records)} ArrayRecords; one was expected.")
    found = numpy_of(records[0])
    shapes, expected = ({name: own.shape for name, own in each.items()} for each in (found, sent))
    if shapes != expected:
        wrong = sorted(name for name in shapes.keys() | expected.keys() if shapes.get(name) != expected.get(name))
        raise ReplyError(
            f"its array {wrong[0]!r} has shape {shapes.get(wrong[0])}; {expected.get(wrong[0])} was expected."
        )
    return found
