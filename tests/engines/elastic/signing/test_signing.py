"""Keys as files, and what a signature covers."""

import errno
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.distributed import HashStore  # type: ignore[attr-defined]  # documented, but not in its `__all__`

from gradvote import algorithms
from gradvote.elastic import attach
from gradvote.engines.common.digests import DIGEST_BYTES, digest_of
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member, Proof
from gradvote.engines.elastic.consensus.register import Register, RegisterLost
from gradvote.engines.elastic.environment import KEYS, naming_of
from gradvote.engines.elastic.signing.keys import Keys, write
from gradvote.engines.elastic.signing.names import RUN_BYTES, Naming, PlainNames, SignedNames, convicts
from gradvote.engines.elastic.stores.opening import storage_on
from gradvote.engines.elastic.voting import VotingRound
from gradvote.errors import MissingExtra

ME = Member(5, 1)
RUN = bytes(range(RUN_BYTES))
AT = (3, Slot(7, 2), ME)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "keys"
    assert write(folder, 3) == [0, 1, 2]
    return folder


@pytest.fixture(scope="module")
def naming(folder: Path) -> SignedNames:
    return SignedNames(Keys.load(folder, 1), RUN)


def name_of(naming: Naming, ballot: bytes = b"ballot") -> bytes:
    return naming.name(naming.sign(*AT, ballot))


def test_keys_are_files_of_which_each_worker_owns_one(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        f"worker-{k}.{kind}" for k in range(3) for kind in ("private", "public")
    ]
    for k in range(3):
        assert stat.S_IMODE((folder / f"worker-{k}.private").stat().st_mode) == 0o600
        keys = Keys.load(folder, k)
        assert set(keys.public) == {0, 1, 2} and "private" not in repr(keys)
        signature = keys.sign(b"text")
        assert [other for other in range(4) if keys.verifies(other, b"text", signature)] == [k]
        assert not keys.verifies(k, b"texT", signature)


def test_keys_that_exist_are_never_changed(folder: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert write(folder, 3) == [] and {path: path.read_bytes() for path in folder.iterdir()} == before
    (tmp_path / "worker-0.public").write_bytes(b"handed out before")
    assert write(tmp_path, 2) == [1]
    assert not (tmp_path / "worker-0.private").exists()
    with pytest.raises(ValueError, match="at least 1 worker; got 0"):
        write(folder, 0)


def test_half_a_pair_is_completed_and_half_a_file_is_not_left(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied(folder, tmp_path) / "worker-1.public").unlink()
    assert write(tmp_path, 3) == [1] and set(Keys.load(tmp_path, 1).public) == {0, 1, 2}
    assert (tmp_path / "worker-1.public").read_bytes() == (folder / "worker-1.public").read_bytes()
    monkeypatch.setattr(os, "fdopen", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 4)
    assert not (tmp_path / "worker-3.private").exists()


def test_a_private_key_that_others_can_read_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, 2)
    Keys.load(tmp_path, 0)
    assert not caplog.records
    (tmp_path / "worker-1.private").chmod(0o640)
    Keys.load(tmp_path, 1)
    assert "worker-1.private can be read by other users" in caplog.text and "chmod 600" in caplog.text


def full_disk(descriptor: int, mode: str) -> NoReturn:
    os.close(descriptor)
    raise OSError(errno.ENOSPC, "No space left on device")


def copied(folder: Path, to: Path) -> Path:
    for path in folder.iterdir():
        (to / path.name).write_bytes(path.read_bytes())
    return to


def of_another_kind(folder: Path) -> None:
    key = generate_private_key(SECP256R1())
    (folder / "worker-1.private").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def public_of_another_kind(folder: Path) -> None:
    key = generate_private_key(SECP256R1()).public_key()
    (folder / "worker-2.public").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def swapped(folder: Path) -> None:
    (folder / "worker-0.private").rename(folder / "worker-1.private")


