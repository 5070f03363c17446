"""The client's half as a mod: what the user's train function receives and returns is whole arrays, as with FedAvg."""

import json
import os
from collections.abc import Callable
from logging import INFO, WARNING
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.common.logger import log
from torch import Tensor

from gradvote.core import Algorithm
from gradvote.engines.common.arguments import check_algorithm, check_members
from gradvote.engines.common.clipping import check_max_norm, clipped
from gradvote.engines.common.releases import Releases, check_privacy
from gradvote.engines.flower.client_state import ClientState, keep, kept
from gradvote.engines.flower.model import Model, Outer, numpy_of, record_of
from gradvote.engines.flower.other_mods import check_mods
from gradvote.engines.flower.records import (
    MODEL,
    MOMENTA,
    NAME,
    Call,
    Decided,
    Reply,
    arrays_in,
    config_in,
    digest_of,
)
from gradvote.privacy import BudgetSpent, Gaussian

Next = Callable[[Message, Context], Message]
VOTED_ON = (MessageType.TRAIN, MessageType.EVALUATE)
"""What a strategy sends. Queries, and train functions with a name of their own ("train.stats"), are the app's."""
UNTRAINED = "its train function returned the arrays as it got them, so it has nothing to vote with"
UNTRAINED_TOO = (
    "%r came back as it was sent, yet under privacy= it gets noise like all that is voted on, or ballots would tell "
    "what was trained: such votes move it at random. Name in the strategy's voted= what is trained, and nothing else."
)
NEAR = 0.1
"""What differs from the model by less than this share of its norm is a model, not a gradient."""
NOT_GRADIENTS = (
    "The train function returned nearly the arrays that it got, but the strategy asks for gradients "
    "(update='gradient'), and votes on these as such: weights would only shrink. Use update='difference', or return "
    "gradients in place of the arrays."
)
LEGACY = ("fitins.parameters", "evaluateins.parameters")
"""What Flower's older clients look for in a message."""
NO_CLIENT_FN = (
    "This ClientApp was made of a client_fn (NumPyClient, Client), whose older messages Flower's strategies of "
    "flwr.serverapp do not send. Write its fit and evaluate as functions of a message: @app.train(), @app.evaluate()."
)
NO_MODEL = "it has no model of this run yet, or missed more rounds than the server remembers; it gets the model now"


