"""The strategy's checkpoint: one file, written whole after each round, before its decision is sent to anybody."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from gradvote.engines.flower.roster import Roster
from gradvote.engines.flower.server import FederatedServer

FORMAT = 1
Abstentions = dict[int, dict[int, str]]


def save(
    file: Path,
    server: FederatedServer,
    roster: Roster,
    abstentions: Mapping[int, Mapping[int, str]],
    undecided: Sequence[int],
) -> None:
    """Write all of it."""
    who = {"nodes": dict(roster.nodes), "versions": dict(roster.versions)}
    past = {"abstentions": {n: dict(own) for n, own in abstentions.items()}, "undecided": list(undecided)}
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(file.name + ".new")
    with beside.open("wb") as out:
        torch.save({"format": FORMAT, "server": server.state_dict(), **who, **past}, out)
        out.flush()
        os.fsync(out.fileno())
    beside.replace(file)


def load(file: Path, server: FederatedServer, roster: Roster) -> tuple[Abstentions, list[int]]:
    """Read it into a server and a roster; gives who abstained so far, and the rounds without a decision.

    Raises:
        ValueError: it is of another version, algorithm, model or seed.
    """
    try:
        found = torch.load(file, weights_only=True)
    except Exception as error:  # what torch raises for bytes that it did not write is not documented
        raise ValueError(f"{file.name} cannot be read as a checkpoint of GradVote's: {error}") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(
            f"{file.name} is no checkpoint that this version's GradVote wrote (format {FORMAT}). Give checkpoint= a "
            "file of its own; the model alone is in result.arrays."
        )
    server.load_state_dict(found["server"])
    roster.nodes, roster.versions = found["nodes"], found["versions"]
    return found["abstentions"], found["undecided"]
