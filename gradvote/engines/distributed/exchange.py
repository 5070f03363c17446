"""The exchange for training loops of one's own: `exchange.step()` between `backward()` and `optimizer.step()`."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.common import owners
from gradvote.engines.common.arguments import check_algorithm, check_optimizers, check_rule, check_whole
from gradvote.engines.common.clipping import factor
from gradvote.engines.common.flat_buffer import FlatBuffer, Outbox, flat_dtype, target_of
from gradvote.engines.common.handles import Handle
from gradvote.engines.common.parameter_check import EVERY
from gradvote.engines.common.parameters import Named, check_gradients, parameters_of
from gradvote.engines.common.placement import Placement
from gradvote.engines.common.releases import Releases, account_of, releases_of
from gradvote.engines.common.scaling import all_finite
from gradvote.engines.common.terms import optimizer_terms
from gradvote.engines.common.torch_modes import ordinary_tensors, uncompiled
from gradvote.engines.common.training import Training, add
from gradvote.engines.distributed import dropped_groups, pipeline
from gradvote.engines.distributed.alike import make_alike, together
from gradvote.engines.distributed.chunking import Chunking
from gradvote.engines.distributed.comparison import Comparison
from gradvote.engines.distributed.failures import Watch, private_group
from gradvote.engines.distributed.session import Session
from gradvote.engines.distributed.slices import squares_of, update_of
from gradvote.engines.distributed.stats import ExchangeStats
from gradvote.engines.distributed.transport import Transport
from gradvote.faults import Faulty
from gradvote.layout import Layout
from gradvote.privacy import Account, Gaussian
from gradvote.rounding import StateDtype, with_state_dtype

WHERE = "Exchange(params, algorithm)"
AGAIN = "build the exchange anew, on all ranks"
ADVICE = "Call optimizer.zero_grad() before the backward passes of a step, and exchange.step() once, after the last."
STATISTICS = (
    "each rank keeps running statistics of its own data, so that they differ between ranks. Call "
    "gradvote.distributed.average_statistics(model) before evaluating or saving."
)


class Exchange(Handle):
    """Replaces the gradients of `params` by the direction that all ranks agree on, at one bit per coordinate or so.

        exchange = gradvote.distributed.Exchange(model.named_parameters(), gradvote.algorithms.signum(), optimizer=opt)
        loss.backward()
        exchange.step()
        opt.step()

    All ranks of `group` build it with the same parameters (or named parameters), algorithm, `placement` and `seed`,
    and call `step` equally often. With `init_sync` parameters and the buffers beside them begin with rank 0's values.
    A parameter without a gradient abstains; one on which nobody voted has none afterwards (`.grad` is None). A `.grad`
    that still holds the last direction is no gradient: the next direction is added to it.

    `optimizer`, one or several, gives the learning rates by which error memories are rescaled. `scaler`, the
    `torch.amp.GradScaler` of the loop, keeps memories in true gradient units; where most ranks overflowed all skip the
    step. `max_norm` bounds the norm of this worker's own gradient before the vote. `secret` keys this rank's private
    draws; None derives them from the seed, which makes runs reproducible and noise no protection. `state_dtype`, as
    torch.bfloat16, is that of momenta and memories between steps: half the memory (docs/memory.md). `chunks` is the
    number of parts in which the gradient travels, so that work and transfer overlap (None: what is faster in the first
    steps). `timeout` (seconds) is how long a rank waits for the others; a `group` of only some of the ranks is used as
    it is, with its own timeout. Every `check_parameters_every` steps, and more often at the start, the parameters of
    all ranks are compared by their digests (None: never). `privacy` bounds and hides this rank's whole gradient before
    anything else is done with it, and keeps an `account`; a rank without one sends what it has. With unit="example" the
    gradients must be those of `gradvote.privacy.clipped_sum`.

    Raises:
        TypeError: something else than expected was given.
        ValueError: nothing to train, what cannot be exchanged, or the ranks differ in what they were given.
    """

    @ordinary_tensors()
    def __init__(
        self,
        params: Named,
        algorithm: Algorithm,
        *,
        placement: Placement = "sharded",
        optimizer: Optimizer | Sequence[Optimizer] | None = None,
        scaler: GradScaler | None = None,
        max_norm: float | None = None,
        init_sync: bool = True,
        group: dist.ProcessGroup | None = None,
        seed: int = 0,
        secret: bytes | None = None,
        state_dtype: StateDtype = None,
        chunks: int | None = None,
        timeout: float = 300.0,
        faults: Sequence[Faulty] = (),
        check_parameters_every: int | None = EVERY,
        privacy: Gaussian | None = None,
    ) -> None:
        modules = owners.live_modules()
        private = private_group(group, timeout)
        own_group = private or group
        assert own_group is not None
        transport, self._watch = Transport(own_group), Watch(own_group)
        if private is not None:
            dropped_groups.know(private, transport)
        with together(transport, self._watch):
            parameters = parameters_of(params, WHERE)
            check_algorithm(algorithm, WHERE)
            algorithm = with_state_dtype(algorithm, state_dtype)
            check_rule(algorithm, placement)
            mine = owners.checked(parameters.tensors, modules)
            parameters = parameters.beside(owners.frozen_of(mine))
            optimizers = check_optimizers(optimizer, WHERE)
            self._training = Training(parameters, algorithm, optimizers, scaler, max_norm, AGAIN, mine, ADVICE)
            self._session = self._opened(parameters, algorithm, placement, transport, seed, secret, faults)
            self._session.releases = self._accounted(privacy, algorithm, secret, scaler, max_norm)
            if chunks is not None:
                check_whole("chunks", chunks, 1, "the number of parts in which a gradient travels")
            chunks = chunks if algorithm.aggregate.separable else 1
            self._comparison = Comparison(transport, parameters, check_parameters_every, self._watch)
            wide = placement != "replicated" and pipeline.is_wide(algorithm)
            self._chunking = Chunking(self._session.protocol.layout, transport, chunks, wide)
        self.params = parameters.tensors
        own = {"check_parameters_every": check_parameters_every, "chunks": chunks, "init_sync": init_sync}
        self._session.check_alike(parameters, own | self._terms(check_parameters_every is not None))
        if private is not None:
            dropped_groups.let_go(transport)
        if init_sync:
            make_alike(transport, parameters, owners.buffers_of(mine))
        owners.warn_of_statistics(mine, STATISTICS, stacklevel=2)
        self._buffer = FlatBuffer(flat_dtype(self.params), parameters.device)

    @uncompiled
    @ordinary_tensors()
    def step(self) -> None:
        """One round.

        Where it fails before anything has travelled, all is as it was. Where it fails later, gradients are as they were
        unless a rank is lost while decisions travel: then some may hold directions. Memories and momenta may be half of
        this step then: an algorithm that has any takes no further step, and gives no `state_dict`, until it has loaded
        one.

        Raises:
            ExchangeError: another rank failed or did not answer in time; the text names it.
            ParametersDiffer: the ranks hold different parameters; the text names them.
            RuntimeError: an earlier step failed half way.
            BudgetSpent: this rank's account allows no further release; nothing was sent.
        """
        try:
            started = time.perf_counter()
            self._step(self._chunking.layouts())
            self._chunking.took(time.perf_counter() - started)
        except Exception as error:
            raise self._watch.failed(error, self._session.step) from error

    def _terms(self, compares: bool) -> dict[str, object]:
        """What all ranks must be given alike, too; `compares`: parameters are compared, so optimizers are."""
        return self._training.terms(compares)

    def stats(self) -> ExchangeStats:
        """What this rank has counted."""
        return self._session.stats()

    def all_stats(self) -> list[ExchangeStats]:
        """What each rank has counted; all ranks must ask."""
        return self._session.all_stats()

    def state_dict(self, views: bool = False) -> dict[str, Any]:
        """This rank's memories and momenta by parameter, its share of the server's, and the step.

        Tensors are copies. With `views`, to save large states at once, they are lists of views, which need no memory
        until the next step; `load_state_dict` takes both.
        """
        return self._session.state_dict(views)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue, bit for bit, where this rank's `state_dict` was taken.

        Raises:
            ValueError: it was saved for something else; nothing has been changed.
        """
        self._session.load_state_dict(state)

    def _step(self, layouts: list[Layout]) -> None:
        user = self._training
        user.trained.check()
        self._session.begin()
        self._comparison.look(self._session.step, self._session.came_from())
        gradients, aside = user.directions.collect()
        check_gradients(user.names, gradients.values())
        scale, lr = user.scaling.scale(), user.optimizers.rates()
        keys = [(k, len(layouts)) for k in range(len(layouts))]
        seen = self._session.seen(self._buffer.gather, gradients, self.params)
        shrink = 1.0
        if user.max_norm is not None:
            shrink = self._factor(squares_of(self._buffer, layouts, seen, scale), user.max_norm)
        update = update_of(self._buffer, seen, scale, shrink)
        targets = {i: target_of(self.params[i], g) for i, g in gradients.items()}
        if self._overflowed(gradients):
            user.scaling.settle(True)
            user.give(targets, frozenset(aside), scale, True)
            self._session.skip()
            return
        rounds = [self._session.round_of(key, layout, lr) for key, layout in zip(keys, layouts, strict=True)]
        outbox = Outbox(self._buffer, targets, scale)
        traffic = pipeline.run(self._session.transport, rounds, update, lambda k: rounds[k].read(outbox.write))
        outbox.finish()
        if not user.scaling.active and any(round_.abstained for round_ in rounds):
            user.overflowed()
        add(aside, targets)
        decided = self._agreed(frozenset[int](aside).union(*(round_.decided for round_ in rounds)))
        user.scaling.settle(not decided)
        user.give(targets, decided, scale)
        self._session.commit(dict(zip(keys, rounds, strict=True)), traffic)

    def _told(self) -> tuple[str, object]:
        return self._session.told()

    @property
    def account(self) -> Account | None:
        """What this rank's ballots have cost so far, under `privacy`."""
        return account_of(self._session.releases)

    def _opened(self, *given: Any, **more: Any) -> Session:
        return Session(*given, **more)

    def _accounted(self, privacy: Gaussian | None, *beside: Any) -> Releases | None:
        return releases_of(privacy, self._session.protocol.layout.size, *beside)

    def _factor(self, sums: Sequence[Tensor], max_norm: float) -> float:
        """What this worker's gradient is multiplied by, from the `squares` of its slices' blocks."""
        return factor(sums, max_norm)

    def _agreed(self, decided: frozenset[int]) -> frozenset[int]:
        """The parameters that have a direction, of those that this exchange has decided on."""
        return decided

    def _overflowed(self, gradients: Mapping[int, Tensor | None]) -> bool:
        """Whether most ranks' gradients overflowed under a scaler: asked before any memory changes."""
        if not self._training.scaling.active:
            return False
        own = not all_finite(g for g in gradients.values() if g is not None)
        return self._session.transport.most(own)


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
