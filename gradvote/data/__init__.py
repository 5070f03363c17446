"""Data sets, their split over workers, and the order in which a worker visits its samples.

``load("mnist")`` gives a :class:`Data`; a partition such as ``ByClass()(data.train_y, num_workers, seed)``
gives each worker its sample indices; :class:`Batches` says which of them a step uses. Every choice is a pure
function of its seed.
"""

from gradvote.data.batches import Batches
from gradvote.data.dataset import Data, from_datasets
from gradvote.data.folders import DataNotFoundError
from gradvote.data.partitions import (
    ByClass,
    Dirichlet,
    Iid,
    Partition,
    Unequal,
    class_histogram,
    describe_partition,
    partition_named,
    partition_names,
    partition_options,
)
from gradvote.data.sources import describe, load, names

__all__ = [
    "Batches",
    "ByClass",
    "Data",
    "DataNotFoundError",
    "Dirichlet",
    "Iid",
    "Partition",
    "Unequal",
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