class ClientMod:
    """The mod; `client_mod` makes it."""

    def __init__(
        self,
        algorithm: Algorithm,
        folder: Path | None,
        reproducible: bool,
        max_norm: float | None,
        privacy: Gaussian | None,
    ) -> None:
        check_algorithm(algorithm, "client_mod(algorithm)")
        check_members(algorithm)
        check_max_norm(max_norm, algorithm)
        if privacy is not None and reproducible:
            raise ValueError(
                "reproducible=True derives draws from a public seed; with privacy they must be nobody's to repeat."
            )
        check_privacy(privacy, algorithm, keyed=True, max_norm=max_norm, restarts=folder is None)
        self._privacy = privacy
        self._algorithm, self._folder, self._max_norm = algorithm, folder, max_norm
        self._reproducible = reproducible

    def __call__(self, message: Message, context: Context, call_next: Next) -> Message:
        """Answer one message of the strategy; others pass as they are."""
        if message.metadata.message_type not in VOTED_ON:
            return call_next(message, context)
        call = Call.read(config_in(message.content))
        self._check_recipe(call)
        noise = check_mods(call_next, call.asks, self._privacy is not None)
        state = self._state(call, context)
        ready = call.asks != "hello" and _catch_up(state, call, message.content, self._algorithm)
        if not ready:
            reason = "" if call.asks == "hello" else NO_MODEL
            answer = _answer(message, Reply(state.worker, state.version, reason=reason))
        elif call.asks == "arrays":
            answer = self._evaluate(state, call, message, context, call_next)
        else:
            assert state.model is not None
            before, others = state.pending, state.model.others
            answer = self._train(state, call, message, context, call_next)
            if noise is not None and state.pending is not before:  # not a ballot that is sent again
                state.releases += 1
                noise.tell(state.releases, [*others])
                state.model.others = others  # they are never sent: noise would hide nothing, and gather
        keep(state, context.state, self._file(context))
        return answer

    def _train(self, state: ClientState, call: Call, message: Message, context: Context, call_next: Next) -> Message:
        last = state.pending
        if last is not None and last.number == call.number:  # asked twice: the same ballot, or two draws were seen
            metrics = RecordDict({"metrics": MetricRecord(json.loads(last.metrics))})
            return _answer(message, Reply(state.worker, state.version, last.message), metrics)
        assert state.model is not None and state.protocol is not None
        out = _answered(call_next, _inner(message, call, record_of(state.model.arrays())), context)
        if out.has_error():
            return out
        update = self._update(state, call, _only_arrays(out.content))
        if update is None:
            return _answer(message, Reply(state.worker, state.version, reason=UNTRAINED), _beside(out.content))
        if self._privacy is not None:
            try:
                update = self._released(state, update)
            except BudgetSpent as error:
                return _answer(message, Reply(state.worker, state.version, reason=str(error)))
        metrics = {k: v for own in out.content.metric_records.values() for k, v in own.items()}
        ballot = state.vote(update, call, json.dumps(metrics))
        return _answer(message, Reply(state.worker, state.version, ballot), _beside(out.content))

    def _update(self, state: ClientState, call: Call, returned: ArrayRecord) -> Tensor | None:
        """start − end of the client's own steps, or the gradient that it returned (d,). None: nothing was trained.

        Under an account who trained nothing answers like all others, or it would be told.
        """
        assert state.model is not None and state.protocol is not None
        arrays = numpy_of(returned)
        if call.asks == "gradient":
            update = state.model.flat(state.protocol, arrays)
            own = state.model.flat(state.protocol)
            if bool((update - own).norm() < NEAR * own.norm()):
                log(WARNING, NOT_GRADIENTS)
        else:
            ends = state.model.ended(arrays)
            if self._privacy is None and all(end is None for end in ends):
                return None
            untrained = next((name for name, end in zip(state.model.names, ends, strict=True) if end is None), None)
            if self._privacy is not None and untrained is not None:
                log(WARNING, UNTRAINED_TOO, untrained)
            update = state.model.difference(state.protocol, ends)
            state.model.others = {name: arrays.get(name, own) for name, own in state.model.others.items()}
        return clipped(state.protocol.layout, update, self._max_norm)

    def _released(self, state: ClientState, update: Tensor) -> Tensor:
        """The update as it may be seen; the account is charged first, and kept with the ballot."""
        assert self._privacy is not None
        releases = Releases(self._privacy, update.numel())
        account = releases.account
        account.releases = max(account.releases, state.releases)
        seen = releases.release(0, update)
        state.releases = account.releases
        log(
            INFO,
            "Release %d: epsilon <= %.3g at delta %g (%s, add or remove one %s; seen by whoever sees the ballot).",
            account.releases,
            account.epsilon(method="rdp"),
            self._privacy.delta,
            "an upper bound by RDP" if self._privacy.rate < 1 else "exact",
            self._privacy.unit,
        )
        return seen

    def _evaluate(self, state: ClientState, call: Call, message: Message, context: Context, call_next: Next) -> Message:
        assert state.model is not None
        out = _answered(call_next, _inner(message, call, record_of(state.model.arrays())), context)
        if out.has_content():
            out.content[NAME] = Reply(state.worker, state.version).record()
        return out

    def _state(self, call: Call, context: Context) -> ClientState:
        """What is known so far of this run: of another one nothing is kept."""
        own = context.node_config.get("partition-id")
        worker = own if isinstance(own, int) and not isinstance(own, bool) else None
        found = kept(context.state, self._file(context), self._algorithm, call.seed)
        if found is not None and found.history == call.history:
            return found
        secret = None if self._reproducible else os.urandom(32)
        releases = 0 if found is None else found.releases  # another run with the same data costs on top
        return ClientState(call.proposed if worker is None else worker, call.history, secret, releases=releases)

    def _file(self, context: Context) -> Path | None:
        if self._folder is None:
            return None
        own = context.node_config.get("partition-id")
        return self._folder / ("client.npz" if own is None else f"client-{own}.npz")

    def _check_recipe(self, call: Call) -> None:
        own = repr(self._algorithm)
        if call.recipe not in (own, digest_of(own)):
            raise ValueError(
                f"The server votes by {call.recipe}, but this client_mod by {self._algorithm!r}. Give both the same "
                "algorithm, from a module that both import."
            )


