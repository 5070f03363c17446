"""Privacy of a sharded replica: it is one worker, whose shards release one update together, under one account."""

import math
from dataclasses import replace

from torch.amp.grad_scaler import GradScaler

from gradvote.core import Algorithm
from gradvote.engines.common.releases import Releases, check_client, check_privacy
from gradvote.engines.fsdp.replica import ShardRanks
from gradvote.privacy import Gaussian


class ShardedReleases(Releases):
    """The releases of this shard, of an update with `dimension` coordinates in all shards.

    Each shard is bounded by the norm of the whole and hidden by noise of its own: together that is the mechanism on the
    whole. All shards count; the first one alone keeps the ledger, and tells the others what it has counted.
    """

    def __init__(self, privacy: Gaussian, dimension: int, shards: ShardRanks) -> None:
        super().__init__(privacy if shards.shard == 0 else without_ledger(privacy), dimension)
        self._shards = shards

    def meet(self) -> None:
        """Count as many releases as any shard of this replica has counted; all shards must ask."""
        self._know(int(self._shards.gather([self.account.releases]).max()))

    def _whole(self, step: int, squares: float) -> float:
        """Each shard has charged its account before it says this, so none releases before all of them could."""
        rows = self._shards.numbers([squares, self.account.releases], step)
        self._know(int(rows[:, 1].max()))
        return math.fsum(rows[:, 0].tolist())

    def _know(self, releases: int) -> None:
        self.account.releases = max(self.account.releases, releases)


def sharded_releases_of(
    privacy: Gaussian | None,
    dimension: int,
    shards: ShardRanks,
    algorithm: Algorithm,
    secret: bytes | None = None,
    scaler: GradScaler | None = None,
    max_norm: float | None = None,
) -> ShardedReleases | None:
    """As `releases_of`, for this shard of a replica.

    Raises:
        TypeError, ValueError: see `check_privacy` and `check_client`.
    """
    check_privacy(privacy, algorithm, secret is not None, scaler, max_norm)
    check_client(privacy, "FSDP")
    return None if privacy is None else ShardedReleases(privacy, dimension, shards)


def without_ledger(privacy: Gaussian) -> Gaussian:
    """What all shards of a replica must be given alike: the ledger is a file where the first of them runs."""
    return replace(privacy, ledger=None) if isinstance(privacy, Gaussian) else privacy
