"""A real SuperLink and SuperNodes on loopback, with TLS and keys: strangers, deaths and slow nodes. Minutes long."""

import importlib.util
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'gradvote[flower]'")
pytest.importorskip("cryptography")

ROOT = Path(__file__).resolve().parents[3]
APP = Path(__file__).with_name("deployed")
LIMIT = 1500.0
pytestmark = pytest.mark.slow


def _example() -> Any:
    spec = importlib.util.spec_from_file_location("flower_deployment", ROOT / "examples" / "flower_deployment.py")
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def deployment(folder: Path, clients: Path) -> Any:
    found = _example().Deployment(folder)
    found.environment |= {"PYTHONPATH": str(ROOT), "VOTING_APP": str(clients), "OMP_NUM_THREADS": "1"}
    return found


def wait(until: Callable[[], bool], limit: float = 240.0) -> None:
    end = time.monotonic() + limit
    while not until():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.5)


def run(own: Any, folder: Path, **config: Any) -> dict[str, Any]:
    given = " ".join(f"{key.replace('_', '-')}={value}" for key, value in config.items())
    said = own.run(APP, f'folder="{folder}" {given}', LIMIT)
    file = folder / "result.json"
    return {"log": said, **(json.loads(file.read_text()) if file.exists() else {})}


def same_memories(one: Path, other: Path) -> bool:
    for worker in range(3):
        with np.load(one / f"client-{worker}.npz") as a, np.load(other / f"client-{worker}.npz") as b:
            names = [name for name in a.files if name != "facts"]
            if not names or not all(np.array_equal(a[name], b[name]) for name in names):
                return False
    return True


def test_a_server_that_dies_goes_on_bit_by_bit_and_a_stranger_is_refused(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    ends = []
    for place in (whole, halves):
        place.mkdir()
        with deployment(place / "flower", place / "clients") as own:
            for number in range(3):
                own.node(number)
            if place is halves:
                own.node(7, register=False)
                wait(lambda own=own: own.processes["node7"].poll() is not None)
                assert "2004" in own.log("node7") or "register" in own.log("node7").lower(), own.log("node7")
                own.end("node7")
                assert "arrays" not in run(own, place, dies_in=3)  # the ballots of round 3 are cast, and lost with it
            ends.append(run(own, place))
    assert ends[0]["arrays"] == ends[1]["arrays"] and ends[0]["undecided"] == ends[1]["undecided"] == []
    assert same_memories(whole / "clients", halves / "clients")


def test_a_killed_node_and_a_slow_one_cost_their_own_votes(tmp_path: Path) -> None:
    with deployment(tmp_path / "flower", tmp_path / "clients") as own:
        for number in range(4):
            own.node(number, "slow-in=2" if number == 3 else "")
        own.run_in_background(APP, f'folder="{tmp_path}" num-rounds=3 timeout=150.0 nodes=4')
        wait((tmp_path / "server").exists, 600)
        own.end("node2", signal.SIGKILL)
        wait((tmp_path / "result.json").exists, LIMIT)
    found = json.loads((tmp_path / "result.json").read_text())
    reasons = found["abstentions"]
    assert found["undecided"] == [] and reasons["1"] == {}
    assert set(reasons["2"]) == {"2", "3"} and "2" in reasons["3"] | {"2": ""}, reasons
    assert "no answer" in reasons["2"]["3"] and reasons["2"]["2"], reasons
