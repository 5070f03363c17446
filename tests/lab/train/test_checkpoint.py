"""Checkpoint files: written whole or not at all; nothing but a checkpoint is read."""

import pickle
import zipfile
from pathlib import Path

import pytest
import torch

from gradvote.lab.train import checkpoint
from tests.lab.train.small import reopened, trained

STATE = {key: 0 for key in checkpoint.KEYS if key != "format"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.pt"


def test_round_trip(path):
    state = STATE | {"models": [{"w": torch.arange(3.0)}], "config": "{}", "step": 7}
    checkpoint.save(state, path)
    found = checkpoint.load(path)
    assert torch.equal(found.pop("models")[0]["w"], torch.arange(3.0))
    assert found == {key: value for key, value in state.items() if key != "models"} | {"format": 1}
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_failure_while_writing_leaves_the_old_one(path, monkeypatch):
    checkpoint.save(STATE | {"step": 1}, path)

    def half(state, file):
        file.write(b"PK half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(STATE | {"step": 2}, path)
    assert checkpoint.load(path)["step"] == 1 and [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


def test_a_killed_writers_remains_do_not_matter(path):
    path.with_name("checkpoint.pt.partial").write_bytes(b"PK half of it")
    checkpoint.save(STATE | {"step": 2}, path)
    assert checkpoint.load(path)["step"] == 2 and [p.name for p in path.parent.iterdir()] == ["checkpoint.pt"]


class Bomb:
    """Runs when unpickled without care."""

    def __reduce__(self):
        return Path.touch, (Path("exploded"),)


def as_pickle(path, content):
    path.write_bytes(pickle.dumps(content))


def as_torch(path, content):
    torch.save(content, path)


def as_zip(path, content):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(content))


@pytest.mark.parametrize("write", [as_pickle, as_torch, as_zip])
def test_nothing_is_executed(write, path, monkeypatch):
    monkeypatch.chdir(path.parent)
    write(path, {"format": 1, **STATE, "models": Bomb()})
    with pytest.raises(ValueError, match=r"checkpoint.pt cannot be read as a checkpoint: .* foreign file"):
        checkpoint.load(path)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("content", [b"", b"\n", b"PK\x03\x04", b"\x80\x02}q\x00.", b"hello" * 1000, bytes(10_000)])
def test_foreign_bytes(content, path):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint.pt cannot be read"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "it lacks format, step, config, models, optimizers, engine, round, seconds"),
        ({"weight": torch.zeros(3)}, "it lacks format, step"),
        ({"format": 99, **STATE}, r"of this version of gradvote \(format 1\); it has format 99"),
        ({"format": 1, **STATE, "step": "7"}, "its step is '7'"),
        ({"format": 1, **STATE, "step": -1}, "its step is -1"),
    ],
)
def test_somebody_elses_checkpoint(content, words, path):
    torch.save(content, path)
    with pytest.raises(ValueError, match=words):
        checkpoint.load(path)


def test_none_at_all(path):
    for place in (path, path.parent):
        with pytest.raises(ValueError, match="There is no checkpoint at"):
            checkpoint.load(place)


class TestRuns:
    """Of a whole run: a damaged checkpoint is refused, and no file of the run is touched."""

    def spoilt(self, folder, content):
        (folder / "checkpoint.pt").write_bytes(content)
        before = {p.name: p.read_bytes() for p in folder.iterdir()}
        with pytest.raises(ValueError, match=r"checkpoint.pt cannot be read as a checkpoint: it"):
            reopened(folder)
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == before

    def test_cut_short_anywhere(self, tmp_path):
        trained(tmp_path, 3, algorithm="ef-signsgd")
        whole = (tmp_path / "checkpoint.pt").read_bytes()
        for length in [*range(0, len(whole), len(whole) // 12), len(whole) - 1]:
            self.spoilt(tmp_path, whole[:length])

    def test_altered_tensors_are_noticed(self, tmp_path):
        """Each record of the file carries a checksum."""
        trained(tmp_path, 3, algorithm="ef-signsgd")
        path = tmp_path / "checkpoint.pt"
        whole = path.read_bytes()
        with zipfile.ZipFile(path) as file:
            largest = max(file.infolist(), key=lambda entry: entry.file_size)
        altered = bytearray(whole)
        altered[largest.header_offset + 200 + largest.file_size // 2] ^= 1
        self.spoilt(tmp_path, bytes(altered))
