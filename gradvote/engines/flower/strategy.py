"""The strategy: Flower's rounds, with ballots up and decisions down. Whoever does not vote abstains, with a reason."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from logging import INFO, WARNING
from pathlib import Path
from time import monotonic
from typing import Literal

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy

from gradvote.aggregators.weights import capped
from gradvote.core import Algorithm
from gradvote.engines.common.fellows import fellows_of
from gradvote.engines.common.handles import in_one_line
from gradvote.engines.flower import checkpoint, metrics, settings
from gradvote.engines.flower.asking import Asked, Asking
from gradvote.engines.flower.model import Model, Outer, numpy_of, record_of
from gradvote.engines.flower.replies import Ballots, read
from gradvote.engines.flower.roster import Roster
from gradvote.engines.flower.server import FederatedServer, check_same_run, check_untouched, digest_of_arrays
from gradvote.schedules import Constant, Schedule

SLOW = (
    " A SuperNode starts a process for each message, which takes long on a busy machine: if clients need more than "
    "{:g} s, raise start(timeout=)."
)
STATISTICS_STAY = (
    "%r and its like are not voted on: each client keeps its own, and result.arrays has those of the start, with which "
    "nothing should be evaluated. Evaluate on the clients, or recompute them first (torch.optim.swa_utils.update_bn)."
)


@dataclass
class VotedResult(Result):
    """Flower's result; and, by round, why who abstained (`abstentions`), and the rounds without a decision."""

    abstentions: dict[int, dict[int, str]] = field(default_factory=dict)
    undecided: list[int] = field(default_factory=list)