def twins(folder: Path) -> None:
    (folder / "worker-2.public").write_bytes((folder / "worker-0.public").read_bytes())


MISTAKES: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: (f / "worker-1.private").unlink(), r"no private key worker-1\.private of worker 1 in .*gradvote keys"),
    (lambda f: (f / "worker-1.public").unlink(), r"no public key worker-1\.public"),
    (lambda f: (f / "worker-1.private").write_bytes(b"no key"), r"is not a private key in PEM"),
    (lambda f: (f / "worker-2.public").write_bytes(b"no key"), r"worker-2\.public is not a public key in PEM"),
    (of_another_kind, r"worker-1\.private is a key of another kind"),
    (public_of_another_kind, r"worker-2\.public is a key of another kind"),
    (swapped, r"worker-1\.public in .* is not the public key of worker-1\.private"),
    (twins, r"worker-0\.public and worker-2\.public in .* are the same key"),
]


@pytest.mark.parametrize(("spoil", "text"), MISTAKES, ids=[text[-14:] for _, text in MISTAKES])
def test_mistakes_with_files_are_named(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], object], text: str
) -> None:
    spoil(copied(folder, tmp_path))
    with pytest.raises(ValueError, match=text):
        Keys.load(tmp_path, 1)


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no private key worker-0\.private of worker 0 in .*nowhere"):
        Keys.load(tmp_path / "nowhere", 0)


@given(ballot=st.binary(max_size=200))
def test_a_name_proves_its_author_and_nothing_else(naming: SignedNames, ballot: bytes) -> None:
    body = naming.sign(*AT, ballot)
    name = naming.name(body, digest_of(body))
    assert len(body) == len(ballot) + naming.extra_bytes and naming.ballot(body) == ballot
    assert name[:DIGEST_BYTES] == digest_of(ballot) and naming.name(bytearray(body)) == name
    assert naming.proves(*AT, name) and naming.sign(*AT, ballot) == body


OTHERS = [(2, Slot(7, 2), ME), (3, Slot(8, 2), ME), (3, Slot(7, 1), ME), (3, Slot(7, 2), Member(6, 1)),
          (3, Slot(7, 2), Member(5, 0)), (3, Slot(7, 2), Member(5, 9)), (7, Slot(3, 2), ME)]  # fmt: skip


@pytest.mark.parametrize("at", OTHERS, ids=str)
def test_a_name_is_of_no_use_anywhere_else(naming: SignedNames, at: tuple[int, Slot, Member]) -> None:
    """Of another group, step, attempt or process (a replay), or as another worker's."""
    assert naming.proves(*AT, name_of(naming)) and not naming.proves(*at, name_of(naming))


def test_another_run_with_the_same_keys_frames_nobody(folder: Path, naming: SignedNames) -> None:
    earlier = SignedNames(Keys.load(folder, 1), bytes(RUN_BYTES))
    proof = Proof(*AT, (name_of(earlier), name_of(naming, b"other")))
    assert not naming.proves(*AT, name_of(earlier)) and not convicts(naming, proof)


