"""Which node is which worker, what version each is known to have, and who is asked in a round."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from gradvote.engines.flower.records import Reply, ReplyError
from gradvote.shuffle import Purpose, permutation

MOST = 1 << 20
"""Workers' numbers stay below."""


@dataclass
class Roster:
    """The workers by number. A node keeps its number; a new node takes one over whose holder has left."""

    nodes: dict[int, int] = field(default_factory=dict)
    """The node of each number."""
    versions: dict[int, int] = field(default_factory=dict)
    """The version that each number is known to have: it may be ahead of that, never behind, or it says so."""

    def number_of(self, node: int) -> int | None:
        """The number of a node that has one."""
        return next((number for number, own in self.nodes.items() if own == node), None)

    def strangers(self, present: Collection[int]) -> list[int]:
        """Nodes that have no number yet, in their order."""
        known = set(self.nodes.values())
        return sorted(node for node in present if node not in known)

    def free(self, count: int) -> list[int]:
        """So many numbers that nobody has."""
        return [n for n in range(len(self.nodes) + count) if n not in self.nodes][:count]

    def enrol(self, node: int, reply: Reply, present: Collection[int]) -> None:
        """Give a node the number that it says it has.

        Raises:
            ReplyError: that number is another node's, which is still there, or none.
        """
        if not 0 <= reply.worker < MOST:
            raise ReplyError(
                f"Node {node} says that it is worker {reply.worker}; a number from 0 to {MOST - 1} was expected."
            )
        holder = self.nodes.get(reply.worker)
        if holder is not None and holder != node and holder in present:
            raise ReplyError(
                f"Nodes {holder} and {node} both say that they are worker {reply.worker}; the first is believed. Give "
                "each SuperNode a partition-id of its own in --node-config."
            )
        self.nodes[reply.worker], self.versions[reply.worker] = node, reply.version

    def present(self, nodes: Collection[int]) -> list[int]:
        """The numbers of the nodes that are there, ascending."""
        there = set(nodes)
        return sorted(number for number, node in self.nodes.items() if node in there)

    def sample(self, nodes: Collection[int], count: int, seed: int, round_number: int) -> Sequence[int]:
        """So many numbers of nodes that are there, ascending: a pure function of seed, round and who is there."""
        there = self.present(nodes)
        order = permutation(len(there), seed, Purpose.CLIENTS, round_number)
        return sorted(there[i] for i in order[:count])
