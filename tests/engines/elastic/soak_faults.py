"""What a soak does to its workers: each affliction is played on one of them, and says in words what it did."""

from collections.abc import Callable
from signal import SIGCONT, SIGSTOP
from typing import TYPE_CHECKING

from tests.engines.elastic.liars import LIES
from tests.engines.elastic.strangers import BAD_MEMBERS, STRANGERS, Attacker, enrol, goes_bad

if TYPE_CHECKING:
    from tests.engines.elastic.soak import Soak

LIES_PER_ORDER, GAP = 8, 10
SAVED_EVERY = 5
BAD = 20
"""The number of the worker that has a certificate and only breaks rules."""


def kill(soak: "Soak", worker: int) -> str:
    if soak.run.processes[worker].is_alive():
        soak.kill(worker)
        soak.counts["kill"] += 1
        soak.later(soak.random.uniform(0, 1.5), lambda: soak.start(worker))
    return ""


def stop(soak: "Soak", worker: int) -> str:
    seconds = soak.random.uniform(0.1, 3)
    if soak.alive(worker):
        soak.run.signal(worker, SIGSTOP)
        soak.stopped.add(worker)
        soak.counts["stop"] += 1
        life = soak.run.lives[worker]
        soak.later(seconds, lambda: wake(soak, worker, life))
    return f"{seconds:.2f} s"


def wake(soak: "Soak", worker: int, life: int) -> None:
    if worker in soak.stopped and soak.run.lives[worker] == life:
        soak.stopped.discard(worker)
        soak.run.signal(worker, SIGCONT)


def ballots(soak: "Soak", worker: int) -> str:
    """Lies in some of the next steps, or bits that turn round on the way."""
    if soak.random.random() < 0.3:
        other = soak.random.choice([w for w in soak.born if w != worker])
        soak.relay.alter(worker, other, num := soak.random.randint(1, 5))
        return f"{num} bits on the way to {other}"
    start = soak.invariants.latest + 5
    lies = {start + GAP * i: soak.random.choice(list(LIES)) for i in range(LIES_PER_ORDER)}
    soak.tell(worker, lies=lies)
    return " ".join(lies.values())


def link(soak: "Soak", worker: int) -> str:
    other = soak.random.choice([w for w in soak.born if w != worker])
    seconds, how = soak.random.uniform(0.2, 4), soak.random.choice(["cut", "hang", "slow"])
    if how == "cut":
        soak.relay.cut(worker, other, seconds)
    elif how == "hang":
        soak.relay.hang(worker, other, seconds)
    else:
        soak.relay.slow(worker, other, seconds, rate=soak.random.uniform(1e3, 1e5), delay=soak.random.uniform(0, 0.2))
    soak.counts["link"] += 1
    return f"{how} to {other} for {seconds:.2f} s"


def nan(soak: "Soak", worker: int) -> str:
    num = soak.random.randint(1, 10)
    soak.tell(worker, nan=num)
    soak.counts["nan"] += soak.alive(worker)
    return f"{num} steps"


def flip(soak: "Soak", worker: int) -> str:
    """A bit turns in a worker's memory while all are there, so that nobody learns from it: it is found, and healed."""
    kinds = ["weight", "momentum"] + (["server's memory"] if soak.run.options["placement"] == "replicated" else [])
    what = soak.random.choice(kinds)
    if not soak.settles():
        return "not all were there"
    life = f"{worker}.{soak.run.lives[worker]}"  # not before: it may have been started again meanwhile
    soak.tell(worker, flip=what)
    before = soak.invariants.turned[life]
    soak.wait(lambda: soak.invariants.turned[life] > before, "the bit to turn")
    soak.wait(lambda: life not in soak.invariants.odd, f"worker {worker} to be healed of its {what}")
    soak.wait_for_steps(SAVED_EVERY + 1)  # the checkpoint with the wrong bit is gone
    soak.counts["flip"] += 1
    return what


def at_checkpoint(soak: "Soak", worker: int) -> str:
    if not soak.alive(worker) or not soak.catch_saving(worker) or not soak.alive(worker):
        return "not caught"
    soak.kill(worker)
    soak.counts["checkpoint"] += 1
    soak.later(soak.random.uniform(0, 1.5), lambda: soak.start(worker))
    return ""


def everybody(soak: "Soak", worker: int) -> str:
    """All die, one of them while it writes its checkpoint."""
    caught = soak.alive(worker) and soak.catch_saving(worker) and soak.alive(worker)
    for each in soak.born:
        if soak.run.processes[each].is_alive():
            soak.kill(each)
    soak.invariants.rewind()
    soak.counts["everybody"] += 1
    soak.counts["checkpoint"] += caught
    for each in soak.born:
        soak.start(each)
    return "while writing a checkpoint" if caught else ""


def stranger(soak: "Soak", worker: int) -> str:
    """Somebody who is not of this run dials a worker, which may be stopped or dead."""
    how = soak.random.choice(list(STRANGERS))
    attacker = Attacker(soak.port(worker), 0, None, soak.run.folder / "others", soak.random.randrange(1 << 30))
    soak.attack(lambda: STRANGERS[how](attacker))
    soak.counts["stranger"] += 1
    return how


def gone_bad(soak: "Soak", worker: int) -> str:
    """A worker that has a certificate, and never votes, breaks the rules."""
    how, place = soak.random.choice(list(BAD_MEMBERS)), soak.place(worker)
    if place is None:
        return "nobody there"
    attacker = Attacker(soak.port(worker), soak.recipe, soak.bad)
    member = enrol(soak.register, BAD)
    soak.attack(lambda: goes_bad(attacker, how, member, place.ticket))
    soak.counts["gone bad"] += 1
    return how


def register(soak: "Soak", worker: int) -> str:
    """It hangs, has a full disk, or dies and is started again; while another worker dies, so that somebody needs it."""
    how, seconds = soak.random.choice(["hangs", "full", "dies"]), soak.random.uniform(0.5, 4)
    own = soak.server
    {"hangs": own.hang, "full": own.fill, "dies": own.kill}[how]()
    kill(soak, worker)
    soak.pass_time(seconds)
    {"hangs": own.wake, "full": own.make_room, "dies": own.start}[how]()
    soak.counts["register"] += 1
    return f"{how} for {seconds:.2f} s"


def halves(soak: "Soak", worker: int) -> str:
    """Nothing passes between two and the three others."""
    two, seconds = soak.random.sample(sorted(soak.born), 2), soak.random.uniform(1, 5)
    for one in two:
        for other in soak.born.keys() - set(two):
            soak.relay.hang(one, other, seconds)
    soak.counts["halves"] += 1
    return f"{two} and the others for {seconds:.2f} s"


FAULTS: dict[str, "Callable[[Soak, int], str]"] = {
    "kill": kill, "stop": stop, "ballots": ballots, "link": link, "nan": nan, "checkpoint": at_checkpoint,
    "everybody": everybody, "stranger": stranger, "gone bad": gone_bad,
    "register": register, "halves": halves, "flip": flip,
}  # fmt: skip
