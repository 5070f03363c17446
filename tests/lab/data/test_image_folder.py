"""Folders of classes, generated here."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gradvote.lab.data import DataNotFoundError
from gradvote.lab.data.image_folder import MEAN, STD, ImageFolder, locate

COLOURS = {"a red": (255, 0, 0), "blue": (0, 0, 255)}


def write(root: Path, counts: tuple[int, int] = (3, 2), size: tuple[int, int] = (40, 30)) -> Path:
    for (name, colour), count in zip(COLOURS.items(), counts, strict=True):
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size, colour).save(root / name / f"{i}.png")
    (root / "blue" / "notes.txt").write_text("no image")
    (root / "empty").mkdir()
    return root


def normal(colour: tuple[int, ...]) -> torch.Tensor:
    return (torch.tensor(colour) / 255 - torch.tensor(MEAN)) / torch.tensor(STD)


def test_classes_are_folders_with_images(tmp_path: Path) -> None:
    images = ImageFolder(write(tmp_path), size=8)
    assert images.classes == ("a red", "blue") and len(images) == 5
    assert images.labels.tolist() == [0, 0, 0, 1, 1]
    x = images.read(4)
    assert x.shape == (3, 8, 8) and x.dtype == torch.float32
    assert torch.allclose(x[:, 2, 3], normal(COLOURS["blue"]), atol=1e-5)


def test_the_middle_is_the_middle(tmp_path: Path) -> None:
    pixels = np.zeros((80, 160, 3), np.uint8)
    pixels[:, 60:100] = 255
    (tmp_path / "one").mkdir()
    Image.fromarray(pixels).save(tmp_path / "one" / "x.png")
    x = ImageFolder(tmp_path, size=70).read(0)
    assert torch.equal(x, x.flip(-1))
    assert abs(int((x[0, 0] > 0).sum()) - 40) <= 2  # the middle 70 of 80 rows, at their own size


def test_random_parts_depend_on_the_seed_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "one").mkdir()
    Image.fromarray(rng.integers(0, 255, (50, 70, 3), np.uint8)).save(tmp_path / "one" / "x.jpg")
    images = ImageFolder(tmp_path, size=16)
    assert torch.equal(images.read(0, 5), images.read(0, 5))
    different = {tuple(images.read(0, seed).flatten().tolist()) for seed in range(20)}
    assert len(different) == 20


def test_a_batch_is_its_images(tmp_path: Path) -> None:
    images = ImageFolder(write(tmp_path), size=8)
    with ThreadPoolExecutor(2) as pool:
        x, y = images.batch([4, 0], 3, pool)
        assert y.tolist() == [1, 0]
        assert torch.equal(x[1], images.read(0, 7))
        assert torch.equal(images.batch([1], None, pool)[0][0], images.read(1))


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folders with images"):
        ImageFolder(tmp_path)
    with pytest.raises(ValueError, match="no folders with images"):
        ImageFolder(tmp_path / "nowhere")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "x.jpg").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"x\.jpg cannot be read as an image"):
        ImageFolder(tmp_path).read(0)


def test_it_is_found_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match="'train' and 'val'"):
        locate("photos", tmp_path)
    for part in ("train", "val"):
        write(tmp_path / "photos" / part)
    assert locate("photos", tmp_path) == tmp_path / "photos"
