"""A client that returns gradients, from a folder that its node names; a node may be told to be slow in a round."""

import os
import time

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

import gradvote.flower
from gradvote.algorithms import dropsignsgd

ALGORITHM = dropsignsgd()
app = ClientApp(mods=[gradvote.flower.client_mod(ALGORITHM, folder=os.environ["VOTING_APP"], reproducible=True)])


@app.train()
def train(message: Message, context: Context) -> Message:
    worker, number = int(context.node_config["partition-id"]), int(message.content["config"]["server-round"])
    if number == context.node_config.get("slow-in"):
        time.sleep(600)
    made = torch.Generator().manual_seed(1000 * worker + number)
    arrays = message.content["arrays"].to_torch_state_dict()
    own = ArrayRecord({name: torch.randn(x.shape, generator=made) for name, x in arrays.items()})
    return Message(RecordDict({"arrays": own, "metrics": MetricRecord({"num-examples": 1})}), reply_to=message)
