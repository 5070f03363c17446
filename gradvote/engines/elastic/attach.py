"""`gradvote.elastic.attach`: from what a script has to a worker's part in the votes, checked before it joins."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.distributed import Store  # type: ignore[attr-defined]  # documented, but not in its `__all__`
from torch.optim import Optimizer

from gradvote.core import Algorithm
from gradvote.engines.common import owners
from gradvote.engines.common.arguments import check_faults, check_rule, check_weight, check_whole, in_words
from gradvote.engines.common.parameter_check import EVERY
from gradvote.engines.common.parameters import check_given
from gradvote.engines.common.replica import WHERE, Replica
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.environment import (
    MIN_WORKERS,
    WORKERS,
    credentials_of,
    env,
    host_of,
    naming_of,
    number_of,
    store_of,
)
from gradvote.engines.elastic.refusals import told_to_the_launcher
from gradvote.engines.elastic.servers.placement import Placement, check_placement, server_of
from gradvote.engines.elastic.timeouts import Timeouts, timeouts_for
from gradvote.engines.elastic.vote import ElasticVote
from gradvote.faults import Faulty
from gradvote.privacy import Gaussian
from gradvote.rounding import StateDtype, with_state_dtype

if TYPE_CHECKING:
    from gradvote.engines.elastic.signing.keys import Keys


@told_to_the_launcher()
def attach(
    model: nn.Module,
    optimizer: Optimizer | Sequence[Optimizer],
    algorithm: Algorithm,
    *,
    scaler: GradScaler | None = None,
    max_norm: float | None = None,
    min_workers: int | None = None,
    deadline: float = 2.0,
    seed: int = 0,
    secret: bytes | None = None,
    state_dtype: StateDtype = None,
    worker: int | None = None,
    workers: int | None = None,
    store: Store | str | None = None,
    host: str | None = None,
    timeouts: Timeouts | None = None,
    faults: Sequence[Faulty] = (),
    keys: "Keys | Path | str | None" = None,
    placement: Placement = "replicated",
    check_parameters_every: int | None = EVERY,
    insecure: bool = False,
    privacy: Gaussian | None = None,
) -> ElasticVote:
    """Let workers vote that may come and go; `step()` exchanges ballots and takes the optimizer's step.

        with gradvote.elastic.attach(model, optimizer, gradvote.algorithms.dropsignsgd(), min_workers=4) as vote:
            for step in vote.steps(1000):
                optimizer.zero_grad()
                loss(model, batch(vote.worker, step)).backward()
                vote.step()

    A step counts the ballots that arrived within `deadline` seconds, if they are at least `min_workers`; which ones is
    agreed on before anything is applied, and all members are bit-identical after every step. A worker that was away
    pulls what it missed and takes part again.

    `placement` says where the server's memory is. `replicated`: whole in every worker, each of which gets all ballots
    and decides for itself. `sharded`: cut into as many shards as workers are expected at the start, each held by a
    server and a buddy; only these two get its part of a ballot, and tell all what was decided.

    `worker` is this worker's number and `workers` how many are expected at the start; `gradvote launch` and torchrun
    give both, and the former `min_workers`. `store` is a torch Store, or HOST:PORT of one, that outlives the workers.
    `host` is the address to listen at; `faults` are lies of workers about their gradients, to try them. `secret` keys
    this worker's private draws; None derives them from the seed. `state_dtype`, such as torch.bfloat16, is that of
    momenta and memories between steps: half the memory (docs/memory.md). `scaler` is the loop's `torch.amp.GradScaler`:
    `step()` takes the place of its `step` and `update`, and each worker has a scale of its own. `max_norm` bounds the
    norm of this worker's own gradient before the vote. Within `check_parameters_every` steps all parameters have been
    compared: a member that holds others than most is named, and takes over theirs (None: never).

    `keys` is a folder of `gradvote keys`, or the one that `gradvote launch` has made. With its certificates all
    connections are encrypted (TLS 1.3), and both ends prove which workers they are. Where it has keys for ballots,
    these are signed (Ed25519), and a worker that sends different ones is left out for good, where it stops the run
    otherwise. All workers sign, or none. Without keys a worker listens on the loopback only, unless `insecure`.

    `privacy` bounds and hides this worker's whole gradient before the vote, and keeps an `account` with a ledger. A
    step that is tried again sends the same release again; where the account allows no more, `step` raises BudgetSpent,
    and the others go on without this worker.

    Raises:
        TypeError: something else than expected was given.
        ValueError: nothing to train, a rule that needs whole vectors where they are cut into shards, a parameter that
            the optimizer does not have, keys that are missing or do not fit, an address that others reach without
            keys, or a number that makes no sense.
        MissingExtra: there are keys, but not the extra `signed`.
    """
    check_given(model, optimizer, algorithm, WHERE)
    owners.warn_of_statistics(model.modules(), owners.APART, stacklevel=3)
    algorithm = with_state_dtype(algorithm, state_dtype)
    check_placement(placement)
    check_rule(algorithm, placement)
    quorum = int(env(MIN_WORKERS) or 0) if min_workers is None else min_workers
    _check_given(quorum, worker, workers, timeouts)
    if quorum < 1:
        raise ValueError(
            f"attach needs min_workers, at least 1: the fewest ballots that make a step; got {min_workers}. "
            "`gradvote launch --workers 3 --min-workers 2 train.py` starts a script with it; a script that is started "
            "by itself gives min_workers= and store=."
        )
    times = timeouts or timeouts_for(deadline)
    register = Register(store_of(store, times.timeout, keys, worker), patience=times.timeout)
    number = number_of(worker, register)
    expected = workers or int(env(WORKERS, "WORLD_SIZE") or quorum)
    check_weight(algorithm, number)
    check_faults(faults)
    for faulty in faults:
        faulty.check_real(expected, on_links=False)
    lies = tuple(faults), expected
    user = scaler, max_norm, check_parameters_every, privacy
    replica = Replica(model, optimizer, algorithm, number, seed, secret, lies, *user)
    server = server_of(placement, replica, expected)
    naming, credentials = naming_of(keys, number, register), credentials_of(keys, number)
    place = host_of(host, credentials, insecure)
    return ElasticVote(server, register, place, quorum, expected, times, naming, credentials)


def _check_given(quorum: object, worker: object, workers: object, timeouts: object) -> None:
    """Raise TypeError or ValueError for what is no number of workers, or no timeouts."""
    if isinstance(quorum, bool) or not isinstance(quorum, int):
        raise TypeError(f"min_workers is the fewest ballots that make a step, a whole number; got {quorum!r}.")
    if worker is not None:
        check_whole("worker", worker, 0, "this worker's number")
    if workers is not None:
        check_whole("workers", workers, 1, "how many are expected at the start")
    if timeouts is not None and not isinstance(timeouts, Timeouts):
        raise TypeError(f"timeouts= takes a gradvote.elastic.Timeouts; got {in_words(timeouts)}.")
