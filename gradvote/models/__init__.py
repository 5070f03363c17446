"""Small models to train: built by name, or by the user's own factory, with seeded parameters."""

from gradvote.models.factory import build, describe_model, model_names
from gradvote.models.nets import ResNet20, cnn, mlp, resnet20, resnet20_nobn
from gradvote.models.resnet50 import ResNet50
from gradvote.models.transformer import Size, Transformer

__all__ = [
    "ResNet20",
    "ResNet50",
    "Size",
    "Transformer",
    "build",
    "cnn",
    "describe_model",
    "mlp",
    "model_names",
    "resnet20",
    "resnet20_nobn",
]
