"""Keys of a run whose ballots are signed: Ed25519 (RFC 8032) by the library `cryptography`, in PEM files.

A folder holds `worker-3.private` (PKCS 8, mode 0600) and `worker-3.public`. A worker needs its own private file and
the public ones of all. Importing this file needs the extra `signed`.
"""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from gradvote.errors import MissingExtra

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
        load_pem_private_key,
        load_pem_public_key,
    )
except ImportError as error:
    raise MissingExtra("cryptography", "signed") from error

LOG = logging.getLogger("gradvote.elastic")
SIGNATURE_BYTES = 64
_PUBLIC = re.compile(r"worker-(0|[1-9]\d*)\.public")
_HOW = (
    "Make keys with `gradvote keys FOLDER --workers N`; each worker needs its own private file and all public ones in "
    "one folder."
)


@dataclass(frozen=True)
class Keys:
    """A worker's own private key, and the public keys of all workers by their numbers."""

    number: int
    private: Ed25519PrivateKey = field(repr=False)
    public: Mapping[int, Ed25519PublicKey] = field(repr=False)
    folder: Path | None = field(default=None, compare=False)
    """Where they were found; its certificates are those of this worker's connections."""

    @classmethod
    def load(cls, folder: Path | str, number: int) -> Self:
        """The keys that worker `number` finds in a folder.

        Raises:
            ValueError: its private file or a public one is missing, is no Ed25519 key, or they do not fit each other.
        """
        folder = Path(folder)
        private = _private_in(folder / f"worker-{number}.private", number)
        found = [(match[1], path) for path in _listed(folder) if (match := _PUBLIC.fullmatch(path.name))]
        public = {int(k): _public_in(path) for k, path in sorted(found)}
        if number not in public:
            raise ValueError(f"There is no public key worker-{number}.public in {folder}. {_HOW}")
        if _raw(public[number]) != _raw(private.public_key()):
            raise ValueError(
                f"worker-{number}.public in {folder} is not the public key of worker-{number}.private: the two files "
                f"were made apart. {_HOW}"
            )
        _check_distinct(public, folder)
        return cls(number, private, public, folder)

    def sign(self, message: bytes) -> bytes:
        """This worker's signature: 64 bytes."""
        return self.private.sign(message)

    def verifies(self, number: int, message: bytes, signature: bytes) -> bool:
        """Whether worker `number` signed the message; False where its public key is not known."""
        key = self.public.get(number)
        if key is None:
            return False
        try:
            key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def write(folder: Path | str, workers: int) -> list[int]:
    """Make keys for the workers 0 to `workers` − 1 that have no public one in this folder; the numbers of those.

    A private key that is there without its public one gets that.

    Raises:
        ValueError: `workers` is below 1, or a private file that is there is no Ed25519 key.
        OSError: a file cannot be written; none is ever overwritten.
    """
    if workers < 1:
        raise ValueError(f"Keys are made for at least 1 worker; got {workers}.")
    folder, made = Path(folder), list[int]()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(workers):
        private, public = folder / f"worker-{number}.private", folder / f"worker-{number}.public"
        if not public.exists():
            key = _private_in(private, number) if private.exists() else _new_private(private)
            _create(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), 0o644)
            made.append(number)
    return made


def _new_private(path: Path) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.generate()
    _create(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), 0o600)
    return key


def _create(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except OSError:
        path.unlink()
        raise


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _private_in(path: Path, number: int) -> Ed25519PrivateKey:
    if not path.is_file():
        raise ValueError(f"There is no private key {path.name} of worker {number} in {path.parent}. {_HOW}")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} is not a private key in PEM without a password. {_HOW}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} is a key of another kind; ballots are signed with Ed25519. {_HOW}")
    if os.name == "posix" and path.stat().st_mode & 0o077:
        LOG.warning("%s can be read by other users, who could sign as worker %d: chmod 600 it.", path, number)
    return key


def _public_in(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} is not a public key in PEM. {_HOW}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError(f"{path} is a key of another kind; ballots are signed with Ed25519. {_HOW}")
    return key


def _check_distinct(public: Mapping[int, Ed25519PublicKey], folder: Path) -> None:
    owners: dict[bytes, int] = {}
    for number, key in public.items():
        other = owners.setdefault(_raw(key), number)
        if other != number:
            raise ValueError(
                f"worker-{other}.public and worker-{number}.public in {folder} are the same key: each worker needs one "
                f"of its own. {_HOW}"
            )


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(Encoding.Raw, PublicFormat.Raw)
