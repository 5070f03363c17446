"""An engine is built on all ranks or on none: what one rank refuses is told to those that would wait for it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gradvote.engines.distributed.failures import Watch
from gradvote.engines.distributed.transport import Transport
from gradvote.staging import CPU


@contextmanager
def together(transport: Transport, watch: Watch) -> Iterator[None]:
    """Either the block inside succeeds on every rank, or none of them goes on. It must not talk to other ranks.

    Raises:
        RuntimeError: the block failed on another rank; the sentence says on which one and why.
        Exception: whatever the block itself raised, once the others know of it.
    """
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
        watch.tell_of_building(error)
    failed = [
        rank
        for rank, row in enumerate(transport.gather(torch.tensor([failure is not None], device=CPU)))
        if bool(row[0])
    ]
    if failure is not None:
        raise failure
    if failed:
        raise RuntimeError(
            f"The exchange was not built, on any rank, as {watch.causes_of_building(failed)}. Mend it there, and build "
            "it on all ranks."
        )
