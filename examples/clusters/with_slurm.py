"""Starts a script, or a module with -m, as the rank that Slurm's variables say: those of torchrun are set from them.

srun python examples/clusters/with_slurm.py train.py --steps 1000
"""

import os
import re
import runpy
import sys
from collections.abc import Mapping

FIRST_PORT, PORTS = 20000, 10000


def variables(slurm: Mapping[str, str]) -> dict[str, str]:
    """What torch.distributed and gradvote read, from what srun gives each task.

    The first node is where rank 0 runs; the port follows from the job's number, so that jobs do not meet.

    Raises:
        ValueError: this is no task of srun.
    """
    missing = [name for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_ID") if not slurm.get(name)]
    nodes = slurm.get("SLURM_STEP_NODELIST") or slurm.get("SLURM_NODELIST") or slurm.get("SLURM_JOB_NODELIST")
    if missing or not nodes:
        raise ValueError(
            f"{', '.join(missing) or 'SLURM_NODELIST'} is not set; start this with srun, one task a worker."
        )
    found = {
        "RANK": slurm["SLURM_PROCID"],
        "WORLD_SIZE": slurm["SLURM_NTASKS"],
        "LOCAL_RANK": slurm.get("SLURM_LOCALID", "0"),
        "MASTER_ADDR": slurm.get("MASTER_ADDR") or first_node(nodes),
        "MASTER_PORT": slurm.get("MASTER_PORT") or str(FIRST_PORT + int(slurm["SLURM_JOB_ID"]) % PORTS),
    }
    if slurm.get("GRADVOTE_INTERFACE"):
        found["GLOO_SOCKET_IFNAME"] = slurm["GRADVOTE_INTERFACE"]
    return found


def first_node(nodes: str) -> str:
    """The first host of a node list: `n[007-010,12]` is n007, `gpu-a1,gpu-b[2-3]` is gpu-a1.

    Raises:
        ValueError: it is none.
    """
    match = re.match(r"([^,\[\]]+)(?:\[(\d+)[^\]]*\])?([^,\[]*)", nodes)
    if match is None:
        raise ValueError(f"'{nodes}' is no list of Slurm's nodes, for instance node[01-04].")
    return match[1] + (match[2] or "") + match[3]


def main(arguments: list[str]) -> None:
    """Become the script, or the module."""
    if not arguments or arguments == ["-m"]:
        raise SystemExit("Name a script, or -m and a module: with_slurm.py train.py --steps 1000")
    os.environ.update(variables(os.environ))
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
