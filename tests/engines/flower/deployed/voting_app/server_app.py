"""The server; told to, it dies in the middle of a round. What it came to is written beside its checkpoint."""

import json
import os
import time
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

import gradvote.flower
from voting_app.client_app import ALGORITHM

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    folder, dies_in = Path(str(config["folder"])), int(config["dies-in"])
    strategy = gradvote.flower.GradVote(
        ALGORITHM,
        lr=0.05,
        update="gradient",
        checkpoint=folder / "server",
        fraction_evaluate=0.0,
    )
    while len(list(grid.get_node_ids())) < int(config["nodes"]):  # at the start only: one will be killed
        time.sleep(1.0)
    own = strategy.aggregate_train

    def aggregate(number: int, replies: object) -> object:
        if strategy._server is not None and strategy._server.version + 1 == dies_in:
            os._exit(9)
        return own(number, replies)

    strategy.aggregate_train = aggregate
    start = ArrayRecord({"weight": torch.linspace(-1, 1, 60).reshape(6, 10), "bias": torch.zeros(6)})
    timeout = float(config["timeout"])
    result = strategy.start(grid, start, num_rounds=int(config["num-rounds"]), timeout=timeout)
    arrays = {name: x.tolist() for name, x in result.arrays.to_torch_state_dict().items()}
    about = {"arrays": arrays, "abstentions": result.abstentions, "undecided": result.undecided}
    (folder / "result.json").write_text(json.dumps(about))
