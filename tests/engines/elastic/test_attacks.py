"""Five attacks that once succeeded, on runs of `gradvote launch`, each by all who might try it.

pytest -m slow -v tests/engines/elastic/test_attacks.py
"""

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.net.authentication import Credentials
from gradvote.engines.elastic.net.certificates import write_certificates
from gradvote.engines.elastic.stores.opening import storage_at
from gradvote.engines.elastic.stores.shares import AHEAD
from tests.engines.elastic.launched import LaunchedRun
from tests.engines.elastic.strangers import BAD_MEMBERS, Attacker, enrol, goes_bad, no_certificate, plain_frames

pytestmark = pytest.mark.slow
WAYS = ["no certificate", "another run", "gone bad", "insecure"]
ENROLLED = ("gone bad", "insecure")
BAD = 3
"""The number of a worker that has a certificate, and never votes."""


class Scene:
    """Where an attack takes place, and by whom."""

    def __init__(self, folder: Path, way: str) -> None:
        self.folder, self.way = folder, way
        write_certificates(folder / "keys", BAD + 1)
        write_certificates(folder / "others", BAD + 1)

    @contextmanager
    def run(self, *options: str) -> Iterator[LaunchedRun]:
        """A run on which all workers are at work."""
        with LaunchedRun(self.folder, None if self.way == "insecure" else self.folder / "keys", *options) as run:
            run.until(lambda: min(run.steps) >= 10, "the start")
            yield run

    def credentials(self) -> Credentials | None:
        folder = {"another run": "others", "gone bad": "keys"}.get(self.way)
        return None if folder is None else Credentials.load(self.folder / folder, BAD)

    def speaks(self, run: LaunchedRun, how: str) -> None:
        """Go bad against all workers, or do without a certificate what can be done."""
        for own in run.joined.values():
            attacker = Attacker(own.port, own.recipe, self.credentials(), self.folder / "others")
            if self.way == "no certificate":
                plain_frames(attacker)
                no_certificate(attacker)
            if self.way in ENROLLED:
                goes_bad(attacker, how, enrol(run.register(), BAD), own.ticket)
            else:
                with pytest.raises(OSError), attacker.enrolled(enrol(run.register(), BAD), own.ticket) as channel:
                    BAD_MEMBERS[how](channel)


@pytest.fixture(params=WAYS)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    return Scene(tmp_path, request.param)


def test_nobody_stops_a_run_by_saying_that_it_has_gone_on(scene: Scene) -> None:
    with scene.run() as run:
        for _ in range(3):
            scene.speaks(run, "outside")
            run.goes_on()
        assert "was left out" not in run.text


def test_what_is_asked_for_costs_no_memory(scene: Scene) -> None:
    with scene.run("--width", "1024") as run:
        run.goes_on()
        before = run.megabytes(0)
        scene.speaks(run, "pulls")
        assert run.megabytes(0) < before + 60
        run.goes_on()
        assert "was left out" not in run.text


def test_a_worker_without_descriptors_accepts_again(scene: Scene) -> None:
    """Who dials need not be known; afterwards worker 2, started again, must get in."""
    with scene.run() as run, ExitStack() as stack:
        own = run.joined[0]
        resource.prlimit(own.pid, resource.RLIMIT_NOFILE, (256, 256))
        end = time.monotonic() + 6
        for _ in range(400):
            with suppress(OSError):
                sock = socket.create_connection(("127.0.0.1", own.port), timeout=0.3)
                stack.enter_context(sock).sendall(b"G")
            if time.monotonic() > end:
                break
        if scene.credentials() is not None:
            with suppress(OSError):
                scene.speaks(run, "floods")
        stack.close()
        run.kill(2)
        run.until(lambda: run.joined[2].ticket != 3 and run.joined[2].pid != own.pid, "worker 2's next process")
        run.goes_on()


def test_decisions_are_written_by_the_run_alone(scene: Scene) -> None:
    """Who is enrolled may write a few, and is trusted within these (docs/faults.md): far ahead, where it is refused."""
    with scene.run() as run:
        assert run.listens() == {"0100007F"}, "127.0.0.1 alone"
        asked = Register(storage_at(run.store, 5.0, b"a secret of somebody else's", scene.credentials()))
        first, num, written = max(run.steps) + (10**6 if scene.way == "gone bad" else 20), AHEAD + 300, 0
        for step in range(first, first + (num if scene.way == "gone bad" else 3)):
            with suppress(RegisterLost):
                asked.decide(1, Record(Slot(step), Outcome.STOP, text="a stranger says so"))
                written += 1
        assert written == 0 or (scene.way == "gone bad" and written < num)
        run.kill(2)
        run.goes_on()
        assert "a stranger says so" not in run.text


@pytest.mark.parametrize("placement", ["replicated", "sharded"])
def test_a_weight_that_turns_is_named_and_healed(placement: str, scene: Scene) -> None:
    if scene.way not in ENROLLED:
        pytest.skip("it is the worker's own memory: certificates play no part but for being there or not")
    with scene.run("--steps", "200", "--flip", "1@60", "--placement", placement) as run:
        run.until(lambda: run.text.count("END ") == 3, "the end of all three")
        ends = [line.split() for line in run.text.splitlines() if line.startswith("END ")]
        assert len({line[2] for line in ends}) == 1, ends
        assert "worker 1" in run.text.lower()
