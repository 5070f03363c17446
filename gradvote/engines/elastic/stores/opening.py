"""Which store an address means."""

import logging

from torch.distributed import Store  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote.engines.elastic.consensus.storage import Storage
from gradvote.engines.elastic.net.addresses import families, split
from gradvote.engines.elastic.net.authentication import Credentials
from gradvote.engines.elastic.stores.client import ServedStore
from gradvote.engines.elastic.stores.sealed import Sealed
from gradvote.engines.elastic.stores.torch_store import TorchStore, connected

LOG = logging.getLogger("gradvote.elastic")
SERVED, ETCD = "gradvote://", "etcd://"
"""How the addresses of a register of `gradvote launch`, and of the nodes of an etcd, begin."""
SHORTEST = 16


def storage_at(address: str, timeout: float, secret: bytes, credentials: Credentials | None = None) -> Storage:
    """The store at HOST:PORT (torch's), gradvote://HOST:PORT (of `gradvote launch`) or etcd://HOST:PORT,HOST:PORT,...

    Raises:
        ValueError: the address is of another form, its name does not resolve, or nobody answers there.
        MissingExtra: it is an etcd, and the extra `etcd` is not installed.
    """
    if address.startswith(SERVED):
        host, port = split(address.removeprefix(SERVED))
        families(host)
        if not secret and credentials is None:
            raise ValueError(
                f"The register at {address} hears processes of its run alone: give attach the folder of `gradvote "
                "keys` (keys=, GRADVOTE_KEYS), or set GRADVOTE_SECRET to what the register was started with."
            )
        return ServedStore(host, port, credentials or secret)
    if address.startswith(ETCD):
        from gradvote.engines.elastic.stores.etcd import etcd_at  # noqa: PLC0415  # an extra, imported only when used

        return Sealed(etcd_at(address.removeprefix(ETCD)), secret)
    return storage_on(connected(*split(address), timeout), secret)


def storage_on(store: Store, secret: bytes = b"") -> Storage:
    """Entries in a torch Store, with the run's secret under each where there is one."""
    return Sealed(TorchStore(store), secret)


def checked_secret(text: str) -> bytes:
    """The secret in a text.

    Raises:
        ValueError: it is so short that it can be guessed.
    """
    if len(text) < SHORTEST:
        raise ValueError(
            f"The secret of a run (GRADVOTE_SECRET) has at least {SHORTEST} characters; this one has {len(text)}. "
            "Make one with `python -c 'import secrets; print(secrets.token_hex(32))'`."
        )
    return text.encode()
