"""Every data set: read exactly from small files, found where it lies, refused when damaged; and the real ones."""

import gzip
import struct
import sys

import numpy as np
import pytest
import torch

from gradvote.errors import MissingExtra
from gradvote.lab.data import DataNotFoundError, describe, load, names
from gradvote.lab.data.folders import search_folders
from gradvote.lab.data.sources import digits
from gradvote.lab.data.sources.cifar10 import MEAN, ROW, STD
from gradvote.lab.data.sources.digits import held_out
from gradvote.lab.data.sources.mnist import STEMS

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 28, 28), dtype=np.uint8)
LABELS = np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    """No data set is found by accident."""
    monkeypatch.delenv("GRADVOTE_DATA", raising=False)
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")


def idx(array, magic=None):
    magic = magic if magic is not None else 0x0800 + array.ndim
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


def write_mnist(folder, compressed=False, **replaced):
    folder.mkdir(parents=True, exist_ok=True)
    contents = (idx(IMAGES), idx(LABELS), idx(IMAGES[:2]), idx(LABELS[:2]))
    for key, stem, content in zip(("tx", "ty", "vx", "vy"), STEMS, contents, strict=True):
        data = replaced.get(key, content)
        path = folder / f"{stem}.gz" if compressed else folder / stem
        path.write_bytes(gzip.compress(data) if compressed else data)
    return folder


def write_cifar(folder, batches=(1, 2), rows=3):
    folder.mkdir(parents=True, exist_ok=True)
    content = RNG.integers(0, 256, (len(batches) + 1, rows, ROW), dtype=np.uint8)
    content[:, :, 0] %= 10
    for array, name in zip(content, [*(f"data_batch_{n}" for n in batches), "test_batch"], strict=True):
        (folder / f"{name}.bin").write_bytes(array.tobytes())
    return content


def test_catalogue():
    assert names() == ["cifar10", "digits", "mnist"]
    assert all(len(describe(name)) > 20 and "\n" not in describe(name) for name in names())


def test_unknown_name_lists_the_valid_ones():
    with pytest.raises(ValueError, match=r"no data set named 'minst'. Did you mean 'mnist'.*cifar10, digits, mnist"):
        load("minst")
    with pytest.raises(ValueError, match="no data set"):
        describe("../mnist")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("sub", [".", "raw", "MNIST/raw", "mnist"])
def test_mnist_is_read_exactly(tmp_path, compressed, sub):
    write_mnist(tmp_path / "d" / sub, compressed)
    data = load("mnist", tmp_path / "d")
    assert data.input_shape == (1, 28, 28) and data.num_classes == 10
    assert torch.equal(data.train_x[:, 0], torch.from_numpy(IMAGES).float() / 255)
    assert data.train_y.tolist() == LABELS.tolist() and data.test_y.tolist() == LABELS[:2].tolist()


def test_search_order(tmp_path, monkeypatch):
    def only(label):
        return {"ty": idx(np.full(6, label, dtype=np.uint8))}

    write_mnist(tmp_path / "inner" / "data", **only(4))
    assert load("mnist").train_y[0] == 4
    write_mnist(tmp_path / "shared" / "data", **only(3))
    assert load("mnist").train_y[0] == 3
    write_mnist(tmp_path / "env", **only(2))
    monkeypatch.setenv("GRADVOTE_DATA", str(tmp_path / "env"))
    assert load("mnist").train_y[0] == 2
    write_mnist(tmp_path / "arg", **only(1))
    assert load("mnist", str(tmp_path / "arg")).train_y[0] == 1


def test_a_folder_named_by_the_caller_is_the_only_one_searched(tmp_path):
    write_mnist(tmp_path / "inner" / "data")
    with pytest.raises(DataNotFoundError) as caught:
        load("mnist", tmp_path / "elsewhere")
    assert "elsewhere" in str(caught.value) and "inner" not in str(caught.value)


@pytest.mark.parametrize(("name", "file"), [("mnist", "t10k-labels-idx1-ubyte.gz"), ("cifar10", "data_batch_5.bin")])
def test_absent_files_are_explained(tmp_path, monkeypatch, name, file):
    monkeypatch.setenv("GRADVOTE_DATA", str(tmp_path / "env"))
    with pytest.raises(DataNotFoundError) as caught:
        load(name)
    message = str(caught.value)
    for folder in (tmp_path / "env", tmp_path / "shared/data", tmp_path / "inner/data"):
        assert str(folder) in message
    assert file in message and "authors' page" in message and "GRADVOTE_DATA" in message
    assert isinstance(caught.value, ValueError) and isinstance(caught.value, FileNotFoundError)


