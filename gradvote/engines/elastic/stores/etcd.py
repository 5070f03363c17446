"""An etcd of several nodes, by its JSON gateway: the register outlives the loss of any machine but most of them.

Needs the extra `etcd` (etcd3gw). Where GRADVOTE_ETCD_CA names the certificate of an authority, nodes are spoken to by
TLS; GRADVOTE_ETCD_CERT and GRADVOTE_ETCD_KEY are then this process's own certificate, where the etcd asks for one.
"""

import base64
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from gradvote.engines.elastic.consensus.storage import RegisterLost
from gradvote.engines.elastic.net.addresses import split
from gradvote.engines.elastic.stores.bounded import Bounded
from gradvote.engines.elastic.stores.sealed import Swapping
from gradvote.errors import MissingExtra

try:
    import requests
    from etcd3gw.client import Etcd3Client
    from etcd3gw.exceptions import Etcd3Exception
except ImportError as error:
    raise MissingExtra("etcd3gw", "etcd") from error

PATH = "/v3/"
SHARE = 0.25
"""The least time that one node is given before the next one is asked, in seconds."""
TRUST, CERTIFICATE, KEY = "GRADVOTE_ETCD_CA", "GRADVOTE_ETCD_CERT", "GRADVOTE_ETCD_KEY"


class EtcdStore(Swapping):
    """Entries under `name`, which is the run's own. The node that answered last is asked first."""

    def __init__(self, nodes: Sequence[tuple[str, int]], name: str) -> None:
        trust, own = os.environ.get(TRUST), (os.environ.get(KEY), os.environ.get(CERTIFICATE))
        protocol = "https" if trust else "http"
        self._clients = [Etcd3Client(host, port, protocol, trust, *own, api_path=PATH) for host, port in nodes]
        self._name, self._bounded, self._first = name, Bounded(), 0

    def get(self, key: str, seconds: float) -> bytes | None:
        def ask(client: Etcd3Client) -> bytes | None:
            found = client.post(client.get_url("/kv/range"), json={"key": self._key(key)})
            return _value(found)

        return self._ask(ask, seconds)

    def swap(self, key: str, expected: bytes | None, value: bytes, seconds: float) -> bytes | None:
        own = {"key": self._key(key), "result": "EQUAL"}
        absent = {**own, "target": "CREATE", "create_revision": 0}
        same = {**own, "target": "VALUE", "value": _encoded(expected or b"")}
        exchange = {
            "compare": [absent if expected is None else same],
            "success": [{"request_put": {"key": self._key(key), "value": _encoded(value)}}],
            "failure": [{"request_range": {"key": self._key(key)}}],
        }

        def ask(client: Etcd3Client) -> bytes | None:
            answer = client.post(client.get_url("/kv/txn"), json=exchange)
            return value if answer.get("succeeded") else _value(answer["responses"][0]["response_range"])

        return self._ask(ask, seconds)

    def _ask(self, ask: Callable[[Etcd3Client], bytes | None], seconds: float) -> bytes | None:
        try:
            return self._bounded(lambda: self._in_turn(ask, seconds), seconds)
        except (requests.RequestException, Etcd3Exception, LookupError, ValueError, TimeoutError) as error:
            nodes = ", ".join(f"{client.host}:{client.port}" for client in self._clients)
            raise RegisterLost(
                f"The etcd at {nodes} does not answer ({error}): more than half of its nodes must be at work, and be "
                "reached from here."
            ) from error

    def _in_turn(self, ask: Callable[[Etcd3Client], bytes | None], seconds: float) -> bytes | None:
        """Ask the nodes one after the other, until one of them answers."""
        until, last = time.monotonic() + seconds, len(self._clients) - 1
        for turn in range(last + 1):
            client = self._clients[(self._first + turn) % (last + 1)]
            left = until - time.monotonic()
            client.timeout = max(left / (last + 1 - turn), SHARE)
            try:
                found = ask(client)
            except (requests.RequestException, Etcd3Exception):
                if turn == last or left < SHARE:
                    raise
                continue
            self._first = (self._first + turn) % (last + 1)
            return found
        raise LookupError("there is no node")

    def _key(self, key: str) -> str:
        return _encoded(f"{self._name}/{key}".encode())


def etcd_at(address: str) -> EtcdStore:
    """An etcd by HOST:PORT,HOST:PORT,.../NAME.

    Raises:
        ValueError: the address is of another form.
    """
    nodes, _, name = address.partition("/")
    if not name:
        raise ValueError(
            "The address of an etcd ends with the run's name, since an etcd outlives runs: "
            f"etcd://10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379/run-7; got 'etcd://{address}'."
        )
    return EtcdStore([split(node) for node in nodes.split(",")], name)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _value(found: dict[str, Any]) -> bytes | None:
    entries = found.get("kvs", ())
    return base64.b64decode(entries[0].get("value", "")) if entries else None
