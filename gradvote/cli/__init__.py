"""The command line. Mistakes of a user end with one sentence and exit status 2."""

import sys
import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError
from rich.console import Console
from rich.markup import escape

import gradvote
from gradvote.cli import demo, listing, reporting, training
from gradvote.errors import MissingExtra

app = App(
    name="gradvote",
    help="One-bit, fault-tolerant, non-iid-safe distributed training for PyTorch.",
    version=gradvote.__version__,
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
for module in (listing, training, reporting, demo):
    module.register(app)


def run(arguments: Sequence[str]) -> int:
    """Run the command line and give its exit status: 0, 1 (a run diverged), 2 (a mistake), 130 (Ctrl-C)."""
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    warnings.showwarning = lambda message, *_: errors.print(f"[yellow]Warning:[/] {escape(str(message))}")
    try:
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        return status if isinstance(status, int) else 0
    except (CycloptsError, ValueError, FileNotFoundError, MissingExtra) as error:
        errors.print(f"[bold red]Error:[/] {escape(str(error))}")
        return 2
    except KeyboardInterrupt:
        errors.print("Stopped.")
        return 130


def main() -> None:
    """The command `gradvote`."""
    sys.exit(run(sys.argv[1:]))
