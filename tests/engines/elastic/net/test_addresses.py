"""Addresses as people write them, and names that nobody knows: an error at once."""

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gradvote.engines.elastic.environment import store_of
from gradvote.engines.elastic.launcher import Launcher
from gradvote.engines.elastic.net.addresses import joined, listening, split
from gradvote.engines.elastic.stores.torch_store import connected

KEY = "gradvote/elastic//hello"
JOINING = f"from gradvote.engines.elastic.environment import store_of; store_of(None, 20.0).first('{KEY}', 'x', 9)"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:29500", ("127.0.0.1", 29500)),
        ("node-3:1", ("node-3", 1)),
        ("[::1]:29500", ("::1", 29500)),
        ("::1:29500", ("::1", 29500)),
        ("[fe80::1%eth0]:80", ("fe80::1%eth0", 80)),
    ],
)
def test_host_and_port(text: str, found: tuple[str, int]) -> None:
    assert split(text) == found == split(joined(*found))


@pytest.mark.parametrize("text", ["", ":1", "[]:1", "host", "host:", "host:x", "host:-1", "host:65536", "[::1]", "h:٣"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match=r"HOST:PORT, for instance 127.0.0.1:29500 or \[::1\]:29500; got"):
        split(text)


def test_other_kinds_of_stores_are_named() -> None:
    with pytest.raises(ValueError, match=r"register` is gradvote://HOST:PORT, that of an etcd etcd://"):
        split("redis://h:1/a")


def _has_ipv6() -> bool:
    try:
        listening("::1").close()
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]"])
def test_workers_find_the_store(host: str) -> None:
    if ":" in host and not _has_ipv6():
        pytest.skip("no IPv6 here")
    launcher = Launcher([sys.executable, "-c", JOINING], 1, 1, host=host, max_restarts=0, say=lambda text: None)
    assert launcher.run() == 0
    assert launcher._server is not None and launcher._server.table.get(KEY) == "x"


@pytest.mark.parametrize("host", ["::1", "localhost"])
def test_workers_connect_there(host: str) -> None:
    if ":" in host and not _has_ipv6():
        pytest.skip("no IPv6 here")
    with listening(host) as server, socket.create_connection((host, server.getsockname()[1]), timeout=5):
        server.accept()[0].close()


NOWHERE = "no-such-host.invalid"


@pytest.mark.parametrize(
    ("attempt", "words"),
    [
        (lambda: Launcher(["x"], 1, 1, host=NOWHERE), f"The host '{NOWHERE}' is not known here"),
        (lambda: listening(NOWHERE), "is not known here"),
        (lambda: connected(NOWHERE, 29500, 300.0), "is not known here"),
        (lambda: Launcher(["x"], 1, 1, host="192.0.2.1"), "must be an address of this machine"),
        (lambda: listening("x" * 70), "is not known here"),
        (lambda: listening("127.0.0.1", 99999), r"127\.0\.0\.1:99999' \(bind\(\): port must be 0-65535\)"),
    ],
)
def test_an_unknown_host_is_an_error_at_once(attempt: Callable[[], object], words: str) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=words):
        attempt()
    assert time.monotonic() - started < 20  # a resolver may take its time; the store would take 300 s


def test_keys_are_looked_at_before_a_store_is_waited_for(tmp_path: Path) -> None:
    """Nobody answers there; with the folder of another run that would have been found after a timeout."""
    nobody = socket.create_server(("127.0.0.1", 0))
    with nobody, pytest.raises(ValueError, match=r"There is no ca\.pem"):
        store_of(joined("127.0.0.1", nobody.getsockname()[1]), 300.0, tmp_path / "elsewhere", worker=0)
