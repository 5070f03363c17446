"""`python -m gradvote` and the command `gradvote`."""

import sys


def main() -> None:
    """Run the command line, or say which extra it needs."""
    try:
        from gradvote.cli import run  # noqa: PLC0415  # its failure is what is told below
    except ModuleNotFoundError as error:
        if error.name not in {"cyclopts", "rich"}:
            raise
        print(f"The command line needs {error.name}. Install it with: pip install 'gradvote[cli]'", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
