"""Rounds after local steps, on a language model: what each way to exchange them loses, at how many bytes.

    nice -n 15 python benchmarks/language_model.py                    the smallest model, in minutes to hours
    nice -n 15 python benchmarks/language_model.py --size brief --every 32 --pairs 6       0.8 million, in an hour
    nice -n 15 python benchmarks/language_model.py --size small       0.8 million parameters, days of one core
    nice -n 15 python benchmarks/language_model.py --size large       4.8 million, at the best rates of `small`
    python benchmarks/language_model.py --size brief --show           budget, table and plot of what is there

Five workers with their own plays of tiny Shakespeare (GRADVOTE_DATA names the folder), in the simulation, equal tokens:
every run has the same number of inner steps, whatever H. Each method is tuned on the same number of pairs of an inner
and an outer rate, by the validation half of what is held out; then the best of each runs with other seeds, and with one
worker of five that inverts what it sends. The test half is looked at for those alone. What is done stands in
docs/figures/language-model.jsonl, and is not done again; Ctrl-C at any time, the same command goes on.
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from language import plan, records, showing
from language.runs import run


def measure(scale: str, rounds: tuple[int, ...], pairs: int, saved: Path) -> None:
    """Whatever is missing, one run after another."""
    for stage in plan.stages(scale, rounds, pairs):
        for cell in records.missing(stage(records.load()), records.load()):
            record = run(cell, saved)
            records.add(record)
            print(f"{cell} -> {record['loss'][-1]:.3f}, {record['seconds']} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=plan.SCALES, default="tiny", help="the model and the length of a run")
    parser.add_argument("--every", type=int, nargs="+", default=[8, 32], help="steps to a round")
    parser.add_argument("--pairs", type=int, choices=range(1, plan.MORE + 1), default=plan.PAIRS, help="of rates")
    parser.add_argument("--saved", type=Path, help="the file that an unfinished run goes on from")
    parser.add_argument("--show", action="store_true", help="measure nothing: budget, table and plot of what is there")
    own = parser.parse_args()
    torch.set_num_threads(1)
    rounds = tuple(own.every)
    if not own.show:
        saved = own.saved or Path(tempfile.gettempdir()) / f"language-model-{own.size}.pt"
        measure(own.size, rounds, own.pairs, saved)
    print(showing.budget(own.size, rounds, own.pairs))
    print(showing.table(records.load(), own.size, rounds))
    print(showing.gaps(records.load(), own.size, rounds))
    showing.draw(records.load(), own.size, rounds)


if __name__ == "__main__":
    main()
