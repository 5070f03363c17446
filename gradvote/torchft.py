"""Votes in a script of torchft's: `gradvote.torchft.attach` beside torchft's own `Manager` and lighthouse."""

from gradvote.engines.torchft import Diverged, Equivocation, Standing, Stats, Vote, attach

__all__ = ["Diverged", "Equivocation", "Standing", "Stats", "Vote", "attach"]
