"""The command line. Mistakes of a user end with one sentence and exit status 2.

A map. One file per command: `training` (`train`), `comparing`, `demo`, `reproduce`, `reporting`, `planning`,
`privacy`, `benching`, `launching` (and `keys`), `listing`. The first two share `options`, whose values become a
`Config`, and `showing`: where results go and how they are shown. `train` hands its work to `ranks` (engine ddp) or
`elastic_runs`, whose `--kill` and `--stop` are read by `script`; `compare` and `demo` to `side_by_side`, a crew of
processes. What appears on the terminal is made by `watch` (a run), `progress` (`reproduce`), `notices` (what the
library says) and `plain` (terminals that lack characters).
"""

import warnings
from collections.abc import Sequence

from cyclopts import App, CycloptsError, UnusedCliTokensError
from rich.console import Console
from rich.markup import escape

import gradvote
from gradvote.engines.common.signals import sigterm_interrupts
from gradvote.errors import MissingExtra, WorkerFailed
from gradvote.lab.cli import (
    benching,
    comparing,
    demo,
    launching,
    listing,
    planning,
    privacy,
    reporting,
    reproduce,
    training,
)
from gradvote.lab.cli.notices import shown_on
from gradvote.lab.cli.plain import plain_characters
from gradvote.lab.streams import steady_streams

app = App(
    name="gradvote",
    help="One-bit, fault-tolerant, non-iid-safe distributed training for PyTorch.",
    version=gradvote.__version__,
    help_format="markdown",
    suppress_keyboard_interrupt=False,
)
for module in (listing, training, launching, comparing, reporting, planning, privacy, benching, reproduce, demo):
    module.register(app)


def run(arguments: Sequence[str]) -> int:
    """Run the command line and give its exit status: 0, 1 (the run diverged), 2 (a mistake), 130 (Ctrl-C, SIGTERM)."""
    steady_streams()
    plain_characters()
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    with sigterm_interrupts(), warnings.catch_warnings(), shown_on(errors):
        warnings.showwarning = lambda message, *_: errors.print(f"[yellow]Warning:[/] {escape(str(message))}")
        try:
            status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
            return status if isinstance(status, int) else 0
        except UnusedCliTokensError as error:
            text = f"{' '.join(error.unused_tokens or ())!r} is not expected here. See --help for what is."
        except OSError as error:
            text = f"{error.strerror}: {error.filename}." if error.filename else str(error)
        except (CycloptsError, ValueError, MissingExtra) as error:
            text = str(error)
        except WorkerFailed as error:
            errors.print(f"[bold red]Error:[/] {escape(str(error))}")
            return 1
        except KeyboardInterrupt:
            errors.print("Stopped.")
            return 130
    errors.print(f"[bold red]Error:[/] {escape(text)}")
    return 2
