"""Records as TensorBoard event files (extra `tensorboard`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gradvote.errors import MissingExtra
from gradvote.train.run import Progress, Record

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise MissingExtra("tensorboard", "tensorboard") from error


@contextmanager
def events(folder: Path) -> Iterator[Progress]:
    """A progress callback that writes every number of a record as a scalar into `folder`/events."""
    writer: SummaryWriter | None = None

    def write(step: int, record: Record | None) -> None:
        nonlocal writer
        if record is None:
            return
        writer = writer or SummaryWriter(str(folder / "events"))
        for name, value in record.items():
            if name != "step" and value is not None:
                writer.add_scalar(name, value, step)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
