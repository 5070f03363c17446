"""What a run runs on."""

import os
import platform

import torch

import gradvote


def versions() -> dict[str, str]:
    """What this process runs on."""
    return {"gradvote": gradvote.__version__, "torch": torch.__version__, "python": platform.python_version()}


def hardware() -> str:
    """The machine, in words."""
    return f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, {platform.system()}"
