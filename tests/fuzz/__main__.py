"""Fuzz the parsers of bytes from peers: see `tests.fuzz`."""

import argparse
import json
import logging
import multiprocessing
import sys
import tempfile
import time
import traceback
from pathlib import Path

LONGEST, MEGABYTES = 4096, 2048
INSTRUMENTED = ("gradvote.wire", "gradvote.engines", "gradvote.codecs", "gradvote.signing")


def main() -> int:
    """One process for each target, one after another; a line for each, and the inputs that broke one in a folder."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="their names; all, unless given")
    parser.add_argument("--runs", type=int, default=100_000, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "gradvote-fuzz")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    broken = 0
    for name in given.targets or _names():
        began = time.monotonic()
        work = name, given.runs, given.seed, given.out
        child = multiprocessing.get_context("spawn").Process(target=_fuzz, args=work)
        child.start()
        child.join()
        broken += bool(child.exitcode)
        line = {"target": name, "runs": given.runs, "seconds": round(time.monotonic() - began), "exit": child.exitcode}
        print(json.dumps(line), flush=True)
    return 1 if broken else 0


def _names() -> list[str]:
    from tests.fuzz.test_replay import TARGETS

    return list(TARGETS)


def _fuzz(name: str, runs: int, seed: int, out: Path) -> None:
    import atheris

    logging.disable()
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        from tests.fuzz.target import bounded
        from tests.fuzz.test_replay import TARGETS
    import torch

    torch.set_num_threads(1)
    target, corpus = TARGETS[name], out / f"corpus of {name}"
    corpus.mkdir(exist_ok=True)
    for i, sound in enumerate(target.seeds):
        (corpus / f"seed-{i}").write_bytes(sound)

    def one(data: bytes) -> None:
        try:
            target.accepts(data)
        except Exception:
            (out / f"{name}-{hash(data) % 2**32:08x}").write_bytes(data)
            traceback.print_exc()
            raise

    bounded(MEGABYTES)
    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={LONGEST}", "-timeout=20", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={out}/", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
