"""Fuzz the parsers of bytes from peers: see `tests.fuzz`."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.test_replay import TARGETS


def main() -> int:
    """One process for each target, one after another; a line for each, and the inputs that broke one in a folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"some of: {', '.join(TARGETS)}; all, unless given")
    parser.add_argument("--runs", type=int, default=100_000, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "gradvote-fuzz")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    broken = 0
    for name in given.targets or TARGETS:
        began = time.monotonic()
        command = [sys.executable, "-m", "tests.fuzz.child", name, str(given.runs), str(given.seed), str(given.out)]
        code = subprocess.run(command, check=False).returncode
        broken += bool(code)
        line = {"target": name, "runs": given.runs, "seconds": round(time.monotonic() - began), "exit": code}
        print(json.dumps(line), flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
