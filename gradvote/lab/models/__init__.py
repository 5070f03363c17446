"""Small models to train: built by name, or by the user's own factory, with seeded parameters."""

from typing import TYPE_CHECKING

from gradvote.discovery import on_first_use
from gradvote.lab.models.names import describe_model, is_foreign, model_names

if TYPE_CHECKING:
    from gradvote.lab.models.factory import build
    from gradvote.lab.models.nets import ResNet20, cnn, mlp, resnet20, resnet20_nobn
    from gradvote.lab.models.resnet50 import ResNet50
    from gradvote.lab.models.transformer import Size, Transformer

if not TYPE_CHECKING:  # a type checker would take any name for right
    __getattr__ = on_first_use(
        globals(),
        {
            "build": "gradvote.lab.models.factory",
            **dict.fromkeys(("ResNet20", "cnn", "mlp", "resnet20", "resnet20_nobn"), "gradvote.lab.models.nets"),
            "ResNet50": "gradvote.lab.models.resnet50",
            "Size": "gradvote.lab.models.transformer",
            "Transformer": "gradvote.lab.models.transformer",
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
