"""The server: the strategy in place of FedAvg."""

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

import gradvote.flower
from digits_app.task import ALGORITHM, make_model
from gradvote.lab.data import load

app = ServerApp()


def accuracy(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """On the held-out digits."""
    model, data = make_model(), load("digits")
    model.load_state_dict(arrays.to_torch_state_dict())
    with torch.no_grad():
        return MetricRecord({"accuracy": float((model(data.test_x).argmax(1) == data.test_y).float().mean())})


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and print the accuracy at the end."""
    config = context.run_config
    strategy = gradvote.flower.GradVote(
        ALGORITHM,
        lr=float(config["lr"]),
        local_steps=int(config["local-steps"]),
        fraction_evaluate=0.0,
        checkpoint=str(config["checkpoint"]) or None,
    )
    result = strategy.start(
        grid,
        ArrayRecord(make_model().state_dict()),
        num_rounds=int(config["num-rounds"]),
        timeout=float(config["timeout"]),
        train_config=ConfigRecord({"local-lr": float(config["local-lr"])}),
        evaluate_fn=accuracy,
    )
    final = result.evaluate_metrics_serverapp[int(config["num-rounds"])]["accuracy"]
    print(f"accuracy {final:.3f} after {config['num-rounds']} rounds; rounds without a decision: {result.undecided}")