class GradVote(settings.ByMessages, Strategy):
    """Votes, medians or means of packed ballots in place of FedAvg: 1 bit per coordinate each way for signs.

        strategy = gradvote.flower.GradVote(noisy(signsgd(), 0.01), lr=0.03, local_steps=5)
        strategy.start(grid, ArrayRecord(model.state_dict()), num_rounds=100)

    In round r each sampled client i sends u_i = start − end of its own steps (`update="difference"`), or the gradient
    that its train function returns ("gradient"), encoded by `algorithm`; the decision D of their ballots is the
    direction of a step of torch's SGD, x ← x − lr·D, that server and clients take alike. `lr` is a number or a
    schedule over rounds; `momentum`, `nesterov` and `weight_decay` are that step's.

    `local_steps` is told to the train function as config["local-steps"]. `voted` names the arrays that are trained
    (None: all). `weights`: "equal", or "examples" (each reply's `weighted_by_key`), no share above `cap`. A round with
    fewer than `min_voters` ballots that count decides nothing, and the log says so. `fraction_*`, `min_*` are FedAvg's;
    who is asked is drawn from `seed`. `fellows` are groups of workers whose data are of one kind: who contradicts its
    fellows, all rounds together, is in `doubted`, and its ballots do not count: its client hears so, and its memory
    keeps them. `checkpoint` is a file that is written after each round, and read at the start.

    Raises:
        TypeError, ValueError: what was given cannot be right; the sentence says the mend.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        *,
        lr: float | Schedule = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        local_steps: int | None = None,
        update: Literal["difference", "gradient"] = "difference",
        voted: Collection[str] | None = None,
        weights: Literal["equal", "examples"] = "equal",
        cap: float = 0.25,
        min_voters: int = 2,
        fraction_train: float = 1.0,
        fraction_evaluate: float = 1.0,
        min_train_nodes: int = 2,
        min_evaluate_nodes: int = 2,
        min_available_nodes: int = 2,
        fellows: Sequence[Sequence[int]] = (),
        weighted_by_key: str = "num-examples",
        arrayrecord_key: str = "arrays",
        configrecord_key: str = "config",
        seed: int = 0,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        settings.check_votes(algorithm, update, weights, voted, seed)
        nodes = {"min_train_nodes": min_train_nodes, "min_evaluate_nodes": min_evaluate_nodes}
        settings.check_counts(min_voters, local_steps, {**nodes, "min_available_nodes": min_available_nodes})
        settings.check_shares(fraction_train, fraction_evaluate, cap)
        settings.check_keys(arrayrecord_key, configrecord_key)
        self.algorithm, self.update, self.local_steps = algorithm, update, local_steps
        rate = lr(0, 0) if isinstance(lr, Schedule) else _plain(lr)
        self.outer = Outer(rate, momentum, nesterov, weight_decay)
        self.lr = lr if isinstance(lr, Schedule) else Constant(rate)
        self.voted, self.weights, self.cap, self.min_voters = voted, weights, cap, min_voters
        self.shares = {"train": (fraction_train, min_train_nodes), "evaluate": (fraction_evaluate, min_evaluate_nodes)}
        self.min_available_nodes, self.weighted_by_key = min_available_nodes, weighted_by_key
        self.arrayrecord_key, self.configrecord_key = arrayrecord_key, configrecord_key
        self.seed, self.checkpoint = seed, None if checkpoint is None else Path(checkpoint)
        self.abstentions: dict[int, dict[int, str]] = {}
        self.undecided: list[int] = []
        self.fellows, self.doubted = fellows_of(fellows), frozenset[int]()
        self.roster, self._server, self._timeout = Roster(), None, 3600.0
        self._asked, self._begun, self._first = Asked(), monotonic(), ""
        if self.checkpoint is not None and self.checkpoint.is_dir():
            raise ValueError(f"checkpoint= is a file, but {self.checkpoint.name} is a folder; name a file in it.")

    _server: FederatedServer | None

    def __repr__(self) -> str:
        return in_one_line(type(self).__name__, lambda: (f"after round {len(self.abstentions)}", self.algorithm))

    def summary(self) -> None:
        """Log what this strategy does."""
        log(INFO, "\t├──> Algorithm: %s", self.algorithm)
        log(INFO, "\t├──> Update: %s, then SGD with lr %g", self.update, self.outer.lr)
        log(INFO, "\t└──> A round needs %d ballots; weights: %s", self.min_voters, self.weights)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> VotedResult:
        """Flower's loop, from where the checkpoint stands to round `num_rounds`.

        A round waits `timeout` seconds for ballots, and messages live no longer. The result says who abstained and why.
        """
        settings.check_start(initial_arrays, num_rounds)
        self._timeout = timeout
        if self._server is not None:
            check_same_run(numpy_of(initial_arrays), self._first, self._server)
        server = self._begin(initial_arrays)
        if num_rounds <= server.version > 0:
            log(
                WARNING,
                "Nothing is trained: %d rounds are over, and num_rounds=%d counts those.",
                server.version,
                num_rounds,
            )
        done, evaluate = server.version, None
        if evaluate_fn is not None:
            evaluate = lambda number, arrays: evaluate_fn(number + done, arrays)  # noqa: E731 # closes over what is done
        arrays = record_of(server.model.arrays())
        own = super().start(grid, arrays, max(0, num_rounds - done), timeout, train_config, evaluate_config, evaluate)
        moved = [{n + done: r for n, r in by.items()} for by in _by_round(own)]
        if self.undecided:
            log(WARNING, "%d of %d rounds decided NOTHING, see result.undecided.", len(self.undecided), server.version)
        return VotedResult(record_of(server.model.arrays()), *moved, self.abstentions, self.undecided)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of a round: to all nodes with the same record, and the decisions that each has missed."""
        server = self._begin(arrays)
        check_untouched(numpy_of(arrays), server)
        number = server.version + 1
        config["server-round"] = number
        if self.local_steps is not None:
            config["local-steps"] = self.local_steps
        self._asked, self._begun = self._asking(grid).round("train", self.update, number, config), monotonic()
        return self._asked.messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Close the round: the new model, and metrics of who voted."""
        server = self._begin(None)
        number, lr = server.version + 1, self.lr(server.version, 0)
        took = monotonic() - self._begun
        opened = lambda worker, raw: server.open(worker, raw, lr)  # noqa: E731 # closes over the round's rate
        found = read(replies, self._asked, self.roster, opened, self._timeout)
        if self.weights == "examples":
            found.leave_out_unweighed(self.weighted_by_key)
        tally = server.heard(found.bodies, lr)
        self._doubt(number, server.doubted_by(tally), found)
        decided = len(found.bodies) >= self.min_voters
        if decided:
            server.decide(found.bodies, lr, self._weights(found), tally)
        else:
            server.close_undecided(lr, tally)
            self.undecided.append(number)
        self._tell(number, found, decided, took)
        if self.checkpoint is not None:
            checkpoint.save(self.checkpoint, server, self.roster, self.abstentions, self.undecided)
        numbers = {"voters": len(found.bodies), "abstained": len(found.reasons), "doubted": len(found.doubted)}
        mean = metrics.mean(found.metrics, self.weighted_by_key)
        whole = MetricRecord(metrics.beside(mean, {**numbers, "decided": int(decided)}))
        return (record_of(server.model.arrays()) if decided else None), whole

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """The messages of an evaluation: they bring the last decision, too."""
        server = self._begin(arrays)
        config["server-round"] = server.version
        self._asked = self._asking(grid).round("evaluate", "arrays", server.version, config)
        return self._asked.messages

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """The mean of the clients' metrics."""
        found = read(replies, self._asked, self.roster, None, self._timeout)
        for worker, reason in sorted(found.reasons.items()):
            log(WARNING, "Worker %d did not evaluate: %s.", worker, reason)
        mean = metrics.mean(found.metrics, self.weighted_by_key)
        return MetricRecord(mean) if mean else None

    def _begin(self, arrays: ArrayRecord | None) -> FederatedServer:
        """The server, which is made of the first arrays, or of the checkpoint."""
        if self._server is None:
            assert arrays is not None, "configure_train comes first"
            given = numpy_of(arrays)
            model, self._first = Model(given, self.voted), digest_of_arrays(given)
            settings.check_values(model)
            if model.statistics:
                log(WARNING, STATISTICS_STAY, model.statistics[0])
            server = FederatedServer(self.algorithm, self.seed, self.outer, model, fellows=self.fellows)
            if self.checkpoint is not None and self.checkpoint.is_file():
                self.abstentions, self.undecided = checkpoint.load(self.checkpoint, server, self.roster)
                log(INFO, "Going on after round %d of %s.", server.version, self.checkpoint.name)
            self._server, self.doubted = server, server.doubted
        return self._server

    def _asking(self, grid: Grid) -> Asking:
        """Who asks in this round."""
        keys = self.arrayrecord_key, self.configrecord_key
        server, lr = self._begin(None), self.lr
        return Asking(grid, server, self.roster, self._timeout, lr, self.shares, self.min_available_nodes, keys)

    def _weights(self, found: Ballots) -> Mapping[int, float] | None:
        """The workers' weights, none above the cap; None: equal ones."""
        if self.weights == "equal":
            return None
        workers = sorted(found.bodies)
        given = tuple(metrics.weight(found.metrics.get(n, {}), self.weighted_by_key) for n in workers)
        return dict(zip(workers, capped(given, max(self.cap, 1 / len(workers))), strict=True)) if any(given) else None

    def _doubt(self, number: int, doubted: frozenset[int], found: Ballots) -> None:
        """Take doubted workers' ballots out of those found, and tell whom doubt is new of, or over."""
        for worker in sorted(doubted - self.doubted):
            log(WARNING, "Round %d: worker %d contradicts its fellows; its ballots do not count.", number, worker)
        for worker in sorted(self.doubted - doubted):
            log(
                WARNING, "Round %d: worker %d contradicts its fellows no more; its ballots count again.", number, worker
            )
        self.doubted = doubted
        found.leave_out(doubted)

    def _tell(self, number: int, found: Ballots, decided: bool, took: float) -> None:
        self.abstentions[number] = dict(sorted(found.reasons.items()))
        for worker, reason in self.abstentions[number].items():
            log(WARNING, "Round %d: worker %d abstained: %s.", number, worker, reason.rstrip("."))
        if not decided:
            log(
                WARNING,
                "Round %d decided NOTHING and the model stays: %d ballots count (%d more are doubted), but min_voters "
                "is %d.%s",
                number,
                len(found.bodies),
                len(found.doubted),
                self.min_voters,
                SLOW.format(self._timeout) if found.silent else "",
            )
        elif took > self._timeout / 2 and not found.reasons:
            log(
                WARNING,
                "Round %d: the slowest answer took %.0f of the %g s that there are. Raise start(timeout=), or workers "
                "will abstain when their machines are busier.",
                number,
                took,
                self._timeout,
            )


def _plain(lr: float) -> float:
    """A rate as Flower's records take it: numpy's numbers are none. What is no number is refused by `Outer`."""
    return lr.item() if isinstance(lr, np.generic) else lr


def _by_round(result: Result) -> list[dict[int, MetricRecord]]:
    return [
        result.train_metrics_clientapp,
        result.evaluate_metrics_clientapp,
        result.evaluate_metrics_serverapp,
    ]
