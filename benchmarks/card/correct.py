"""Tests that hold on a card: the kernels', the laws, and the engines' with their golden hashes."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = ("tests/kernels/cuda/test_*.py", "tests/contract/test_*.py", "tests/engines/test_cuda.py")
LEFT_OUT = ("test_compiled.py", "test_other_parts.py")
"""They have nothing to do with a card: a compiler's output, and who gets which samples."""


def run(processes: int, only: str = "") -> dict[str, str]:
    """Whether each file passed; what failed is printed."""
    files = [f for pattern in FILES for f in sorted(ROOT.glob(pattern)) if f.name not in LEFT_OUT and only in str(f)]
    with ThreadPoolExecutor(processes) as pool:
        done = list(pool.map(_pytest, files))
    for file, code, out in zip(files, *zip(*done, strict=True), strict=True):
        if code:
            print(f"== {file.relative_to(ROOT)}\n{out[:1500]}\n...\n{out[-2500:]}", flush=True)
    return {
        str(file.relative_to(ROOT)): "FAILED" if code else "passed" for file, (code, _) in zip(files, done, strict=True)
    }


def all_passed(results: dict[str, str]) -> bool:
    return all(verdict == "passed" for verdict in results.values())


def _pytest(file: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=short", "-p", "no:cacheprovider", str(file)]
    environment = {**os.environ, "GRADVOTE_TEST_DEVICE": "cuda", "PYTHONPATH": str(ROOT)}
    try:
        run = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=150
        )
    except subprocess.TimeoutExpired as late:
        return 1, f"{(late.stdout or b'').decode()[-1500:]}\nfailed: not done after 150 s"
    return run.returncode, run.stdout + run.stderr[-1500:]
