"""What a tensor costs: the time of a step over the number of distinct sizes, and for the shapes of known models.

    python benchmarks/shapes.py [--shapes sizes:2000 mobile] [--names signsgd dropsignsgd] [--beside CHECKOUT]

For each shape an fp32 all-reduce of one flat vector and each algorithm run in `--ranks` processes of their own on this
machine, over loopback, with one thread each; with `--beside` also the algorithm as another checkout of the repository
has it. They take turns, a few steps each, so that a busy machine slows all of them: the medians of the ratios say more
than the times. `--out FILE.jsonl` keeps what was measured, `--plot FILE.svg` draws it. The first steps, in which the
number of chunks is tried out, do not count.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from tensors.contest import measured
from tensors.plot import draw

NAMES = ("signsgd", "signum", "noisy-signsgd", "dist-ef-sgdm", "dropsignsgd")
DEFAULT = (*(f"sizes:{n}" for n in (1, 10, 100, 500, 2000)), "resnet50", "mobile", "lora", "gpt2")


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shapes", nargs="+", default=DEFAULT)
    parser.add_argument("--names", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--port", type=int, default=29900)
    parser.add_argument("--beside", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        from tensors.rank import inside  # noqa: PLC0415  # the parent needs neither torch nor gradvote

        inside(options.inside, options.shapes[0])
        return
    rows = []
    for shapes in options.shapes:
        for row in measured(shapes, options):
            rows.append(row)
            print(
                " ".join(
                    f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
                    for key, value in asdict(row).items()
                ),
                flush=True,
            )
    if options.out:
        options.out.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
    if options.plot:
        draw(rows, options.plot)


if __name__ == "__main__":
    main()
