"""The scripts of docs/clusters.md: Slurm's variables, torchrun on two hosts (namespaces), Kubernetes' fields."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gradvote.engines.elastic import environment
from gradvote.engines.elastic.stores.opening import SERVED
from gradvote.lab.train import RunFolder
from tests.engines.elastic.namespaces import namespaces, needs_root
from tests.lab.train.small import FACTORY

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "examples" / "clusters"
SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
for ((i = 0; i < SLURM_NTASKS; i++)); do SLURM_PROCID=$i SLURM_LOCALID=0 "$@" & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid" || exit 1; done
"""
JOB = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "n[07-08]"}


def with_slurm() -> Any:
    spec = importlib.util.spec_from_file_location("with_slurm", CLUSTERS / "with_slurm.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_slurms_variables_become_torchruns() -> None:
    found = with_slurm().variables({**JOB, "SLURM_PROCID": "1", "GRADVOTE_INTERFACE": "ib0"})
    assert found == {
        "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "n07", "MASTER_PORT": "24711",
        "GLOO_SOCKET_IFNAME": "ib0",
    }  # fmt: skip
    with pytest.raises(ValueError, match="SLURM_PROCID is not set; start this with srun"):
        with_slurm().variables(JOB)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n[007-010,12]", "n007"), ("gpu-a1,gpu-b[2-3]", "gpu-a1"), ("r[1,4]-n", "r1-n"), ("a[3],b", "a3")],
)
def test_the_first_of_a_list_of_nodes(nodes: str, first: str) -> None:
    assert with_slurm().first_node(nodes) == first


@pytest.mark.slow
def test_the_batch_script_trains_and_goes_on_when_it_is_queued_again(tmp_path: Path) -> None:
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    (tmp_path / "python").write_text(f'#!/bin/bash\nexec {sys.executable} "$@"\n')
    (tmp_path / "python").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    run = tmp_path / "runs" / "job"
    env = {**os.environ, **JOB, "PATH": path, "MASTER_ADDR": "127.0.0.1", "PYTHONPATH": str(ROOT), "RUN": str(run)}
    for steps, own in (("2", ["--model", FACTORY]), ("3", ["--model", FACTORY])):
        command = ["bash", str(CLUSTERS / "train.slurm"), "--steps", steps, *own]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert RunFolder(run).described("status") == "finished"
    assert '"step": 3' in (run / "records.jsonl").read_text().splitlines()[-1]


@needs_root
@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_torchrun_on_two_hosts() -> None:
    script = [str(CLUSTERS / "torchrun-two-hosts.sh"), str(ROOT / "examples" / "with_ddp.py"), "--steps", "4"]
    known = {"MASTER": "10.78.0.1", "INTERFACE": "in", "PYTHON": sys.executable, "PYTHONPATH": str(ROOT)}
    with namespaces(2) as hosts:
        runs = [
            subprocess.Popen(
                ["ip", "netns", "exec", name, *script],
                env={**os.environ, **known},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in hosts.names
        ]
        try:
            texts = [run.communicate(timeout=200) for run in runs]
        finally:
            for run in runs:
                run.kill()
    assert [run.returncode for run in runs] == [0, 0], [err[-2000:] for _, err in texts]
    assert sum("times fewer" in out for out, _ in texts) == 1


def test_the_manifest_says_what_attach_reads() -> None:
    yaml = pytest.importorskip("yaml", reason="needs pyyaml")
    parts = {p["kind"]: p for p in yaml.safe_load_all((CLUSTERS / "kubernetes.yaml").read_text(encoding="utf-8"))}
    assert set(parts) == {"Service", "Pod", "StatefulSet", "NetworkPolicy"}
    store, workers = parts["Pod"], parts["StatefulSet"]["spec"]
    pod = workers["template"]["spec"]
    (worker,) = pod["containers"]
    env = {own["name"]: own.get("value") for own in worker["env"]}
    named = {environment.HOST, environment.STORE, environment.WORKERS, environment.MIN_WORKERS}
    assert named <= env.keys() and environment.NUMBER in worker["command"][-1]
    host, _, port = str(env[environment.STORE]).removeprefix(SERVED).partition(":")
    assert (
        host == f"{store['spec']['hostname']}.{store['spec']['subdomain']}" and store["spec"]["subdomain"] == "gradvote"
    )
    assert parts["Service"]["metadata"]["name"] == workers["serviceName"] == "gradvote"
    assert parts["Service"]["spec"]["clusterIP"] == "None" and parts["Service"]["spec"]["publishNotReadyAddresses"]
    assert int(port) == parts["Service"]["spec"]["ports"][0]["port"]
    command = store["spec"]["containers"][0]["command"]
    assert command[:2] == ["gradvote", "register"] and command[command.index("--port") + 1] == port
    assert int(str(env[environment.WORKERS])) == workers["replicas"] > int(str(env[environment.MIN_WORKERS]))
    assert workers["podManagementPolicy"] == "Parallel" and pod["terminationGracePeriodSeconds"] >= 30
    labels = workers["template"]["metadata"]["labels"]
    assert workers["selector"]["matchLabels"].items() <= labels.items()
    for part in (parts["Service"]["spec"]["selector"], parts["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]):
        assert part.items() <= labels.items() and part.items() <= store["metadata"]["labels"].items()