@given(bit=st.integers(0, 8 * (DIGEST_BYTES + 64) - 1))
def test_every_bit_of_a_name_matters(naming: SignedNames, bit: int) -> None:
    name = bytearray(name_of(naming))
    name[bit // 8] ^= 1 << bit % 8
    assert not naming.proves(*AT, bytes(name))


@pytest.mark.parametrize("name", [b"", b"x", bytes(95), bytes(96), bytes(97)], ids=len)
def test_what_is_no_name_proves_nothing(naming: SignedNames, name: bytes) -> None:
    assert not naming.proves(*AT, name)


def test_two_names_convict_and_one_does_not(naming: SignedNames) -> None:
    a, b = name_of(naming, b"a"), name_of(naming, b"b")
    proof = Proof(*AT, (a, b))
    assert convicts(naming, proof) and str(proof) == "worker 1 signed two different ballots for step 7"
    for wrong in ((a, a), (a, b[:-1] + bytes([b[-1] ^ 1])), (b"", b)):
        assert not convicts(naming, replace(proof, names=wrong))
    assert not convicts(naming, replace(proof, author=Member(5, 2)))
    assert not convicts(PlainNames(), proof)


def test_without_keys_a_ballot_is_called_by_its_digest() -> None:
    plain = PlainNames()
    assert plain.sign(*AT, b"a") == plain.ballot(b"a") == b"a"
    assert plain.name(b"a") == digest_of(b"a") and plain.name(b"a", b"known") == b"known"
    assert plain.proves(*AT, b"anything") and plain.knows(99) and not plain.signed


def test_keys_come_by_hand_or_by_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register = Register(storage_on(HashStore()))
    monkeypatch.delenv(KEYS, raising=False)
    assert isinstance(naming_of(None, 1, register), PlainNames)
    given_ = naming_of(Keys.load(folder, 1), 1, register)
    monkeypatch.setenv(KEYS, str(folder))
    found = naming_of(None, 1, register)
    assert found.proves(*AT, name_of(given_)), "they are of one run"
    assert found.knows(2) and not found.knows(3)
    with pytest.raises(ValueError, match="keys of worker 1; this is worker 2"):
        naming_of(Keys.load(folder, 1), 2, register)
    with pytest.raises(ValueError, match=r"no private key worker-7\.private"):
        naming_of(None, 7, register)
    with pytest.raises(ValueError, match=r"no private key worker-1\.private"):
        naming_of("", 1, register)  # a variable that is not set must not leave ballots unsigned


def test_the_register_keeps_proofs_and_one_id_of_the_run(naming: SignedNames) -> None:
    store = HashStore()
    proofs = [Proof(*AT, (name_of(naming, b"a"), name_of(naming, other))) for other in (b"b", b"c")]
    for proof in proofs:
        Register(storage_on(store)).accuse(proof)
    assert Register(storage_on(store)).accusations() == proofs and Register(storage_on(HashStore())).accusations() == []
    ids = {
        Register(storage_on(store)).run_id(),
        Register(storage_on(store)).run_id(),
        Register(storage_on(HashStore())).run_id(),
    }
    assert len(ids) == 2 and {len(i) for i in ids} == {RUN_BYTES}


def test_without_the_library_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gradvote.engines.elastic.signing.keys")
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    with pytest.raises(MissingExtra, match=r"gradvote\[signed\]"):
        naming_of(folder, 1, Register(storage_on(HashStore())))


def test_a_ballot_that_was_sent_stands() -> None:
    """Who tries a step again after an error must not sign another ballot for it."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    vote = attach(model, optimizer, algorithms.create("signum"), min_workers=1, worker=0, store=HashStore())
    model.weight.grad = torch.ones(2, 3)
    first = vote._ballot()
    vote._round = VotingRound(vote._participant, first)
    model.weight.grad = -torch.ones(2, 3)
    assert vote._ballot() is first
    vote._node.membership.resume(Slot(0, 1))
    assert vote._ballot().body != first.body


def test_a_step_tried_again_goes_on_with_its_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has promised the full set must not forget it because the register was away."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    vote, rounds = attach(model, optimizer, algorithms.create("signum"), min_workers=1, worker=0, store=HashStore()), []
    vote._node.membership.enter(0, Slot(), [vote._node.me], {})

    def run(self: VotingRound) -> None:
        rounds.append(self)
        raise RegisterLost("The store is away.")

    monkeypatch.setattr(VotingRound, "run", run)
    for slot in (Slot(0), Slot(0), Slot(0, 1)):
        vote._node.membership.resume(slot)
        with pytest.raises(RegisterLost):
            vote.step()
    assert rounds[0] is rounds[1] and rounds[1] is not rounds[2]
