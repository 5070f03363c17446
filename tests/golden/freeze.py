"""Rewrite the frozen hashes and transcripts, after a change that was meant: python tests/golden/freeze.py

With `--fixtures` the checkpoints, too, which otherwise stay those of the version that wrote them.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from tests.golden import engines, hashes, keep, scenes


def main() -> None:
    torch.set_num_threads(1)
    if "--fixtures" in sys.argv:
        keep.save_all()
    for path in scenes.FILES:
        path.write_text(scenes.played(path.read_text()))
    found = engines.on_simulation() | engines.on_torchft() | engines.on_collectives()
    for placement in engines.ELASTIC:
        found |= engines.on_elastic(placement)
    hashes.write(hashes.frozen_from(found))


if __name__ == "__main__":
    main()
