"""Fewer rounds: H local steps of any optimizer, then a vote on how far they led: `gradvote.local_steps.attach`.

A map. `attach` checks what it is given and builds the rest; `by_engine` has the rounds of each engine by name. Steps,
fragments and delays are in `gradvote.engines`: `local_steps`, `fragments`, `overlap`.
"""

from gradvote.engines.fragments import Fragments
from gradvote.engines.local_steps import LocalSteps, Rounds
from gradvote.local_steps.attach import attach, attach_fragments
from gradvote.local_steps.by_engine import ENGINES

__all__ = ["ENGINES", "Fragments", "LocalSteps", "Rounds", "attach", "attach_fragments"]
