"""Plays a transcript. Its lines that begin with > are what happens, the others are what comes of it:

> start 3 workers, quorum 2[, sharded][, signed]
> vote w0 w1                  all of them: > vote all
> deliver w0 w1               the next message of a link, or > deliver all
> alter w2 w0                 the ballot that is on its way
> cut w0 w1                   for good
> kill w2
> deadline w0                 time passes; also > settled, > impatient, > desperate
> told w1                     by another member, what the store has decided
> two faces w2 w0             w2 will tell w0 another ballot than the rest
> new w2                      a process that has to learn
> learn w2' w0                what w0 knows, and to be let in
> save all                    checkpoints; later, when all have died: > restart
> state
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gradvote.engines.elastic.consensus.agreement import Agreement
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.records import Record
from tests.engines.elastic.consensus.test_agreement import EVENTS
from tests.engines.elastic.sharded_world import ShardedWorld
from tests.engines.elastic.world import Process, World
from tests.golden.words import Names, record_text, spoken, stands, stops

FILES = sorted(Path(__file__).with_name("transcripts").glob("*.txt"))


class Heard(World):
    """A world of members without clocks and sockets that says what happens in it. Worker k has the ticket k + 1."""

    names: Names
    lines: list[str]

    def agreement_of(self, p: Process) -> Agreement:
        return spoken(super().agreement_of(p), self.names, self.lines.append)

    def finish(self, p: Process, record: Record) -> None:
        self.lines.append(f"  {self.names(p.member.ticket)} = {record_text(self.names, record)}")
        if stops(record):
            p.agreement, p.view = None, ()
        else:
            super().finish(p, record)

    def where(self) -> Iterable[str]:
        for ticket, p in sorted(self.processes.items()):
            role = "" if p.view else ", no member"
            yield f"  {self.names(ticket)}{role} {stands(p.slot, p.history, self.names)}"


class HeardSharded(Heard, ShardedWorld):
    """The same with the server in shards."""


class Scene:
    """The world of one transcript."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.world: Any = None

    def do(self, command: str) -> list[str]:
        """What comes of a command."""
        self.lines.clear()
        verb, *words = command.split()
        getattr(self, f"do_{verb}")(words)
        for ticket, p in self.world.processes.items():
            self.world.names.add(ticket, p.member.number)
        return list(self.lines)

    def do_start(self, words: list[str]) -> None:
        num, quorum = int(words[0]), int(words[3].rstrip(","))
        kind: Any = HeardSharded if "sharded" in " ".join(words) else Heard
        world = kind.__new__(kind)
        world.names, world.lines = Names(), self.lines
        arguments = {"shards": num} if kind is HeardSharded else {"signed": "signed" in words}
        world.__init__(num, quorum, **arguments)
        for p in world.processes.values():
            p.view = tuple(_renumbered(m) for m in p.view)
            p.member = _renumbered(p.member)
        self.world = world

    def do_vote(self, words: list[str]) -> None:
        for ticket in self.tickets(words):
            self.world.vote(ticket)

    def do_deliver(self, words: list[str]) -> None:
        if words != ["all"]:
            a, b = self.tickets(words)
            return self.arrive((a, b))
        while self.world.links:
            self.arrive(min(self.world.links))
        return None

    def arrive(self, link: tuple[int, int]) -> None:
        self.lines.append(f"{self.world.names(link[0])} to {self.world.names(link[1])}")
        self.world.deliver(link)

    def do_kill(self, words: list[str]) -> None:
        for ticket in self.tickets(words):
            self.world.kill(ticket)

    def do_cut(self, words: list[str]) -> None:
        self.world.cut(*self.tickets(words))

    def do_alter(self, words: list[str]) -> None:
        self.world.lose(tuple(self.tickets(words)))

    def do_deadline(self, words: list[str]) -> None:
        self.clock("expired", words)

    def do_settled(self, words: list[str]) -> None:
        self.clock("settled", words)

    def do_impatient(self, words: list[str]) -> None:
        self.clock("impatient", words)

    def do_desperate(self, words: list[str]) -> None:
        self.clock("desperate", words)

    def clock(self, what: str, words: list[str]) -> None:
        for ticket in self.tickets(words):
            self.world.event(ticket, EVENTS[what])

    def do_told(self, words: list[str]) -> None:
        for ticket in self.tickets(words):
            record = self.world.register.get(self.world.processes[ticket].slot)
            assert record is not None, "the store has decided nothing"
            self.world.event(ticket, lambda agreement, record=record: agreement.decided(record))

    def do_two(self, words: list[str]) -> None:
        liar, *told = self.tickets(words[1:])
        self.world.processes[liar].faces = sum(1 << ticket for ticket in told)

    def do_new(self, words: list[str]) -> None:
        self.world.join(int(words[0].lstrip("w")))

    def do_learn(self, words: list[str]) -> None:
        ticket, donor = self.tickets(words)
        self.world.learn(ticket, donor)

    def do_save(self, words: list[str]) -> None:
        for ticket in self.tickets(words):
            self.world.save(ticket)

    def do_restart(self, words: list[str]) -> None:
        for number, p in sorted(self.world.saved.items()):  # names go in the order of the new tickets
            assert p.member.number == number
        assert self.world.restart(), "nobody can begin again"

    def do_state(self, words: list[str]) -> None:
        self.lines += self.world.where()

    def tickets(self, words: list[str]) -> list[int]:
        """The processes of these names; all that live."""
        return sorted(self.world.processes) if words == ["all"] else [self.world.names.ticket(w) for w in words]


def _renumbered(member: Member) -> Member:
    return Member(member.ticket, member.ticket - 1)


def played(text: str) -> str:
    """A transcript with what comes of its commands now; comments and empty lines stay."""
    scene, out = Scene(), []
    for line in text.splitlines():
        if line.startswith("> "):
            out += [line, *scene.do(line[2:])]
        elif not line or line.startswith("#"):
            out.append(line)
    return "\n".join(out) + "\n"
