"""Data sets, their split over workers, and the order in which a worker visits its samples.

``load("mnist")`` gives a :class:`Data`; a partition such as ``ByClass()(data.train_y, num_workers, seed)``
gives each worker its sample indices; :class:`Batches` says which of them a step uses. Every choice is a pure
function of its seed.
"""

from typing import TYPE_CHECKING

from gradvote.data.folders import DataNotFoundError
from gradvote.data.partitions import CLASSES, describe_partition, partition_named, partition_names, partition_options
from gradvote.data.sources import describe, load, names
from gradvote.discovery import on_first_use

if TYPE_CHECKING:
    from gradvote.data.batches import Batches
    from gradvote.data.dataset import Data, from_datasets
    from gradvote.data.partitions import ByClass as ByClass
    from gradvote.data.partitions import Dirichlet as Dirichlet
    from gradvote.data.partitions import Iid as Iid
    from gradvote.data.partitions import Partition, class_histogram
    from gradvote.data.partitions import Unequal as Unequal

if not TYPE_CHECKING:  # a type checker would take any name for right
    __getattr__ = on_first_use(
        globals(),
        {
            "Batches": "gradvote.data.batches",
            "Data": "gradvote.data.dataset",
            "from_datasets": "gradvote.data.dataset",
            **dict.fromkeys(("Partition", "class_histogram", *CLASSES), "gradvote.data.partitions"),
        },
    )

__all__ = [
    "Batches",
    "Data",
    "DataNotFoundError",
    "Partition",
    "class_histogram",
    "describe",
    "describe_partition",
    "from_datasets",
    "load",
    "names",
    "partition_named",
    "partition_names",
    "partition_options",
]
__all__ += list(CLASSES)
