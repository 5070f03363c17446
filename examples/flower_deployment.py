"""Flower as sites run it: a SuperLink with TLS, SuperNodes that show who they are, and the app on top; on one machine.

python examples/flower_deployment.py examples/flower_app --nodes 3 --run-config "num-rounds=3"

Across machines the same commands run on each site; a site makes its own key and hands over the public half only.
"""

import argparse
import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "loopback"
"""What the SuperLink is called in Flower's own config."""
Key = ec.EllipticCurvePrivateKey


def certificates(folder: Path) -> None:
    """A certificate authority, `ca.crt`, and the SuperLink's own `server.crt` and `server.key`, for this machine."""
    ca, server = (ec.generate_private_key(ec.SECP384R1()) for _ in range(2))
    (folder / "ca.crt").write_bytes(_signed("the authority", ca, "the authority", ca))
    (folder / "server.crt").write_bytes(_signed("the SuperLink", server, "the authority", ca))
    _secret(folder / "server.key", server, serialization.PrivateFormat.PKCS8)


def node_key(file: Path) -> None:
    """A SuperNode's key, and beside it the public half that the SuperLink's operator registers."""
    key = ec.generate_private_key(ec.SECP384R1())
    _secret(file, key, serialization.PrivateFormat.OpenSSH)
    kinds = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    file.with_suffix(".pub").write_bytes(key.public_key().public_bytes(*kinds))


def _secret(file: Path, key: Key, form: serialization.PrivateFormat) -> None:
    raw = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    file.touch(mode=0o600, exist_ok=False)
    file.write_bytes(raw)


def _signed(subject: str, key: Key, issuer: str, signer: Key) -> bytes:
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject, issuer)]
    now, authority = datetime.datetime.now(datetime.UTC), subject == issuer
    made = x509.CertificateBuilder(issuer_name=names[1], subject_name=names[0], public_key=key.public_key())
    made = made.serial_number(x509.random_serial_number())
    made = made.not_valid_before(now - datetime.timedelta(hours=1)).not_valid_after(now + datetime.timedelta(days=30))
    made = made.add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    if not authority:
        here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        made = made.add_extension(x509.SubjectAlternativeName(here), critical=False)
    return made.sign(signer, hashes.SHA384()).public_bytes(serialization.Encoding.PEM)


class Deployment:
    """A SuperLink and its SuperNodes. What was started is ended, each by its process's id, at the end of `with`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ports, self.processes = folder, dict[str, int](), dict[str, subprocess.Popen[bytes]]()
        self.port = self._free_port("superlink")
        self.environment = dict(os.environ, FLWR_HOME=str(folder / "home"), FLWR_TELEMETRY_ENABLED="0")
        self.environment |= {"FLWR_DISABLE_UPDATE_CHECK": "1", "PATH": f"{Path(sys.executable).parent}:{os.defpath}"}
        (folder / "home").mkdir(parents=True)
        address = f'address = "127.0.0.1:{self.port}"\nroot-certificates = "{folder / "ca.crt"}"\n'
        (folder / "home" / "config.toml").write_text(
            f'[superlink]\ndefault = "{NAME}"\n\n[superlink.{NAME}]\n{address}'
        )
        certificates(folder)

    def __enter__(self) -> Self:
        own = {"certfile": "server.crt", "keyfile": "server.key", "ca-certfile": "ca.crt"}
        files = [text for option, name in own.items() for text in (f"--ssl-{option}", str(self.folder / name))]
        self._start(
            "superlink", "flower-superlink", *files, "--enable-supernode-auth",
            "--disable-runtime-dependency-installation", "--host", "127.0.0.1", "--port", str(self.port),
        )  # fmt: skip
        self._wait_for("superlink")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed([*self.processes]):
            self.end(name)

    def node(self, number: int, config: str = "", register: bool = True) -> None:
        """Start SuperNode `number`; one that is not registered will be refused."""
        key, port = self.folder / f"node{number}", self._free_port(f"node{number}")
        if not key.exists():
            node_key(key)
            if register:
                self.flwr("supernode", "register", str(key.with_suffix(".pub")), NAME)
        self._start(
            f"node{number}", "flower-supernode", "--root-certificates", str(self.folder / "ca.crt"),
            "--superlink", f"127.0.0.1:{self.port}", "--auth-supernode-private-key", str(key),
            "--node-config", f"partition-id={number} {config}".strip(), "--port", str(port), "--max-retries", "3",
        )  # fmt: skip

    def end(self, name: str, how: int = signal.SIGTERM) -> None:
        """End a process of this deployment with its children: a group of its own, which has its number."""
        process = self.processes.pop(name)
        for number, patience in ((how, 10.0), (signal.SIGKILL, 5.0)):
            try:
                os.killpg(process.pid, number)
                process.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue

    def run(self, app: Path, run_config: str, limit: float) -> str:
        """Run an app to its end; its log."""
        self._wait_for(*self.processes)
        given = ["--run-config", run_config] if run_config else []
        return self.flwr("run", str(app), NAME, "--stream", *given, limit=limit)

    def run_in_background(self, app: Path, run_config: str) -> None:
        """Hand an app over to the SuperLink, and do not wait for its end."""
        self._wait_for(*self.processes)
        self.flwr("run", str(app), NAME, "--run-config", run_config)

    def flwr(self, *arguments: str, limit: float = 120.0) -> str:
        """One `flwr` command, and what it said."""
        command = [self._program("flwr"), *arguments]
        done = subprocess.run(  # our own words
            command, env=self.environment, capture_output=True, text=True, timeout=limit, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments[:2])} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def log(self, name: str) -> str:
        """What a process has said so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def _start(self, name: str, program: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as out:
            self.processes[name] = subprocess.Popen(  # our own words
                [self._program(program), *arguments],
                env=self.environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=self.environment["PATH"])
        if found is None:
            raise FileNotFoundError(f"{name} was not found; pip install 'gradvote[flower]' in this environment.")
        return found

    def _free_port(self, name: str) -> int:
        """A port that nobody listens on now, and that was not given to another process which has yet to listen."""
        while name not in self.ports:
            with socket.socket() as own:
                own.bind(("127.0.0.1", 0))
                found = int(own.getsockname()[1])
            if found not in self.ports.values():
                self.ports[name] = found
        return self.ports[name]

    def _wait_for(self, *names: str, limit: float = 240.0) -> None:
        """Until these processes listen: on a busy machine that takes a minute."""
        end = time.monotonic() + limit
        for name in names:
            while not self._listens(name):
                if time.monotonic() > end or self.processes[name].poll() is not None:
                    raise RuntimeError(f"The {name} did not begin to listen: {self.log(name)[-2000:]}")
                time.sleep(0.2)

    def _listens(self, name: str) -> bool:
        with socket.socket() as own:
            return own.connect_ex(("127.0.0.1", self.ports[name])) == 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Start everything, run the app, and print its log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("app", type=Path, help="folder of the app")
    parser.add_argument("--nodes", type=int, default=3, help="SuperNodes (3)")
    parser.add_argument("--run-config", default="", help='such as "num-rounds=3"')
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds for the run (1800)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, Deployment(Path(folder)) as deployment:
        for number in range(given.nodes):
            deployment.node(number, f"num-partitions={given.nodes}")
        print(deployment.run(given.app, given.run_config, given.limit))


if __name__ == "__main__":
    main()
