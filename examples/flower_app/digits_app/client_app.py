"""A FedAvg client, unchanged but for its first mod."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from torch.nn.functional import cross_entropy

import gradvote.flower
from digits_app.task import ALGORITHM, data_of, make_model

app = ClientApp(mods=[gradvote.flower.client_mod(ALGORITHM)])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Some steps of SGD on this client's data."""
    model = make_model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    config = message.content["config"]
    partition, clients = int(context.node_config["partition-id"]), int(context.node_config["num-partitions"])
    x, y = data_of(partition, clients)
    draws = torch.Generator().manual_seed(1000 * int(config["server-round"]) + partition)
    optimizer = torch.optim.SGD(model.parameters(), lr=float(config["local-lr"]))
    for _ in range(int(config["local-steps"])):
        batch = torch.randint(len(y), (32,), generator=draws)
        optimizer.zero_grad()
        loss = cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
    metrics = MetricRecord({"num-examples": len(y), "loss": float(loss)})
    return Message(RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message)
