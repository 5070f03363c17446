"""Records as TensorBoard event files (extra `tensorboard`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gradvote.errors import MissingExtra
from gradvote.lab.train.observe import Record
from gradvote.lab.train.run import Progress

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise MissingExtra("tensorboard", "tensorboard") from error


@contextmanager
def events(folder: Path, from_step: int = 0) -> Iterator[Progress]:
    """A progress callback that writes every number of a record as a scalar into `folder`.

    TensorBoard forgets what an earlier part of the run wrote for `from_step` and later.
    """
    writer = SummaryWriter(str(folder), purge_step=from_step)

    def write(step: int, record: Record | None) -> None:
        for name, value in (record or {}).items():
            if name != "step" and value is not None:
                writer.add_scalar(name, value, step)

    try:
        yield write
    finally:
        writer.close()
