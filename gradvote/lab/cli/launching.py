"""`gradvote launch`, `gradvote register`, and `gradvote keys` for runs whose ballots are signed."""

import os
import sys
import threading
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter


def register(app: App) -> None:
    """Add the commands."""
    app.command(launch, name="launch")
    app.command(register_alone, name="register")
    app.command(keys, name="keys")


def launch(
    script: Annotated[Path, Parameter(help="The Python script of every worker.")],
    /,
    *arguments: Annotated[str, Parameter(help="Its arguments; put -- before them.", allow_leading_hyphen=True)],
    workers: Annotated[int, Parameter(help="Workers to start.")],
    min_workers: Annotated[
        int | None, Parameter(help="The fewest ballots of a step; more than half by default.")
    ] = None,
    max_restarts: Annotated[int, Parameter(help="How often each worker is started again.")] = 100,
    host: Annotated[str, Parameter(help="Address of this machine that the workers use.")] = "127.0.0.1",
    keys: Annotated[
        Path | None, Parameter(help="A folder of `gradvote keys`: its certificates are used, and ballots are signed.")
    ] = None,
    insecure: Annotated[
        bool,
        Parameter(
            help="No keys at all: whoever reaches the ports can speak to the workers.", negative=(), show_default=False
        ),
    ] = False,
    journal: Annotated[
        Path | None, Parameter(help="A file for the register's entries: launched again with it, the run goes on.")
    ] = None,
    store: Annotated[
        str | None, Parameter(help="Another register to use: gradvote://HOST:PORT, or etcd://HOST:PORT,HOST:PORT/RUN.")
    ] = None,
) -> int:
    """Start workers that train with gradvote.elastic, and start those again that die.

    Connections are encrypted, and both ends prove who they are (TLS 1.3), by certificates that are made for this run
    and removed after it. Workers on other machines need those of `gradvote keys`, given to --keys here.

    Ctrl-C and SIGTERM are passed on: the workers finish their step and leave, a second one ends them at once. Where
    this process itself is killed, they go on among themselves until one has to be left out or let in; then they wait
    for a launcher with the same --journal.

    For instance: gradvote launch --workers 7 --min-workers 4 train.py
    """
    if not script.is_file():
        raise ValueError(f"There is no script {script}.")
    from gradvote.engines.elastic.launcher import Launcher

    quorum = workers // 2 + 1 if min_workers is None else min_workers
    command = [sys.executable, str(script), *arguments]
    return Launcher(
        command, workers, quorum, max_restarts=max_restarts, host=host, keys=keys, insecure=insecure,
        journal=journal, store=store, outlived=True,
    ).run()  # fmt: skip


def register_alone(
    *,
    host: Annotated[str, Parameter(help="Address of this machine to listen at.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen at; 0 is any.")] = 29500,
    journal: Annotated[
        Path | None, Parameter(help="A file for its entries: started again with it, it goes on where it was.")
    ] = None,
    keys: Annotated[Path | None, Parameter(help="A folder of `gradvote keys` that has the register's own.")] = None,
) -> None:
    """Serve the register of an elastic run by itself, for workers that are started on several machines.

    It hears the workers that have certificates of the same `gradvote keys`, or without --keys those that have the same
    secret in GRADVOTE_SECRET. Workers find it by GRADVOTE_STORE=gradvote://HOST:PORT.

    For instance: gradvote register --host 10.0.0.7 --keys secrets --journal run.register
    """
    from gradvote.engines.common.signals import signals_call
    from gradvote.engines.elastic.stores.opening import checked_secret
    from gradvote.engines.elastic.stores.server import serve

    given = os.environ.get("GRADVOTE_SECRET", "")
    if not given and keys is None:
        raise ValueError(
            "The register hears nobody who has not shown who it is: give --keys, a folder of `gradvote keys`, or set "
            "GRADVOTE_SECRET here and for all workers (`python -c 'import secrets; print(secrets.token_hex(32))'`)."
        )
    server = serve(host, port, journal, checked_secret(given).decode() if given else "", keys)
    print(f"gradvote register: gradvote://{server.address}", flush=True)
    asked = threading.Event()
    with signals_call(asked.set):
        while not asked.wait(0.5):
            pass
    server.close()


def keys(
    folder: Annotated[Path, Parameter(help="Where to write them; made if it does not exist.")],
    /,
    *,
    workers: Annotated[int, Parameter(help="Workers of the run, those included that may join later.")],
    rotate: Annotated[
        bool,
        Parameter(
            help="New certificates for all; the ones before hold until the next rotation.",
            negative=(),
            show_default=False,
        ),
    ] = False,
) -> None:
    """Make certificates and Ed25519 keys for the workers of an elastic run.

    With certificates all connections are encrypted, and both ends prove who they are; with keys ballots are signed, so
    that a worker that sends different ones is left out. For worker 3 these are worker-3.pem and worker-3.key, its
    certificate and its secret, and worker-3.private and worker-3.public, its secret and public key for ballots;
    register.pem and register.key are those of `gradvote launch`. ca.pem is the authority that all trust, ca.key its
    secret: it is needed for new certificates only, so keep it away from the machines of the run.

    Each worker needs a folder with ca.pem, its own .pem, .key and .private files, and the .public files of all: on one
    machine, this folder serves all. Name it to `gradvote launch --keys`, `gradvote train --engine elastic --keys` or
    gradvote.elastic.attach (keys=). Files that exist are not changed: with more workers than before, only the new ones
    get keys. With --rotate all get new certificates, which running workers use from their next connection on, if they
    find them in their folders; the keys for ballots stay.

    For instance: gradvote keys secrets --workers 7
    """
    from gradvote.engines.elastic.net.authentication import stem_of
    from gradvote.engines.elastic.net.certificates import write_certificates  # cryptography is an extra
    from gradvote.engines.elastic.signing.keys import write

    made, certified = write(folder, workers), write_certificates(folder, workers, rotate)
    for number in made:
        print(f"worker {number}: {folder}/worker-{number}.private (secret), {folder}/worker-{number}.public")
    for number in certified:
        print(f"{stem_of(number)}: {folder}/{stem_of(number)}.key (secret), {folder}/{stem_of(number)}.pem")
    print(f"Pairs of keys made: {len(made)}; there before, and unchanged: {workers - len(made)}.")
    print(f"Certificates made: {len(certified)}, by {folder}/ca.pem; {folder}/ca.key is for making more of them only.")
    print("Give each worker a folder with ca.pem, its own .pem, .key and .private files, and all .public files.")
