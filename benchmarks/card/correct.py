"""Tests that hold on a card: the kernels', the laws, and the engines' with their golden hashes."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = ("tests/engines/test_cuda.py", "tests/kernels/cuda/test_*.py", "tests/contract/test_*.py")
LEFT_OUT = ("test_compiled.py", "test_other_parts.py")
"""They have nothing to do with a card: a compiler's output, and who gets which samples."""
ENGINES, PARTS = "test_cuda.py", 8
"""The engines' tests, first, and in how many parts: each compiles, and starts processes, for a minute."""
LIMIT = 170
"""Seconds for each file, or part."""


def run(processes: int, only: str = "") -> dict[str, str]:
    """Whether each file, or part of one, passed; what failed is printed."""
    files = [f for pattern in FILES for f in sorted(ROOT.glob(pattern)) if f.name not in LEFT_OUT and only in str(f)]
    jobs = [job for file in files for job in _jobs(file)]
    with ThreadPoolExecutor(processes) as pool:
        done = list(pool.map(_pytest, *zip(*jobs, strict=True)))
    found = {}
    for (file, part), (code, out) in zip(jobs, done, strict=True):
        name = f"{file.relative_to(ROOT)} {part}".strip()
        if code:
            print(f"== {name}\n{out[:1500]}\n...\n{out[-2500:]}", flush=True)
        found[name] = "FAILED" if code else "passed"
    return found


def _jobs(file: Path) -> list[tuple[Path, str]]:
    if file.name != ENGINES:
        return [(file, "")]
    return [(file, f"part-{i}") for i in range(PARTS)]


def all_passed(results: dict[str, str]) -> bool:
    return all(verdict == "passed" for verdict in results.values())


def _pytest(file: Path, part: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", str(file), "-k", part]
    environment = {**os.environ, "GRADVOTE_TEST_DEVICE": "cuda", "PYTHONPATH": str(ROOT)}
    try:
        run = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=LIMIT
        )
    except subprocess.TimeoutExpired as late:
        return 1, f"{(late.stdout or b'').decode()[-1500:]}\nfailed: not done after {LIMIT} s"
    return run.returncode, run.stdout + run.stderr[-1500:]
