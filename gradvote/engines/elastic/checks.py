"""What is refused before a worker joins, and how long frames may be."""

from typing import Literal

from gradvote.core import Algorithm
from gradvote.engines.elastic.frames import Kind
from gradvote.engines.elastic.records import Slot
from gradvote.engines.elastic.replica import Replica
from gradvote.engines.elastic.sharding import Sharding
from gradvote.errors import unknown

SPARE_BYTES = 1 << 20
Placement = Literal["replicated", "sharded"]
PLACEMENTS = ("replicated", "sharded")


def limits_of(replica: Replica, sharding: Sharding | None) -> dict[Kind, int]:
    """The longest bodies, by kind, of frames from any peer; states come from those only who were asked for them."""
    limits: dict[Kind, int] = {kind: SPARE_BYTES for kind in Kind if kind not in (Kind.STATE, Kind.ENTRY)}
    limits[Kind.BALLOT] += 2 * replica.ballot_bytes(Slot(), replica.number)
    if sharding is not None:
        shards = range(sharding.num)
        limits[Kind.DECISION] += 2 * max(sharding.decision_bytes(Slot(), s) for s in shards)
        limits[Kind.MEMORY] += max(len(sharding.to_bytes(s)) for s in shards)
    return limits


def check_placement(placement: str) -> None:
    """Raise ValueError for a placement that there is not."""
    if placement not in PLACEMENTS:
        raise unknown("placement", placement, PLACEMENTS)


def check_weights(algorithm: Algorithm, number: int) -> None:
    """Raise ValueError where a worker has no weight."""
    weights = getattr(algorithm.aggregate, "weights", None)
    if weights is not None and number >= len(weights):
        raise ValueError(f"There are {len(weights)} weights, but this is worker {number}; give one for each worker.")
