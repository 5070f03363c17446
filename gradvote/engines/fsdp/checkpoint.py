"""Memories of a sharded replica for torch.distributed.checkpoint: by parameter and coordinate, sharded as those are."""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from gradvote.core import Part
from gradvote.engines.common import releases
from gradvote.engines.common.placement import block_sizes
from gradvote.engines.common.protocol import Protocol
from gradvote.engines.common.recipe import check_mapping, check_saved
from gradvote.engines.distributed.session import Session
from gradvote.engines.distributed.states import StateRows, leaves
from gradvote.engines.distributed.transport import Transport
from gradvote.engines.fsdp.local import like, local_of
from gradvote.staging import CPU, to_device

VERSION, ACCOUNTED = 1, 2
"""Without and with an account: torch.distributed.checkpoint reads what the state that it fills has, and no more."""
ADVICE = (
    "Load it with torch.distributed.checkpoint into vote.state_dict() of as many replicas; the number of shards may be "
    "another one."
)
Sharded = dict[str, dict[str, DTensor]]
"""By parameter, then by the name of the memory."""


class Checkpoints:
    """What `FSDPVote` saves and loads. A number that a block has once is saved at each of its coordinates."""

    def __init__(self, session: Session, wholes: Mapping[str, DTensor]) -> None:
        self._session, self._wholes = session, wholes
        self._sizes = block_sizes(session.protocol.layout)
        own = session.protocol
        shapes = tuple((name, tuple(p.shape)) for name, p in self._wholes.items())
        self._protocol = Protocol(own.algorithm, own.layout, own.seed, shapes)

    def save(self) -> dict[str, Any]:
        """The states of this replica, and the server's from all replicas."""
        worker, server = self._session.rows()
        up, down = self._protocol.algorithm.up, self._protocol.algorithm.down
        accounts = releases.saved_of(self._session.releases)
        return {
            **self._facts(),
            "recipe": self._protocol.recipe_text,
            "step": self._session.step,
            "worker": {str(self._session.transport.rank): self._sharded(up, worker, together=False)},
            "server": self._sharded(down, server, together=self._session.placement != "replicated"),
            **{name: {str(self._session.transport.rank): own} for name, own in accounts.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take these states over.

        Raises:
            ValueError: they are of another run, or sharded otherwise than the parameters.
        """
        check_mapping(state)
        own, algorithm = str(self._session.transport.rank), self._protocol.algorithm
        accounted = state.get("version") == ACCOUNTED
        account = {releases.KEY: state.get(releases.KEY, {}).get(own, {})} if accounted else {}
        if accounted == (self._session.releases is None):
            releases.load(self._session.releases, account)  # which says what is missing
        check_saved(state, self._protocol, self._facts(), ADVICE)
        if own not in state["worker"]:
            found = ", ".join(state["worker"]) or "none"
            raise ValueError(
                f"The state to load has the memories of replica {found}, but this is replica {own}. {ADVICE}"
            )
        releases.load(self._session.releases, account, check=True)
        worker, mixed = self._rows(algorithm.up, state["worker"][own])
        server, more = self._rows(algorithm.down, state["server"])
        if mixed or more:
            warnings.warn(
                f"{mixed + more} blocks of this shard hold coordinates of several old blocks, which had different "
                "numbers of their own (the rate at which a memory was written, after an abstention). Each goes on with "
                "that of its first coordinate; all else is exact.",
                stacklevel=3,
            )
        self._session.resume(worker, server, int(state["step"]))
        releases.load(self._session.releases, account)

    def _facts(self) -> dict[str, Any]:
        version = VERSION if self._session.releases is None else ACCOUNTED
        return {"version": version, "num_replicas": self._session.transport.num_ranks}

    def _sharded(self, part: Part, rows: StateRows, together: bool) -> Sharded:
        """The states of all blocks of this shard as DTensors; `together`: each rank of the group has some of them."""
        found: Sharded = {}
        for leaf, _ in _leaves_of(part):
            flat = self._flat(rows.get(leaf, {}))
            flat = _added_up(flat, self._session.transport) if together else flat
            for (name, whole), own in zip(self._wholes.items(), flat.split(self._numels()), strict=True):
                found.setdefault(name, {})[leaf] = like(whole, own.clone().view(local_of(whole).shape))
        return found

    def _flat(self, rows: Mapping[int, Tensor]) -> Tensor:
        """All coordinates of this shard, parameter by parameter; zero where another rank has them."""
        home = self._session.transport.home
        flat = torch.zeros(sum(self._sizes), device=home, dtype=torch.float32)
        places = flat.split(self._sizes)
        for block, row in rows.items():
            places[block].copy_(to_device(row, home))
        return flat

    def _numels(self) -> list[int]:
        return [local_of(whole).numel() for whole in self._wholes.values()]

    def _rows(self, part: Part, saved: Mapping[str, Mapping[str, Any]]) -> tuple[StateRows, int]:
        """The rows of this shard's blocks, and how many blocks hold several numbers where they can have one."""
        rows: StateRows = {}
        mixed = set[int]()
        for leaf, one in _leaves_of(part):
            flat = torch.cat([self._own(name, leaf, saved) for name in self._wholes])
            rows[leaf] = {}
            for block, piece in enumerate(flat.split(self._sizes)):
                if one and bool((piece.view(torch.int32) != piece[:1].view(torch.int32)).any()):
                    mixed.add(block)
                rows[leaf][block] = piece[0].clone() if one else piece.clone()
        return rows, len(mixed)

    def _own(self, name: str, leaf: str, saved: Mapping[str, Mapping[str, Any]]) -> Tensor:
        """This rank's part of a saved memory (numel,)."""
        whole, found = self._wholes[name], saved.get(name, {}).get(leaf)
        if not isinstance(found, DTensor) or found.placements != whole.placements or found.shape != whole.shape:
            got = "nothing" if found is None else f"a {type(found).__name__} of shape {tuple(found.shape)}"
            raise ValueError(
                f"The state to load has {got} as {leaf!r} of parameter {name!r}; a DTensor sharded like the parameter "
                f"of shape {tuple(whole.shape)} is needed. {ADVICE}"
            )
        return to_device(local_of(found).detach().reshape(-1).float(), CPU)


def _leaves_of(part: Part) -> Iterator[tuple[str, bool]]:
    """The names of a part's memories, and whether a block has only one number of it."""
    for name, leaf in leaves(part.init(torch.zeros(1, 2, device=CPU, dtype=torch.float32))):
        yield name, leaf.dim() == 1


def _added_up(flat: Tensor, transport: Transport) -> Tensor:
    """What each rank of a group has a part of, with zeros elsewhere: to the bit, and so as integers."""
    whole = to_device(flat, transport.device).view(torch.int32)
    dist.all_reduce(whole, group=transport.group)
    return to_device(whole.view(torch.float32), flat.device)
