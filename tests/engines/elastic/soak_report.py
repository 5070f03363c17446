"""What a soak says at its end: what was played, what held, and what the register knew where something broke."""

import socket
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.engines.elastic.soak import Soak


def register_of(soak: "Soak") -> dict[str, object]:
    """What the register says, to look into what went wrong."""
    register = soak.register
    places = {ticket: register.place(ticket) for ticket in range(1, register.num_tickets() + 1)}
    latest = {place.number: place for place in places.values() if place is not None}
    nowhere = [ticket for ticket, place in places.items() if place is None]
    answering = [ticket for ticket, place in places.items() if place is not None and answers(place.port)]
    return {
        "tickets": len(places),
        "nowhere": nowhere,
        "answering": answering,
        "groups": register.generation(),
        "latest": latest,
    }


def answers(port: int) -> bool:
    """Whether anybody listens there: that a process of before has ended is known only where nobody does."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True
    except OSError:
        return False


def report(soak: "Soak", problem: str, seconds: float, asked: float) -> int:
    """Say what was played and what held; 0, 1 (an invariant broke) or 2 (a quota was not met)."""
    invariants, done = soak.invariants, soak.done
    unmet = {kind: f"{done[kind]} of {num}" for kind, num in soak.quotas.items() if done[kind] < num}
    if seconds < asked:
        unmet["minutes"] = f"{seconds / 60:.1f} of {asked / 60:.1f}"
    print(f"{seconds / 60:.1f} minutes ({soak.now / 60:.1f} at work); faults: {done}, in all {sum(done.values())}")
    print(f"wrong ballots by kind: {dict(invariants.found)}; bits turned on the way: {soak.relay.counts['altered']}")
    print(f"{invariants.compared} comparisons of parameters; {invariants.kept_checked} memories against what counted")
    if invariants.lost:
        print(f"server memories lost with both their holders: {len(invariants.lost)}")
    now = sum(invariants.losses) / max(len(invariants.losses), 1)
    print(f"loss {invariants.first_loss} at first, {now:.4f} at last; step {invariants.latest}")
    print(
        f"no worker grew by more than {soak.growth} kB, the register by {soak.register_kb[1] - soak.register_kb[0]} kB"
    )
    print(f"BROKEN: {problem}" if problem else f"QUOTAS NOT MET: {unmet}" if unmet else "All held.")
    sys.stdout.flush()
    return 1 if problem else 2 if unmet else 0
