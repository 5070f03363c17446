"""Data checks what belongs together; from_datasets reads any map-style torch data set."""

import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from gradvote.lab.data import Data, from_datasets


def make(**changes):
    values = {
        "name": "toy",
        "train_x": torch.zeros(4, 1, 2, 3),
        "train_y": torch.tensor([0, 1, 2, 0]),
        "test_x": torch.zeros(2, 1, 2, 3),
        "test_y": torch.tensor([2, 1]),
        "num_classes": 3,
        "class_names": ("a", "b", "c"),
    }
    return Data(**(values | changes))


def test_shape_and_repr_are_readable():
    data = make()
    assert data.input_shape == (1, 2, 3)
    assert repr(data) == "Data(toy: 4 training and 2 test samples of 1x2x3, 3 classes)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ("a", "b")}, "names 2 classes but has 3"),
        ({"train_x": torch.zeros(4, 1, 2, 3, dtype=torch.float64)}, "float32"),
        ({"test_y": torch.tensor([2, 1], dtype=torch.int32)}, "int64"),
        ({"train_y": torch.tensor([0, 1, 2])}, "same N"),
        ({"train_y": torch.tensor([0, 1, 3, 0])}, r"labels from 0 to 3; .* 0\.\.2"),
        ({"test_y": torch.tensor([-1, 0])}, "labels from -1"),
        ({"test_x": torch.zeros(0, 1, 2, 3), "test_y": torch.zeros(0, dtype=torch.int64)}, "empty"),
        ({"test_x": torch.zeros(2, 1, 3, 3)}, "both must be alike"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


class Named(Dataset):
    classes = ("cat", "dog")

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_from_tensor_datasets_keeps_order_and_casts():
    x, y = torch.arange(12, dtype=torch.float64).view(3, 2, 2), torch.tensor([2, 0, 1], dtype=torch.int16)
    data = from_datasets(TensorDataset(x, y), TensorDataset(x[:1], y[:1]))
    assert data.train_x.dtype == torch.float32 and torch.equal(data.train_x, x.float())
    assert data.train_y.tolist() == [2, 0, 1] and data.test_y.tolist() == [2]
    assert data.num_classes == 3 and data.class_names == ("0", "1", "2") and data.name == "custom"


def test_class_names_and_number_come_from_the_data_set_or_the_caller():
    pair = Named([([1.0, 2.0], 0), ([3.0, 4.0], 1)])
    assert from_datasets(pair, pair).class_names == ("cat", "dog")
    wider = from_datasets(pair, pair, num_classes=5, name="mine")
    assert (wider.num_classes, wider.class_names, wider.name) == (5, tuple("01234"), "mine")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([], "is empty"),
        ([([1.0], 0), ([1.0, 2.0], 1)], "different shapes"),
        ([([1.0], 0.5)], "item 0, is not a pair"),
        ([([1.0], 0), (object(), 1)], "item 1, is not a pair .* ToTensor"),
        ([([1.0],)], "is not a pair"),
        ([([1.0], -1)], "labels from -1"),
    ],
)
def test_items_that_do_not_fit_are_refused(items, message):
    good = Named([([1.0], 0)])
    with pytest.raises(ValueError, match=message):
        from_datasets(Named(items), good)


def test_labels_beyond_the_stated_number_of_classes_are_refused():
    with pytest.raises(ValueError, match=r"0\.\.1"):
        from_datasets(Named([([1.0], 2)]), Named([([1.0], 0)]), num_classes=2)
