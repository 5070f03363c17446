"""Every kernel against its rival and the speed of memory: `python benchmarks/kernels.py [--quick] [--threads 2]`.

The same as `gradvote bench kernels`.
"""

import sys

from gradvote.lab.cli import run

if __name__ == "__main__":
    sys.exit(run(["bench", "kernels", *sys.argv[1:]]))