def client_mod(
    algorithm: Algorithm,
    *,
    folder: str | os.PathLike[str] | None = None,
    reproducible: bool = False,
    max_norm: float | None = None,
    privacy: Gaussian | None = None,
) -> Any:
    """The first mod of a ClientApp whose train function is that of FedAvg: arrays in, arrays out.

        app = ClientApp(mods=[gradvote.flower.client_mod(algorithm)])

    What comes back is start − end (or the gradient returned, as the strategy asks), encoded by `algorithm`, the same as
    the server's: for signs 1 bit per coordinate. Arrays that are not voted on stay the client's own.

    `folder` keeps the model, the memory and the ballot on its way in a file, for the next run: Flower forgets a
    client's state with the run. `reproducible` derives private draws (noise) from the public seed; else their key is
    drawn from the operating system, once, and never leaves the client. `max_norm` bounds the norm of the update.
    `privacy` bounds the update, adds noise that nobody can repeat, and keeps an account; the client abstains before
    `max_epsilon` is passed. Metrics travel as the train function gives them, outside the account.

    Raises:
        TypeError, ValueError: no algorithm, or one that clients who come and go cannot run.
    """
    return ClientMod(algorithm, None if folder is None else Path(folder), reproducible, max_norm, privacy)


def _catch_up(state: ClientState, call: Call, content: RecordDict, algorithm: Algorithm) -> bool:
    """Bring the model to the version that the round begins with; False: what was sent does not reach that far."""
    outer = Outer.read(call.outer)
    whole = arrays_in(content, MODEL)
    missed = [content.config_records.get(f"{NAME}.{n}") for n in range(state.version + 1, call.base + 1)]
    known = all(own is not None for own in missed)
    if whole is None and state.model is not None and state.version <= call.base and known:
        for record in missed:
            assert record is not None
            state.hear(Decided.read(record), outer)
        return True
    if whole is None:
        return False
    model = Model(numpy_of(whole), call.voted)
    momenta = [torch.from_numpy(x.copy()) for x in numpy_of(content.array_records.get(MOMENTA, ArrayRecord())).values()]
    last = None if state.pending is None else content.config_records.get(f"{NAME}.{state.pending.number}")
    counted = last is not None and state.worker in Decided.read(last).counted
    state.adopt(model, momenta, call.base, model.protocol(algorithm, call.seed), counted)
    return True


def _inner(message: Message, call: Call, arrays: ArrayRecord) -> Message:
    """The message as FedAvg would have sent it, with what a subclass of the strategy has put beside.

    Raises:
        ValueError: that is called as the arrays are, which each client has of its own: only decisions travel.
    """
    if call.key in message.content:
        raise ValueError(
            f"The strategy's message has a record {call.key!r}, where the train function gets the model that all voted "
            "on; an update from other arrays would be wrong. Give the record another name."
        )
    others = {key: own for key, own in message.content.items() if key != NAME and not key.startswith(f"{NAME}.")}
    message.content = RecordDict({call.key: arrays, **others})
    return message


def _answered(call_next: Next, message: Message, context: Context) -> Message:
    """What the user's function answers."""
    try:
        out: Any = call_next(message, context)
    except KeyError as error:
        if str(error.args[0]) in LEGACY:
            raise TypeError(NO_CLIENT_FN) from error
        raise
    if not isinstance(out, Message):
        kind = message.metadata.message_type
        raise TypeError(f"The {kind} function returned {type(out).__name__}; a flwr.app.Message was expected.")
    return out


def _only_arrays(content: RecordDict) -> ArrayRecord:
    found = [*content.array_records.values()]
    if len(found) != 1:
        raise ValueError(
            f"The train function returned {len(found)} ArrayRecords; one, with the arrays it got, was expected."
        )
    return found[0]


def _beside(content: RecordDict) -> RecordDict:
    """What the train function returned beside the arrays."""
    return RecordDict({key: own for key, own in content.items() if not isinstance(own, ArrayRecord)})


def _answer(message: Message, reply: Reply, more: RecordDict | None = None) -> Message:
    return Message(RecordDict({**(more or {}), NAME: reply.record()}), reply_to=message)
