"""`python -m gradvote` and the command `gradvote`."""

import atexit
import contextlib
import os
import sys


def main() -> None:
    """Run the command line, or say which extra it needs."""
    try:
        from gradvote.lab.cli import run  # noqa: PLC0415  # its failure is what is told below
    except ModuleNotFoundError as error:
        if error.name not in {"cyclopts", "rich"}:
            raise
        print(f"The command line needs {error.name}. Install it with: pip install 'gradvote[cli]'", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))


def command() -> None:
    """The same as a process of its own, which ends at once: taking PyTorch's objects apart takes most of a second."""
    try:
        main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if status and not isinstance(ended.code, int):
            print(ended.code, file=sys.stderr)
        atexit._run_exitfuncs()  # temporary folders and helper processes of multiprocessing
        os._exit(_flushed() or status)


def _flushed() -> int:
    """Write out what is left; the status where that fails, as on a full disk."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError as error:
        with contextlib.suppress(OSError):
            print(f"Error: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    command()
