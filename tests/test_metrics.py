"""Numbers of every engine's stats, and where they may go."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gradvote import metrics
from gradvote.engines.distributed.stats import ExchangeStats
from gradvote.engines.elastic.counts import ElasticStats, WorkerCounts

RANK = ExchangeStats(1, 2, 100, steps=4, sent_up=30, sent_down=20, abstentions=(0, 5))
GROUP = ElasticStats(7, (0, 3), 6, 1, 0, 500, 400, {3: WorkerCounts(counted=5, missed=1)}, ((2, "worker 3 joined"),))


def test_fields_and_properties_are_flat_and_finite() -> None:
    found = metrics.numbers(RANK)
    assert found["gradvote/bytes_sent"] == 50 and found["gradvote/abstentions/1"] == 5
    assert found["gradvote/bits_per_coordinate"] == 1.0
    assert "gradvote/compression_rate" in found
    assert "gradvote/compression_rate" not in metrics.numbers(ExchangeStats(0, 2, 100))  # NaN before the first step
    group = metrics.numbers(GROUP, prefix="")
    assert (group["members"], group["notes"], group["workers/3/missed"], group["step"]) == (2, 1, 1, 7)
    assert all(isinstance(value, float) for value in (*found.values(), *group.values()))


def test_torchft_and_the_simulation_have_numbers_too() -> None:
    from gradvote.engines.simulation import Counts
    from gradvote.engines.torchft.counts import ReplicaCounts, TorchftStats

    stats = TorchftStats(3, (0, 1), 2, 1, 0, 10, 20, {1: ReplicaCounts(counted=2)}, ())
    assert metrics.numbers(stats)["gradvote/workers/1/counted"] == 2 and metrics.step_of(stats) == 3
    assert metrics.numbers(Counts(torch.tensor([0, 4]), 9))["gradvote/abstentions/1"] == 4


class Board:
    """The signature of a SummaryWriter."""

    def __init__(self) -> None:
        self.said: list[tuple[str, float, int]] = []

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        self.said.append((tag, scalar_value, global_step))


class Wandb:
    """The signature of `wandb.log`."""

    def __init__(self) -> None:
        self.said: list[tuple[dict[str, Any], int | None]] = []

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        self.said.append((data, step))


def test_one_callback_whatever_the_sink(tmp_path: Path) -> None:
    board, runs, own = Board(), Wandb(), list[tuple[int, dict[str, float]]]()
    for sink in (board, runs, lambda step, found: own.append((step, found))):
        metrics.reporter(sink)(GROUP)
    assert ("gradvote/workers/3/counted", 5.0, 7) in board.said
    assert runs.said == [(metrics.numbers(GROUP), 7)] and own == [(7, metrics.numbers(GROUP))]
    with pytest.raises(ValueError, match="reporter needs a SummaryWriter"):
        metrics.reporter(3)
    with pytest.raises(ValueError, match="got dict"):
        metrics.numbers({})


def test_prometheus_reads_a_file_of_gauges(tmp_path: Path) -> None:
    path = tmp_path / "gradvote.prom"
    metrics.reporter(path, run='a "b"')(GROUP)
    lines = path.read_text().splitlines()
    assert 'gradvote_bytes_sent{run="a \\"b\\""} 500.0' in lines
    assert 'gradvote_workers_missed{run="a \\"b\\"",of="3"} 1.0' in lines
    types = [line for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types)) and all(line.endswith(" gauge") for line in types)
    assert [p.name for p in tmp_path.iterdir()] == ["gradvote.prom"]


def test_a_folder_that_is_not_there_is_told_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no folder .*nowhere to write gradvote\.prom to\. Make it first\."):
        metrics.reporter(tmp_path / "nowhere" / "gradvote.prom")


def test_tensorboards_own_writer_takes_them(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as board:
        metrics.reporter(board)(GROUP)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    [event] = events.Scalars("gradvote/bytes_sent")
    assert (event.step, event.value) == (7, 500.0)
