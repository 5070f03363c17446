"""`gradvote keys`, and what `gradvote launch` does with them."""

from pathlib import Path

from gradvote.engines.elastic.environment import KEYS
from gradvote.engines.elastic.launcher import Launcher
from tests.lab.cli.conftest import Run


def test_keys_are_made_once_and_named(gradvote: Run) -> None:
    made = gradvote("keys", "secrets", "--workers", "2")
    assert made.status == 0 and "register: secrets/register.key (secret)" in made.text
    assert "worker 1: secrets/worker-1.private (secret), secrets/worker-1.public" in made.text
    before = Path("secrets/worker-0.private").read_bytes()
    more = gradvote("keys", "secrets", "--workers", "3")
    assert "worker 2: " in more.text and "worker 0: " not in more.text and "unchanged: 2" in more.text
    assert Path("secrets/worker-0.private").read_bytes() == before
    refused = gradvote("keys", "secrets", "--workers", "0")
    assert refused.status == 2 and "at least 1 worker" in refused.text


def test_a_launch_with_keys_needs_those_of_all_workers(gradvote: Run) -> None:
    gradvote("keys", "secrets", "--workers", "2")
    assert Launcher(["x"], 2, 1, keys=Path("secrets")).environment[KEYS] == str(Path("secrets").resolve())
    Path("train.py").touch()
    refused = gradvote("launch", "--workers", "3", "--keys", "secrets", "train.py")
    assert refused.status == 2 and "There is no private key worker-2.private of worker 2" in refused.text
