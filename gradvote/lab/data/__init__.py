"""Data sets, their split over workers, and the order in which a worker visits its samples.

`load("mnist")` gives a `Data`; a partition such as `ByClass()(data.train_y, num_workers, seed)`
gives each worker its sample indices; `Batches` says which of them a step uses. Every choice is a pure
function of its seed.
"""

from typing import TYPE_CHECKING

from gradvote.discovery import on_first_use
from gradvote.lab.data.folders import DataNotFoundError
from gradvote.lab.data.sources import describe, load, names
from gradvote.partitions import CLASSES, describe_partition, partition_named, partition_names, partition_options

if TYPE_CHECKING:
    from gradvote.lab.data.batches import Batches
    from gradvote.lab.data.dataset import Data, from_datasets
    from gradvote.partitions import ByClass as ByClass
    from gradvote.partitions import Dirichlet as Dirichlet
    from gradvote.partitions import Iid as Iid
    from gradvote.partitions import Partition, class_histogram
    from gradvote.partitions import Unequal as Unequal

if not TYPE_CHECKING:  # a type checker would take any name for right
    __getattr__ = on_first_use(
        globals(),
        {
            "Batches": "gradvote.lab.data.batches",
            "Data": "gradvote.lab.data.dataset",
            "from_datasets": "gradvote.lab.data.dataset",
            **dict.fromkeys(("Partition", "class_histogram", *CLASSES), "gradvote.partitions"),
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
