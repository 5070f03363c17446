"""One exchange between local processes: `python benchmarks/exchange.py [--params 25600000] [--ranks 4]`.

The same as `gradvote bench exchange`. For shaped links see `scripts/bench-links`.
"""

import argparse

from gradvote.lab.bench.exchange import NAMES, run_locally
from gradvote.lab.bench.report import table

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--params", type=int, default=25_600_000)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--names", nargs="+", default=NAMES, choices=NAMES)
    options = parser.parse_args()
    print(table(run_locally(options.params, options.ranks, options.names, options.repeats)))
