import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES = {
    "with_ddp": "torch",
    "with_local_steps": "torch",
    "with_fsdp": "torch",
    "with_accelerate": "accelerate",
    "with_lightning": "lightning",
    "with_transformers": "transformers",
}

SHORT = ("with_accelerate", "with_fsdp", "with_lightning", "with_local_steps", "with_transformers")
MORE = {"with_local_steps": ["--steps", "8"], "with_lightning": ["--ranks", "2"], "with_fsdp": ["--shards", "1"]}
LONGER = {"flower_deployment": 220}
"""Certificates, keys and processes of several machines are no diff of a script."""
LONG = ("with_fsdp", "with_local_steps")
"""Two more starts of torchrun; what they show has tests of its own."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in CASES])
def test_an_example_runs_under_torchrun(name: str) -> None:
    """Sharded models are one shard to a replica here: two ranks cost half of four."""
    if importlib.util.find_spec(CASES[name]) is None or importlib.util.find_spec("sklearn") is None:
        pytest.skip(f"{CASES[name]} or scikit-learn is not installed")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    options = ["--steps", "4", *MORE.get(name, [])]
    done = subprocess.run(
        [*command, str(EXAMPLES / f"{name}.py"), *options],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "times fewer" in done.stdout


@pytest.mark.parametrize("name", ["with_ddp", "with_fsdp", "with_local_steps", "with_torchft"])
def test_an_example_that_is_started_by_itself_says_how_to(name: str) -> None:
    needs = "torchft" if name == "with_torchft" else "torch"
    if importlib.util.find_spec(needs) is None or importlib.util.find_spec("sklearn") is None:
        pytest.skip(f"{needs} or scikit-learn is not installed")
    env = {key: value for key, value in os.environ.items() if key not in ("RANK", "TORCHFT_LIGHTHOUSE")}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")], capture_output=True, text=True, timeout=60, check=False, env=env
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith("first lines say")


def test_examples_are_short() -> None:
    for path in EXAMPLES.glob("*.py"):
        longest = 60 if path.stem in SHORT else LONGER.get(path.stem, 100)
        assert len(path.read_text(encoding="utf-8").splitlines()) < longest, path


def test_the_example_runs_under_torchft() -> None:
    if importlib.util.find_spec("torchft") is None or importlib.util.find_spec("sklearn") is None:
        pytest.skip("torchft or scikit-learn is not installed")
    from torchft.coordination import LighthouseServer

    house = LighthouseServer("[::]:0", 3)  # all three from the first step on
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHFT_LIGHTHOUSE": house.address()}
    command = [sys.executable, str(EXAMPLES / "with_torchft.py"), "--steps", "4"]
    runs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**env, "REPLICA_GROUP_ID": str(worker)})
        for worker in range(3)
    ]
    try:
        texts = [run.communicate(timeout=120)[0] for run in runs]
    finally:
        for run in runs:
            run.kill()
        house.shutdown()
    assert [run.returncode for run in runs] == [0, 0, 0]
    ends = {text.splitlines()[-1].partition(": ")[2] for text in texts}
    assert len(ends) == 1 and "after 4 steps" in ends.pop()
