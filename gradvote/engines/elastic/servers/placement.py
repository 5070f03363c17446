"""Which server a placement names."""

from typing import Literal

from gradvote.engines.common.replica import Replica
from gradvote.engines.elastic.servers.replicated import Replicated
from gradvote.engines.elastic.servers.server import Server
from gradvote.engines.elastic.servers.sharded import Sharded
from gradvote.errors import unknown

Placement = Literal["replicated", "sharded"]
PLACEMENTS = ("replicated", "sharded")


def check_placement(placement: str) -> None:
    """Raise ValueError for a placement that there is not."""
    if placement not in PLACEMENTS:
        raise unknown("placement", placement, PLACEMENTS)


def server_of(placement: Placement, replica: Replica, num_expected: int) -> Server:
    """The server of this placement; `sharded` has a shard for each worker that is expected at the start."""
    return Sharded(replica, num_expected) if placement == "sharded" else Replicated(replica)
