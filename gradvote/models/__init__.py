"""Small models to train: built by name, or by the user's own factory, with seeded parameters."""

from typing import TYPE_CHECKING

from gradvote.discovery import on_first_use
from gradvote.models.names import describe_model, is_foreign, model_names

if TYPE_CHECKING:
    from gradvote.models.factory import build
    from gradvote.models.nets import ResNet20, cnn, mlp, resnet20, resnet20_nobn
    from gradvote.models.resnet50 import ResNet50
    from gradvote.models.transformer import Size, Transformer

if not TYPE_CHECKING:  # a type checker would take any name for right
    __getattr__ = on_first_use(
        globals(),
        {
            "build": "gradvote.models.factory",
            **dict.fromkeys(("ResNet20", "cnn", "mlp", "resnet20", "resnet20_nobn"), "gradvote.models.nets"),
            "ResNet50": "gradvote.models.resnet50",
            "Size": "gradvote.models.transformer",
            "Transformer": "gradvote.models.transformer",
        },
    )

__all__ = [
    "ResNet20",
    "ResNet50",
    "Size",
    "Transformer",
    "build",
    "cnn",
    "describe_model",
    "is_foreign",
    "mlp",
    "model_names",
    "resnet20",
    "resnet20_nobn",
]
