"""Flower's nodes in one process: real ClientApps and messages that are serialized both ways; no sockets, no Ray."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity
from torch import Tensor, nn

from gradvote.core import Algorithm
from gradvote.flower import GradVote, client_mod

Train = Callable[[nn.Module, int, int], float]
LR = 0.05


def travelled(content: RecordDict) -> RecordDict:
    """The records as they arrive."""
    return recorddict_from_proto(recorddict_to_proto(content))


def model() -> nn.Sequential:
    """A small net, the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3))


@dataclass
class LocalGrid(Grid):
    """A grid whose nodes answer at once. `faults` change or drop what node i answers at its k-th message."""

    apps: Sequence[ClientApp]
    faults: Callable[[int, Message], Message | None] = lambda _, answer: answer
    ids: list[int] = field(default_factory=list)
    contexts: dict[int, Context] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    up: list[int] = field(default_factory=list)
    down: list[int] = field(default_factory=list)
    partitions: bool = True

    def __post_init__(self) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.ids = [1000 - 7 * i for i in range(len(self.apps))]
        self.restart()

    def restart(self) -> None:
        """A new run: Flower forgets what its clients kept."""
        config = [{"partition-id": i} if self.partitions else {} for i in range(len(self.apps))]
        self.contexts = {
            node: Context(1, node, own, RecordDict(), {}) for node, own in zip(self.ids, config, strict=True)
        }

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return [node for node in self.ids if node not in self.gone]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        found = [self._answer(message) for message in messages]
        return [answer for answer in found if answer is not None]

    def _answer(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        if node in self.gone:
            return None
        self.down.append(len(recorddict_to_proto(message.content).SerializeToString()))
        arrived = Message(travelled(message.content), node, message.metadata.message_type)
        i = self.ids.index(node)
        context = self.contexts[node]
        try:
            answer = self.apps[i](arrived, context)
        except Exception as error:  # as Flower's own backend does
            answer = Message(Error(2, f"Traceback ...\n{type(error).__name__}: {error}"), reply_to=arrived)
        changed = self.faults(i, answer)
        context.state = travelled(context.state)
        if changed is None:
            return None
        if changed.has_content():
            self.up.append(len(recorddict_to_proto(changed.content).SerializeToString()))
        changed.metadata.__dict__["_src_node_id"] = node
        return changed


def app_of(train: Train, mods: Sequence[Any]) -> ClientApp:
    """A FedAvg client: `train(model, worker, round)` changes the model in place and gives its loss."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def fit(message: Message, context: Context) -> Message:
        net = model()
        net.load_state_dict(message.content["arrays"].to_torch_state_dict())
        number = int(message.content["config"]["server-round"])
        loss = train(net, int(context.node_config.get("partition-id", 0)), number)
        records = {"arrays": ArrayRecord(net.state_dict()), "metrics": MetricRecord({"num-examples": 5, "loss": loss})}
        return Message(RecordDict(records), reply_to=message)

    @app.evaluate()
    def test(message: Message, context: Context) -> Message:
        net = model()
        net.load_state_dict(message.content["arrays"].to_torch_state_dict())
        total = sum(float(p.detach().sum()) for p in net.parameters())
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1, "total": total})}), reply_to=message)

    return app


def gradient(worker: int, number: int, shape: Sequence[int], place: int) -> Tensor:
    """A gradient that is the same in every engine."""
    made = torch.Generator().manual_seed(1000 * worker + 10 * number + place)
    return torch.randn(*shape, generator=made)


def gradients(net: nn.Module, worker: int, number: int) -> float:
    """A train function that returns gradients in place of arrays."""
    for place, p in enumerate(net.parameters()):
        p.data.copy_(gradient(worker, number, p.shape, place))
    return float(worker)


def difference(net: nn.Module, worker: int, number: int) -> float:
    """A train function that takes one step."""
    for place, p in enumerate(net.parameters()):
        p.data.sub_(0.1 * gradient(worker, number, p.shape, place))
    return float(worker)


def grid_of(algorithm: Algorithm, workers: int = 5, train: Any = gradients, **options: Any) -> LocalGrid:
    """Nodes whose clients vote by an algorithm, reproducibly."""
    options = {"reproducible": True, **options}
    return LocalGrid([app_of(train, [client_mod(algorithm, **options)]) for _ in range(workers)])


def strategy_of(algorithm: Algorithm, **options: Any) -> GradVote:
    """A strategy on gradients."""
    return GradVote(algorithm, **{"lr": LR, "update": "gradient", "seed": 3, **options})


def start(strategy: GradVote, grid: LocalGrid, rounds: int) -> Any:
    """Its result on the small net."""
    return strategy.start(grid, ArrayRecord(model().state_dict()), num_rounds=rounds, timeout=7)
