"""Who is asked in a round, and what each of them is sent: one record for all that have missed the same."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from logging import INFO, WARNING
from time import monotonic, sleep

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.common.logger import log
from flwr.serverapp import Grid

from gradvote.engines.flower import metrics
from gradvote.engines.flower.model import record_of
from gradvote.engines.flower.records import MODEL, MOMENTA, NAME, Call, Reply, ReplyError, digest_of
from gradvote.engines.flower.roster import Roster
from gradvote.engines.flower.server import FederatedServer
from gradvote.schedules import Schedule

FIRST_MOD = "mods=[gradvote.flower.client_mod(algorithm)]"
WAIT = 1.0
"""Seconds between two looks at which nodes are there."""


@dataclass
class Asked:
    """The workers of a round by their nodes, and the messages to them."""

    workers: dict[int, int] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)

    def worker_of(self, answer: Message) -> int | None:
        """Whose answer it is: the SuperLink answers in its own name for a node that is gone, or an answer too late."""
        own = self.workers.get(answer.metadata.src_node_id)
        if own is not None or not answer.has_error():
            return own
        about = answer.metadata.reply_to_message_id
        nodes = (m.metadata.dst_node_id for m in self.messages if about and m.metadata.message_id == about)
        return next((self.workers[node] for node in nodes), None)


@dataclass(frozen=True)
class Asking:
    """The messages of one round. `shares` are, for each kind of message, the share of nodes asked and the fewest."""

    grid: Grid
    server: FederatedServer
    roster: Roster
    timeout: float
    lr: Schedule
    shares: Mapping[str, tuple[float, int]]
    min_available: int
    keys: tuple[str, str]

    def round(self, kind: str, asks: str, number: int, config: ConfigRecord) -> Asked:
        """The messages to the nodes that are drawn for this round, once there are enough."""
        share, fewest = self.shares[kind]
        if share == 0:
            return Asked()
        nodes = self._nodes(fewest)
        there = len(self.roster.present(nodes))
        count = max(int(there * share), min(fewest, there))
        chosen = self.roster.sample(nodes, count, self.server.seed, number)
        call, records = self._call(asks, number), {}
        for version in {self.roster.versions[n] for n in chosen}:
            news = self._news(version)
            own = call if MODEL in news else replace(call, voted=())
            records[version] = RecordDict({**news, NAME: own.record(), self.keys[1]: config})
        log(INFO, "Round %d: %s of %d nodes are asked to %s.", number, len(chosen), len(nodes), kind)
        message_type = MessageType.TRAIN if kind == "train" else MessageType.EVALUATE
        asked = Asked({self.roster.nodes[n]: n for n in chosen})
        for n in chosen:
            record = records[self.roster.versions[n]]
            asked.messages.append(Message(record, self.roster.nodes[n], message_type, ttl=self.timeout))
        return asked

    def _call(self, asks: str, number: int, proposed: int = -1) -> Call:
        server, recipe = self.server, repr(self.server.algorithm)
        return Call(
            asks,
            number,
            server.version,
            self.lr(server.version, 0),
            server.seed,
            server.history,
            recipe if asks == "hello" else digest_of(recipe),
            self.keys[0],
            asdict(server.outer),
            tuple(server.model.names),
            proposed,
        )

    def _news(self, version: int) -> dict[str, ArrayRecord | ConfigRecord]:
        """What a client of this version has missed: decisions, or the model with its momenta."""
        server = self.server
        missed = server.since(version)
        if missed is not None:
            return {f"{NAME}.{own.number}": own.record() for own in missed}
        momenta = {str(i): own.numpy() for i, own in enumerate(server.momenta)}
        whole: dict[str, ArrayRecord | ConfigRecord] = {MODEL: record_of(server.model.arrays())}
        if version >= 0:
            whole |= {f"{NAME}.{own.number}": own.record() for own in server.counted_since(version)}
        return {**whole, MOMENTA: record_of(momenta)} if momenta else whole

    def _nodes(self, fewest: int) -> list[int]:
        """The nodes that are there, once there are enough; new ones are asked who they are."""
        needed = max(fewest, self.min_available)
        while len(nodes := sorted(self.grid.get_node_ids())) < needed:
            log(INFO, "Waiting for nodes: %d are there, %d are needed.", len(nodes), needed)
            sleep(WAIT)
        strangers = self.roster.strangers(nodes)
        if strangers:
            self._greet(strangers, nodes)
        return nodes

    def _greet(self, strangers: list[int], nodes: list[int]) -> None:
        begun = monotonic()
        asked = Asked(dict(zip(strangers, self.roster.free(len(strangers)), strict=True)))
        for node, n in asked.workers.items():
            hello = RecordDict({NAME: self._call("hello", 0, n).record()})
            asked.messages.append(Message(hello, node, MessageType.TRAIN, ttl=self.timeout))
        silent, by_number = set(strangers), {n: node for node, n in asked.workers.items()}
        for message in self.grid.send_and_receive(asked.messages, timeout=self.timeout):
            number = asked.worker_of(message)
            if number is None:
                continue
            node = by_number[number]
            silent.discard(node)
            try:
                if message.has_error():
                    raise ReplyError(_unheard(metrics.last_line(message.error.reason)))
                self.roster.enrol(node, Reply.read(message.content), nodes)
            except ReplyError as error:
                log(WARNING, "Node %d takes no part: %s", node, error)
        for node in sorted(silent):
            log(WARNING, "Node %d takes no part yet: no answer within %.0f s.", node, monotonic() - begun)


def _unheard(reason: str) -> str:
    """Why a client did not say who it is; where it was not ours that said so, nobody listened."""
    if "client_mod" in reason:
        return reason
    return f"{reason.rstrip('.')}. Where its ClientApp has no {FIRST_MOD}, or another mod before it, mend that first."
