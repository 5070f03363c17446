"""Network namespaces joined by a bridge in one of them: each worker on a host of its own. Needs root and `ip`."""

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote.engines.elastic.stores.server import RegisterServer, serve

CLONE_NEWNET = 0x40000000
HUB = "10.78.0.254"

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("ip"), reason="needs root and ip: it makes network namespaces"
)
needs_nft = pytest.mark.skipif(not shutil.which("nft"), reason="needs nft (package nftables) to lose packets")
needs_tc = pytest.mark.skipif(not shutil.which("tc"), reason="needs tc to slow links")


def enter(namespace: str) -> None:
    """Let this thread, and those it will start, live in a namespace."""
    descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the namespace {namespace}")
    finally:
        os.close(descriptor)


def address_of(worker: int | str) -> str:
    """Of a worker, or of the hub."""
    return f"10.78.0.{worker + 1}" if isinstance(worker, int) else worker


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


class Namespaces:
    """Worker k lives in the namespace `names[k]` at the address 10.78.0.(k+1)."""

    def __init__(self, num: int) -> None:
        self.hub = f"gvt{os.getpid()}h"
        self.names = [f"gvt{os.getpid()}w{k}" for k in range(num)]

    def options(self, worker: int) -> dict[str, str]:
        """For a worker's process."""
        return {"namespace": self.names[worker], "host": f"10.78.0.{worker + 1}", "store_host": HUB}

    def open(self) -> None:
        run("ip", "netns", "add", self.hub)
        run("ip", "-n", self.hub, "link", "add", "bridge", "type", "bridge")
        run("ip", "-n", self.hub, "address", "add", f"{HUB}/24", "dev", "bridge")
        for device in ("lo", "bridge"):
            run("ip", "-n", self.hub, "link", "set", device, "up")
        for k, name in enumerate(self.names):
            run("ip", "netns", "add", name)
            run("ip", "-n", self.hub, "link", "add", f"out{k}", "type", "veth", "peer", "name", "in", "netns", name)
            run("ip", "-n", self.hub, "link", "set", f"out{k}", "master", "bridge", "up")
            run("ip", "-n", name, "address", "add", f"10.78.0.{k + 1}/24", "dev", "in")
            for device in ("lo", "in"):
                run("ip", "-n", name, "link", "set", device, "up")

    def close(self) -> None:
        """Remove what was made, by its names."""
        for name in (self.hub, *self.names):
            if Path(f"/run/netns/{name}").exists():
                run("ip", "netns", "delete", name)

    def store(self) -> TCPStore:
        """A store that listens in the hub."""
        made: list[TCPStore] = []

        def make() -> None:
            enter(self.hub)
            made.append(TCPStore(HUB, 0, is_master=True, wait_for_workers=False))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    def register(self, keys: Path) -> RegisterServer:
        """A register that listens in the hub."""
        made: list[RegisterServer] = []

        def make() -> None:
            enter(self.hub)
            made.append(serve(HUB, keys=keys))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return made[0]

    def cut(self, sender: int, receivers: Iterable[int | str]) -> None:
        """What a worker sends to these (or to the HUB) is lost, until `mend`; what they send arrives."""
        for address in map(address_of, receivers):
            run("ip", "-n", self.names[sender], "route", "replace", "blackhole", f"{address}/32")

    def part(self, *parts: Iterable[int | str]) -> None:
        """Workers of different parts do not hear each other; who is in no part with the HUB does not reach it."""
        for own in map(set, parts):
            others = {other for part in parts for other in part} - own
            for worker in own - {HUB}:
                assert isinstance(worker, int)
                self.cut(worker, others)

    def mend(self) -> None:
        """All hear all again."""
        for name in self.names:
            routes = subprocess.run(["ip", "-n", name, "route"], check=True, capture_output=True, text=True).stdout
            for line in routes.splitlines():
                if line.startswith("blackhole"):
                    run("ip", "-n", name, "route", "delete", *line.split())

    def leg(self, worker: int, state: str) -> None:
        """Pull out a worker's cable, or put it back: "down", "up"."""
        run("ip", "-n", self.hub, "link", "set", f"out{worker}", state)

    def slow(self, worker: int, rate: str) -> None:
        """Shape a worker's leg in both directions."""
        bucket = ["root", "tbf", "rate", rate, "burst", "16kb", "latency", "300ms"]
        for name, device in ((self.hub, f"out{worker}"), (self.names[worker], "in")):
            run("ip", "netns", "exec", name, "tc", "qdisc", "replace", "dev", device, *bucket)

    def lossy(self, percent: int) -> None:
        """Every worker loses this share of the packets that come to it."""
        rules = (
            "add table inet gv; add chain inet gv arriving { type filter hook input priority 0; }; "
            f"add rule inet gv arriving numgen random mod 100 < {percent} counter drop"
        )
        for name in self.names:
            run("ip", "netns", "exec", name, "nft", rules)

    def num_lost(self) -> int:
        """Packets lost so far."""
        command = ["ip", "netns", "exec", "", "nft", "list", "table", "inet", "gv"]
        lost = 0
        for name in self.names:
            command[3] = name
            words = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
            lost += int(words[words.index("packets") + 1])
        return lost


@contextmanager
def namespaces(num: int) -> Iterator[Namespaces]:
    """Namespaces for `num` workers, removed however the test ends."""
    made = Namespaces(num)
    try:
        made.open()
        yield made
    finally:
        made.close()
