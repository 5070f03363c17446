"""`gradvote privacy`: what rounds with noise cost in privacy, and how much noise a budget asks for."""

import math
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console


def register(app: App) -> None:
    """Add the command."""
    app.command(privacy, name="privacy")


def privacy(
    *,
    noise_multiplier: Annotated[
        float | None, Parameter(help="σ: the noise's standard deviation over max-norm.")
    ] = None,
    epsilon: Annotated[float | None, Parameter(help="In its place: the ε that may be spent; σ is found.")] = None,
    max_norm: Annotated[float, Parameter(help="C: the bound on the norm of what is released.")] = 1.0,
    rate: Annotated[
        float, Parameter(help="Probability with which each example is in a batch; 1: all data, always.")
    ] = 1.0,
    steps: Annotated[int, Parameter(help="Releases T: rounds in which a client votes.")],
    delta: Annotated[float, Parameter(help="δ.")] = 1e-5,
) -> None:
    """Give ε of T releases with noise σ·C, or the σ that an ε allows; exact for rate 1, else by PLD (seconds)."""
    from gradvote.privacy import epsilon_of, noise_multiplier_for
    from gradvote.privacy.account import MOST

    if (noise_multiplier is None) == (epsilon is None):
        raise ValueError(
            "Give either --noise-multiplier, to learn epsilon, or --epsilon, to learn the noise multiplier."
        )
    noise = 1.0 if noise_multiplier is None else noise_multiplier
    if not 1 <= steps <= MOST or not 0 < rate <= 1 or not 0 < max_norm < math.inf or not 0 < noise < math.inf:
        raise ValueError(
            f"steps must be from 1 to {MOST:g}, rate in (0, 1], max-norm and noise-multiplier positive and finite; got "
            f"{steps}, {rate}, {max_norm} and {noise_multiplier}."
        )
    console = Console(highlight=False, soft_wrap=True)
    with console.status("Composing privacy losses"):
        sigma = (
            noise_multiplier_for(epsilon or 0.0, steps, delta, rate) if noise_multiplier is None else noise_multiplier
        )
        found = epsilon_of(sigma, steps, delta, rate)
    unit = "client (add or remove all of its data)" if rate == 1 else "example (add or remove one, Poisson batches)"
    console.print(
        f"[bold]epsilon = {found:.4g}[/] at delta = {delta:g}, noise multiplier {sigma:.4g}, {steps} releases"
    )
    console.print(f"Unit: {unit}. Noise on each coordinate: standard deviation {sigma * max_norm:.4g}.")
    console.print(
        "Seen by whoever sees a ballot, the server too. Metrics, and that a client answered, are outside of it."
    )
