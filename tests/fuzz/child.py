"""One target under atheris: NAME RUNS SEED FOLDER. It ends with another code than 0 where an input broke the parser."""

import logging
import sys
import time
import traceback
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["gradvote.wire", "gradvote.engines", "gradvote.codecs"]):
    from tests.fuzz.target import bounded
    from tests.fuzz.test_replay import TARGETS

import torch

LONGEST, MEGABYTES, EACH = 4096, 2048, 1000


def main(name: str, runs: str, seed: str, out: Path) -> None:
    target, corpus = TARGETS[name], out / f"corpus of {name}"
    corpus.mkdir(exist_ok=True)
    for i, sound in enumerate(target.seeds):
        (corpus / f"seed-{i}").write_bytes(sound)

    num, began = 0, time.monotonic()

    def one(data: bytes) -> None:
        nonlocal num
        num += 1
        if num % EACH == 0:
            progress = f"{num} inputs, {time.process_time():.0f} s of a core, {time.monotonic() - began:.0f} s\n"
            (out / f"progress of {name}, seed {seed}").write_text(progress)
        try:
            target.accepts(data)
        except BaseException:
            traceback.print_exc()
            raise

    bounded(MEGABYTES)
    options = [f"-runs={runs}", f"-seed={seed}", f"-max_len={LONGEST}", "-timeout=20", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={out}/{name}-", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    logging.disable()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main(*sys.argv[1:4], Path(sys.argv[4]))
