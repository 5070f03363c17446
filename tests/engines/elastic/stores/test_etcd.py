"""An etcd of three nodes on the loopback, as the register of real workers; one node dies in the middle of a death."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGKILL

import pytest

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.stores.opening import storage_at
from tests.engines.elastic.processes import processes

needs_etcd = pytest.mark.skipif(not shutil.which("etcd"), reason="needs etcd (package etcd-server)")


class Cluster:
    """Three nodes, with data in `folder`."""

    def __init__(self, folder: Path) -> None:
        with ExitStack() as held:
            sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(6)]
            ports = [sock.getsockname()[1] for sock in sockets]
        self.ports = ports[:3]
        peers = [f"http://127.0.0.1:{port}" for port in ports[3:]]
        together = ",".join(f"n{k}={peer}" for k, peer in enumerate(peers))
        self.nodes = [
            subprocess.Popen(
                ["etcd", "--name", f"n{k}", "--data-dir", str(folder / f"n{k}"), "--initial-cluster", together,
                 "--initial-advertise-peer-urls", peers[k], "--listen-peer-urls", peers[k], "--listen-client-urls",
                 f"http://127.0.0.1:{port}", "--advertise-client-urls", f"http://127.0.0.1:{port}"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            for k, port in enumerate(self.ports)
        ]  # fmt: skip

    @property
    def address(self) -> str:
        return "etcd://" + ",".join(f"127.0.0.1:{port}" for port in self.ports) + "/a-run"

    def register(self) -> Register:
        return Register(storage_at(self.address, 30.0, b""), patience=30.0)

    def kill(self, node: int) -> None:
        self.nodes[node].kill()
        self.nodes[node].wait()

    def close(self) -> None:
        for node in range(3):
            self.kill(node)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path / "etcd")
    try:
        yield cluster
    finally:
        cluster.close()


@needs_etcd
def test_a_node_dies_in_the_middle_of_a_death(tmp_path: Path, etcd: Cluster) -> None:
    register = etcd.register()
    assert len(register.run_id()) == 16  # waits for the nodes to find each other
    with processes(tmp_path, 3, 2, 60, store=etcd.address, deadline=15.0, timeout=40.0) as run:
        run.until(lambda: run.at(0) >= 5)
        run.signal(2, SIGKILL)
        etcd.kill(0)
        before = run.at(0)
        run.until(lambda: run.at(0) >= before + 5)
        run.start(2)
        run.finish()
        assert len(run.check_alike()) == 60 and run.at(2) == 60
    first, second = (Record(Slot(7), o, members=(Member(1, 0),)) for o in (Outcome.VOID, Outcome.STOP))
    assert etcd.register().decide(9, first) == first == register.decide(9, second)
    etcd.kill(1)
    began = time.monotonic()
    with pytest.raises(RegisterLost, match="more than half of its nodes must be at work"):
        register.decide(9, second)
    assert time.monotonic() - began < 5.0


def test_the_address_of_an_etcd_names_the_run() -> None:
    with pytest.raises(ValueError, match="ends with the run's name"):
        storage_at("etcd://127.0.0.1:2379", 1.0, b"")
