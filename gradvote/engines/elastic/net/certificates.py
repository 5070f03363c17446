"""Certificates of a run's own authority, as files: Ed25519, by the library `cryptography`.

`ca.pem` is the authority (public), `ca.key` its secret, needed only to make more certificates: no machine of the run
must have it. `worker-3.pem` and `worker-3.key` are worker 3's certificate and secret, `register.pem` and `register.key`
those of the process that serves the register. Importing this file needs the extra `cli` or `signed`.
"""

import datetime
import os
from pathlib import Path

from gradvote.engines.elastic.net.authentication import AUTHORITY, REGISTER, name_of, stem_of
from gradvote.errors import MissingExtra

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as error:
    raise MissingExtra("cryptography", "cli") from error

SECRET = "ca.key"
YEARS = 10
_HOW = "Make certificates with `gradvote keys FOLDER --workers N`, in the folder that has ca.pem and ca.key."


def write_certificates(folder: Path | str, workers: int, rotate: bool = False) -> list[int]:
    """Make certificates for the workers 0 to `workers` − 1 and the register that have none here; the numbers of those.

    With `rotate` there is a new authority, and all get new certificates and secrets. The authority before it is still
    trusted, so that processes change over one by one, until the next rotation.

    Raises:
        ValueError: `workers` is below 1, or the authority's secret is not here, or is none.
        OSError: a file cannot be written.
    """
    if workers < 1:
        raise ValueError(f"Certificates are made for at least 1 worker; got {workers}.")
    folder = Path(folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    numbers = [REGISTER, *range(workers)]
    missing = [n for n in numbers if rotate or not all(path.exists() for path in _files(folder, n))]
    if missing:
        authority, secret = _authority(folder, rotate)
        for number in missing:
            key = Ed25519PrivateKey.generate()
            certificate, private = _files(folder, number)
            _replace(private, _secret_bytes(key), 0o600)
            _replace(certificate, _signed(number, key.public_key(), authority, secret), 0o644)
    return missing


def _files(folder: Path, number: int) -> tuple[Path, Path]:
    return folder / f"{stem_of(number)}.pem", folder / f"{stem_of(number)}.key"


def _authority(folder: Path, rotate: bool) -> tuple[x509.Certificate, Ed25519PrivateKey]:
    """The authority that signs from now on; a new one where there is none."""
    public, private = folder / AUTHORITY, folder / SECRET
    known = _known(public) if public.exists() else []
    if known and not rotate:
        return known[0], _secret_in(private, known[0])
    secret = Ed25519PrivateKey.generate()
    authority = _self_signed(secret)
    _replace(private, _secret_bytes(secret), 0o600)
    _replace(public, b"".join(c.public_bytes(Encoding.PEM) for c in (authority, *known[:1])), 0o644)
    return authority, secret


def _known(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} holds no certificates in PEM. {_HOW}") from error


def _secret_in(path: Path, authority: x509.Certificate) -> Ed25519PrivateKey:
    if not path.is_file():
        raise ValueError(f"There is no {path.name} in {path.parent}: without it nobody can be certified. {_HOW}")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(f"{path} is not a private key in PEM without a password. {_HOW}") from error
    if not isinstance(key, Ed25519PrivateKey) or key.public_key() != authority.public_key():
        raise ValueError(f"{path} is not the secret of {AUTHORITY}: the two files were made apart. {_HOW}")
    return key


def _self_signed(secret: Ed25519PrivateKey) -> x509.Certificate:
    name, public = _called("gradvote run"), secret.public_key()
    builder = _begun(name, public, name).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(_uses(key_cert_sign=True, crl_sign=True), critical=True).sign(secret, None)


def _signed(number: int, public: Ed25519PublicKey, authority: x509.Certificate, secret: Ed25519PrivateKey) -> bytes:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(name_of(number))])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(secret.public_key())
    builder = (
        _begun(_called(stem_of(number)), public, authority.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_uses(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(names, critical=False)
        .add_extension(issuer, critical=False)
    )
    return builder.sign(secret, None).public_bytes(Encoding.PEM)


def _begun(subject: x509.Name, public: Ed25519PublicKey, issuer: x509.Name) -> x509.CertificateBuilder:
    """Good from yesterday on, since clocks differ, for years: a run may last."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=365 * YEARS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _called(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _uses(digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=key_cert_sign, crl_sign=crl_sign, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _secret_bytes(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _replace(path: Path, data: bytes, mode: int) -> None:
    """Write a file, whole or not at all; who reads it meanwhile finds the old one."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        partial.replace(path)
    except OSError:
        partial.unlink()
        raise
