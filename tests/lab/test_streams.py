"""Whoever stops reading, or never did, does not decide on what is done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradvote.lab.train import RunFolder
from tests.lab.train.small import FACTORY

ROOT = str(Path(__file__).parents[2])
PROBE = """
import os, sys
from gradvote.lab.cli import run

def broken(number):
    there, here = os.pipe()
    os.close(there)
    os.dup2(here, number)
    os.close(here)

record = os.dup(3)
for line in sys.argv[1:]:
    broken(1)
    broken(2)
    os.write(record, f"{run(line.split())} ".encode())
"""
SMALL = f"--model {FACTORY} --steps 3 --eval-every 1"
LINES = {
    "list": 0,
    "train --help": 0,
    "trian": 2,
    "report nowhere": 2,
    "keys --workers 2 keys": 0,
    "plan signsgd --params 2k --workers 3 --bandwidth 1Gbit": 0,
    "reproduce --list": 0,
    f"train {SMALL}": 0,
    f"compare sgd signsgd {SMALL}": 0,
}


def run(folder: Path, command: list[str], end: str) -> subprocess.CompletedProcess[str]:
    """The command behind a shell's redirection; its status is written to the file `status`."""
    script = '"$@" 3>said' + end
    environment = {**os.environ, "PYTHONPATH": ROOT}
    return subprocess.run(
        ["bash", "-c", script, "bash", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_broken_pipe_ends_no_command_and_shows_no_traceback(tmp_path: Path) -> None:
    done = run(tmp_path, [sys.executable, "-c", PROBE, *LINES], "")
    assert done.returncode == 0 and done.stdout == done.stderr == ""
    assert [int(status) for status in (tmp_path / "said").read_text().split()] == list(LINES.values())
    for place in ("signsgd", "compare/sgd", "compare/signsgd"):
        assert RunFolder(tmp_path / "runs" / place).described("status") == "finished"
    assert (tmp_path / "runs/signsgd/report.html").is_file()


@pytest.mark.parametrize("end", [" >&-", " 2>&-", " >&- 2>&-", " <&- >&- 2>&-"])
@pytest.mark.parametrize("line", ["list", "trian"])
def test_closed_streams(line: str, end: str, tmp_path: Path) -> None:
    done = run(tmp_path, [sys.executable, "-m", "gradvote", line], end)
    assert done.returncode == LINES[line] and "Traceback" not in done.stderr + done.stdout
    assert bool(done.stdout) == (line == "list" and ">&-" not in end.replace("2>&-", ""))


def test_head_and_a_full_disk(tmp_path: Path) -> None:
    done = run(tmp_path, [sys.executable, "-m", "gradvote", "list"], ' | head -1; echo "${PIPESTATUS[0]}"')
    assert done.stdout.splitlines()[-1] == "0" and done.stderr == ""
    if Path("/dev/full").exists():
        done = run(tmp_path, [sys.executable, "-m", "gradvote", "list"], " >/dev/full")
        assert done.returncode == 2 and "No space left on device" in done.stderr
