"""Whose parameters are not those of most: known to all alike, as it stands in the ballots that count."""

from collections.abc import Mapping

from gradvote.engines.common.errors import ParametersDiffer
from gradvote.engines.common.parameter_check import ParameterCheck, usual
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.absences import Reason, Why
from gradvote.engines.elastic.node import Node


def differing(node: Node, slot: Slot, check: ParameterCheck, checks: Mapping[int, bytes]) -> frozenset[int]:
    """The tickets of those whose digests are not those of most; they are counted and named.

    Raises:
        ParametersDiffer: no more than half are alike.
    """
    most, where = usual(checks), check.names(slot.step)
    numbers = {ticket: node.members[ticket].number for ticket in checks}
    if most is None:
        camps = sorted(sorted(numbers[t] for t, own in checks.items() if own == said) for said in set(checks.values()))
        sides = " and ".join(f"worker {', '.join(map(str, camp))}" for camp in camps)
        raise ParametersDiffer(
            f"At step {slot.step} the parameters differ between {sides}, in {where}, and no more than half are alike, "
            "so that nobody can tell who is right. Nothing was applied in this step. A bit has turned in a memory, or "
            "a script changes values on some workers only; start again from the last checkpoints."
        )
    odd = frozenset(ticket for ticket, said in checks.items() if said != most)
    sound = tuple(sorted(numbers[t] for t in checks.keys() - odd))
    for ticket in sorted(odd, key=numbers.__getitem__):
        reason = Reason(numbers[ticket], Why.DIFFERS, sound)
        node.counts.add(reason.number, "differed")
        node.counts.note(
            slot.step, f"worker {reason.number} takes over the state of the others: {reason.evidence}, in {where}"
        )
    return odd
