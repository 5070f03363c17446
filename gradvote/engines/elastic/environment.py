"""What `gradvote launch` and torchrun tell a worker: its number, how many there are, the register, the keys."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from torch.distributed import Store  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote.engines.elastic.consensus.register import Register
from gradvote.engines.elastic.consensus.storage import Storage
from gradvote.engines.elastic.net.addresses import bare, is_loopback, joined
from gradvote.engines.elastic.net.authentication import Credentials, has_certificates
from gradvote.engines.elastic.signing.names import Naming, PlainNames, SignedNames
from gradvote.engines.elastic.stores.opening import checked_secret, storage_at, storage_on

if TYPE_CHECKING:
    from gradvote.engines.elastic.signing.keys import Keys

STORE, SECRET, HOST, KEYS = "GRADVOTE_STORE", "GRADVOTE_SECRET", "GRADVOTE_HOST", "GRADVOTE_KEYS"
INSECURE = "GRADVOTE_INSECURE"
NUMBER, WORKERS, MIN_WORKERS = "GRADVOTE_WORKER", "GRADVOTE_WORKERS", "GRADVOTE_MIN_WORKERS"


def env(*names: str) -> str | None:
    """The first of these variables that is set, and not empty."""
    return next((os.environ[name] for name in names if os.environ.get(name)), None)


def store_of(
    store: Store | str | None, timeout: float, keys: "Keys | Path | str | None" = None, worker: int | None = None
) -> Storage:
    """The store that was given, by itself or by its address, or that of the environment.

    A register of `gradvote launch` is shown the certificate of this worker, where a folder of keys has one, or the
    run's secret.

    Raises:
        ValueError: there is none, nobody answers at its address, or the run's secret is missing or too short.
        MissingExtra: it is an etcd, and the extra `etcd` is not installed.
    """
    text = env(SECRET)
    secret = b"" if text is None else checked_secret(text)
    if isinstance(store, Store):
        return storage_on(store, secret)
    if store is not None and not isinstance(store, str):
        raise TypeError(f"store= takes a torch Store, or HOST:PORT of one; got {store!r}.")
    address = store or env(STORE)
    if address is None and "MASTER_ADDR" in os.environ:
        address = joined(os.environ["MASTER_ADDR"], os.environ.get("MASTER_PORT", ""))
    if address is None:
        raise ValueError(
            "The workers need a register to agree through. Start them with `gradvote launch` or torchrun, or give "
            "attach a torch.distributed.TCPStore that outlives them (store=)."
        )
    number = env(NUMBER, "RANK") if worker is None else worker
    credentials = None if number is None else credentials_of(keys, int(number))  # before anybody is waited for
    return storage_at(address, timeout, secret, credentials)


def number_of(worker: int | None, register: Register) -> int:
    """This worker's number: as given, of the environment, or one that was not given before.

    Raises:
        ValueError: it is below 0.
    """
    if worker is None and env(NUMBER, "RANK") is None:
        return register.free_number()
    number = int(env(NUMBER, "RANK") or 0) if worker is None else worker
    if number < 0:
        raise ValueError(f"The number of a worker must be at least 0; got {number}.")
    return number


def host_of(host: str | None, credentials: Credentials | None, insecure: bool) -> str:
    """Where this worker listens: as given, of the environment, or on the loopback.

    Raises:
        ValueError: others can reach that address, and there are no keys: anyone could speak there.
    """
    chosen = host or env(HOST) or "127.0.0.1"
    if credentials is None and not insecure and not env(INSECURE) and not is_loopback(bare(chosen)):
        raise ValueError(
            f"Without keys a worker listens on the loopback only, not at '{chosen}', where anyone could speak to it. "
            "Make keys with `gradvote keys FOLDER --workers N` and give each machine its part of them (keys=, "
            "GRADVOTE_KEYS). In a network where all others are trusted, insecure=True, --insecure or "
            "GRADVOTE_INSECURE=1 allows it."
        )
    return chosen


def credentials_of(keys: "Keys | Path | str | None", number: int) -> Credentials | None:
    """What this worker proves with who it is: the certificates beside its keys; None where there are no keys.

    Raises:
        ValueError: the folder does not hold its certificate.
    """
    given = env(KEYS) if keys is None else keys
    folder = given if given is None or isinstance(given, str | Path) else given.folder
    return None if folder is None else Credentials.load(folder, number)


def signs(folder: Path) -> bool:
    """Whether a folder has keys for ballots, beside certificates; also one that is not there is to have them."""
    return not has_certificates(folder) or any(p.suffix in (".private", ".public") for p in folder.iterdir())


def naming_of(keys: "Keys | Path | str | None", number: int, register: Register) -> Naming:
    """How this worker's ballots are signed: with these keys, or those in this folder or that of the environment.

    A folder with certificates only is that of a run whose ballots are not signed.

    Raises:
        ValueError: the keys are another worker's, or the folder does not hold them.
        MissingExtra: `cryptography` is not installed.
    """
    given = env(KEYS) if keys is None else keys
    if given is None or (isinstance(given, str | Path) and not signs(Path(given))):
        return PlainNames()
    from gradvote.engines.elastic.signing.keys import Keys  # noqa: PLC0415  # an extra, imported only when it is used

    own = given if isinstance(given, Keys) else Keys.load(given, number)
    if own.number != number:
        raise ValueError(f"These are the keys of worker {own.number}; this is worker {number}.")
    return SignedNames(own, register.run_id())
