"""Nodes that answer at once, and the bytes of what travels to them and back."""

from collections.abc import Iterable
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.serde import recorddict_from_proto, recorddict_to_proto
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from gradvote.flower import client_mod


class Counted(Grid):
    """Nodes in this process that answer at once; the bytes of the records both ways."""

    def __init__(self, app: ClientApp, clients: int) -> None:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self.app, self.up, self.down = app, [0], [0]
        each = [{"partition-id": i, "num-partitions": clients} for i in range(clients)]
        self.contexts = {100 + i: Context(1, 100 + i, own, RecordDict(), {}) for i, own in enumerate(each)}

    def get_node_ids(self) -> Iterable[int]:
        return [*self.contexts]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        given = list(messages)
        if given:
            self.up, self.down = [], []
        return [self._answer(message) for message in given]

    def _answer(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        content = self._travelled(message.content, self.down)
        answer = self.app(Message(content, node, message.metadata.message_type), self.contexts[node])
        back = Message(self._travelled(answer.content, self.up), node, message.metadata.message_type)
        back.metadata.__dict__["_src_node_id"] = node
        return back

    def _travelled(self, content: RecordDict, counts: list[int]) -> RecordDict:
        sent = recorddict_to_proto(content)
        counts.append(sent.ByteSize())
        return recorddict_from_proto(sent)

    def _none(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("This strategy talks by send_and_receive alone.")

    set_run = create_message = push_messages = pull_messages = _none
    run = property(_none)


def app_of(algorithm: Any, options: dict[str, Any]) -> ClientApp:
    """A client whose arrays come back a little moved."""
    app = ClientApp(mods=[client_mod(algorithm, **options)])

    @app.train()
    def train(message: Message, context: Context) -> Message:
        made = torch.Generator().manual_seed(int(context.node_config["partition-id"]))
        arrays = message.content["arrays"].to_torch_state_dict()
        own = ArrayRecord({name: x + 0.01 * torch.randn(x.shape, generator=made) for name, x in arrays.items()})
        records = {"arrays": own, "metrics": MetricRecord({"num-examples": 5})}
        return Message(RecordDict(records), reply_to=message)

    return app