def test_an_incomplete_folder_says_what_it_lacks(tmp_path):
    write_mnist(tmp_path / "d")
    (tmp_path / "d" / STEMS[3]).unlink()
    with pytest.raises(DataNotFoundError, match=f"is incomplete: it lacks {STEMS[3]} or {STEMS[3]}.gz"):
        load("mnist", tmp_path / "d")


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"tx": idx(LABELS)}, "starts with 0x00000801 instead of 0x00000803"),
        ({"ty": idx(IMAGES)}, "starts with 0x00000803 instead of 0x00000801"),
        ({"tx": b"hello, world"}, "starts with 0x68656c6c"),
        ({"tx": idx(IMAGES)[:9]}, "ends within its header"),
        ({"vy": b""}, "ends within its header"),
        ({"tx": idx(IMAGES)[:-1]}, "damaged or truncated"),
        ({"tx": idx(IMAGES) + b"x"}, "holds more"),
        ({"ty": idx(LABELS)[:-2]}, "only 4"),
        ({"tx": idx(np.zeros((6, 32, 32), np.uint8))}, r"shape \(32, 32\)"),
        ({"tx": idx(np.zeros((0, 28, 28), np.uint8))}, "claims to hold 0 items"),
        ({"tx": struct.pack(">4I", 0x803, 2**32 - 1, 28, 28)}, "claims to hold 4294967295 items"),
        ({"ty": idx(LABELS[:5])}, "6 images but .* 5 labels"),
        ({"ty": idx(LABELS + 7)}, "the label 16"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_or_foreign_mnist_files_are_refused(tmp_path, compressed, replaced, message):
    write_mnist(tmp_path / "d", compressed, **replaced)
    with pytest.raises(ValueError, match=message):
        load("mnist", tmp_path / "d")


@pytest.mark.parametrize("keep", [3, 12, 200])
def test_a_truncated_gzip_file_is_refused(tmp_path, keep):
    write_mnist(tmp_path / "d", compressed=True)
    file = tmp_path / "d" / f"{STEMS[0]}.gz"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match="damaged or truncated gzip file"):
        load("mnist", tmp_path / "d")


def test_a_corrupt_gzip_file_is_refused(tmp_path):
    write_mnist(tmp_path / "d", compressed=True)
    file = tmp_path / "d" / f"{STEMS[0]}.gz"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="fetch it again"):
        load("mnist", tmp_path / "d")


@pytest.mark.parametrize("batches", [(1,), (1, 2), (5, 3)])
def test_cifar_uses_the_batches_present_in_order(tmp_path, batches):
    content = write_cifar(tmp_path / "d" / "cifar-10-batches-bin", batches)
    data = load("cifar10", tmp_path / "d")
    train = content[np.argsort(batches)].reshape(-1, ROW)
    assert data.input_shape == (3, 32, 32) and data.train_y.tolist() == train[:, 0].tolist()
    assert data.class_names[3] == "cat" and len(data.test_y) == 3
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (MEAN, STD))
    pixels = data.train_x * std + mean
    assert torch.allclose(pixels * 255, torch.from_numpy(train[:, 1:].reshape(-1, 3, 32, 32)).float(), atol=1e-3)


@pytest.mark.parametrize("file", ["data_batch_2.bin", "test_batch.bin"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 bytes"),
        (b"x" * (ROW - 1), "not a whole number of CIFAR-10 rows"),
        (b"\x0a" + bytes(ROW - 1), "label of row 0 is 10"),
    ],
)
def test_damaged_or_foreign_cifar_files_are_refused(tmp_path, file, content, message):
    write_cifar(tmp_path / "d")
    (tmp_path / "d" / file).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load("cifar10", tmp_path / "d")
    assert file in str(caught.value)


def test_cifar_without_any_training_batch_is_not_found(tmp_path):
    write_cifar(tmp_path / "d", batches=())
    with pytest.raises(DataNotFoundError, match=r"lacks data_batch_1.bin or .*data_batch_5.bin"):
        load("cifar10", tmp_path / "d")


def test_default_folders_follow_the_current_directory(tmp_path):
    assert search_folders(None) == [tmp_path / "shared" / "data", tmp_path / "inner" / "data"]


def test_digits_are_whole_scaled_and_split_once_for_all():
    pytest.importorskip("sklearn", reason="needs the extra gradvote[data]")
    data = load("digits")
    assert data.input_shape == (1, 8, 8) and len(data.train_y) + len(data.test_y) == 1797
    assert data.train_x.min() == 0 and data.train_x.max() == 1
    per_class = torch.bincount(data.test_y, minlength=10)
    assert per_class.tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert torch.equal(data.train_x, load("digits").train_x)
    assert data.test_y[:12].tolist() == [2, 7, 9, 2, 6, 7, 9, 1, 9, 5, 5, 9]


def test_the_split_is_stratified():
    labels = np.repeat(np.arange(3), [5, 10, 2])
    assert np.bincount(labels[held_out(labels)], minlength=3).tolist() == [1, 2, 0]


def test_digits_without_scikit_learn_name_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match=r"scikit-learn.*gradvote\[data\]"):
        load("digits")


def test_digits_are_the_same_where_the_file_is_elsewhere(monkeypatch):
    """Read from the file that scikit-learn brings, and by scikit-learn itself."""
    quick = load("digits")
    monkeypatch.setattr(digits, "FILE", "moved.csv.gz")
    slow = load("digits")
    assert torch.equal(quick.train_x, slow.train_x) and torch.equal(quick.test_y, slow.test_y)
    assert quick.fingerprint == slow.fingerprint
