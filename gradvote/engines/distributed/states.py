"""States block by block: the form that survives other chunks, other buckets and other world sizes.

Every tensor of a state begins with the axis of its blocks: (B, n) or (B,). A `StateRows` maps the dotted name of such a
tensor to its rows by block number. In checkpoints a parameter's rows stand behind each other in one flat tensor, or in
a list of views that no memory was copied for, beside the numbers of the blocks they belong to.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

import torch
from torch import Tensor

from gradvote.core import Part, State
from gradvote.layout import Layout
from gradvote.staging import CPU, to_device, to_host

StateRows = dict[str, dict[int, Tensor]]
Pieces = list[Tensor]
"""Rows of one length behind each other, which lie together in memory: views of a state."""
Saved = dict[str, dict[str, Tensor | Pieces]]
JOINED = "joined"
"""The name under which a checkpoint says that its worker has nothing yet: `resize` made it for a rank that joins."""


def rows_of(layout: Layout, states: Sequence[State], into: StateRows) -> None:
    """Add the rows (views) of the states of a layout's groups to `into`."""
    for group, state in zip(layout.groups, states, strict=True):
        for name, leaf in leaves(state):
            into.setdefault(name, {}).update(zip(group.blocks, leaf, strict=True))


def forget(layout: Layout, rows: StateRows) -> None:
    """Take the blocks of a layout out of `rows`."""
    for own in rows.values():
        for group in layout.groups:
            for block in group.blocks:
                own.pop(block, None)


def states_of(layout: Layout, fresh: Sequence[State], rows: StateRows) -> list[State]:
    """The states of a layout's groups, from `rows` where these have the blocks and from `fresh` states elsewhere."""
    return [_filled(state, group.blocks, rows) for group, state in zip(layout.groups, fresh, strict=True)]


def saved_of(rows: StateRows, owners: Sequence[int], names: Sequence[str], views: bool = False) -> Saved:
    """The rows by parameter: {parameter: {"blocks": their numbers, name: flat tensor}}; `owners` by block.

    `views`: pieces of the states themselves in place of flat tensors.
    """
    by_param: dict[str, StateRows] = {}
    for name, by_block in rows.items():
        for block, row in by_block.items():
            by_param.setdefault(names[owners[block]], {}).setdefault(name, {})[block] = row
    return {param: (pieces_of if views else flat_rows)(own) for param, own in by_param.items()}


def pieces_of(rows: StateRows) -> dict[str, Tensor | Pieces]:
    """One parameter's rows as views, as few as can be, and their blocks; copied only from a card."""
    blocks = sorted(next(iter(rows.values())))
    numbers = torch.tensor(blocks, dtype=torch.int64, device=CPU)
    return {"blocks": numbers, **{name: to_host(_together([own[b] for b in blocks])) for name, own in rows.items()}}


def _together(rows: list[Tensor]) -> Pieces:
    """Rows as views, one for those that follow each other in one memory."""
    found: list[list[Tensor]] = []
    for row in rows:
        last = found[-1][-1] if found else None
        follows = last is not None and last.untyped_storage().data_ptr() == row.untyped_storage().data_ptr()
        if follows and last is not None and row.storage_offset() == last.storage_offset() + last.numel():
            found[-1].append(row)
        else:
            found.append([row])
    return [run[0].as_strided((sum(row.numel() for row in run),), (1,), run[0].storage_offset()) for run in found]


def flat_rows(rows: StateRows) -> dict[str, Tensor | Pieces]:
    """One parameter's rows behind each other, and their blocks: on the CPU, as other ranks may read them."""
    blocks = sorted(next(iter(rows.values())))
    tensors = to_host([torch.cat([own[b].reshape(-1) for b in blocks]) for own in rows.values()])
    return {"blocks": torch.tensor(blocks, dtype=torch.int64, device=CPU), **dict(zip(rows, tensors, strict=True))}


def rows_from(saved: Saved, sizes: Sequence[int]) -> StateRows:
    """The inverse of `saved_of`, for blocks of these sizes.

    Raises:
        ValueError: a tensor does not have the length its blocks ask for.
    """
    rows: StateRows = {}
    for param, tensors in saved.items():
        blocks = _numbers(tensors)
        widths = [sizes[b] if b < len(sizes) else -1 for b in blocks]
        for name, flat in tensors.items():
            if name != "blocks":
                rows.setdefault(name, {}).update(zip(blocks, _split(f"{param}: {name}", flat, widths), strict=True))
    return rows


def states_by_size(
    part: Part, saved: Saved, sizes: Sequence[int], blocks: Iterable[int]
) -> list[tuple[list[int], State]]:
    """Saved states as `part` knows them: some `blocks` of one size with their state (B, ...), size by size.

    Blocks that were not saved have the state before the first step.

    Raises:
        ValueError: these are the states of another part.
    """
    rows, grouped = rows_from(saved, sizes), dict[int, list[int]]()
    for block in sorted(blocks):
        grouped.setdefault(sizes[block], []).append(block)
    found = []
    for size, own in grouped.items():
        fresh = part.init(torch.zeros(len(own), size, device=CPU, dtype=torch.float32))
        _check_names(part, {name for name, _ in leaves(fresh)}, rows.keys())
        found.append((own, _filled(fresh, own, rows)))
    return found


def saved_by_size(states: Iterable[tuple[Sequence[int], State]], owners: Mapping[int, str]) -> Saved:
    """The inverse of `states_by_size`; `owners` has the parameter of each block."""
    by_param: dict[str, StateRows] = {}
    for blocks, state in states:
        for name, leaf in leaves(state):
            for block, row in zip(blocks, leaf, strict=True):
                by_param.setdefault(owners[block], {}).setdefault(name, {})[block] = row
    return {param: flat_rows(rows) for param, rows in by_param.items()}


def owners_of(saved: Saved) -> dict[int, str]:
    """The parameter of each saved block."""
    return {block: param for param, tensors in saved.items() for block in _numbers(tensors)}


def leaves(state: State, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors of a state with their dotted names."""
    for key, value in state.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def has_state(part: Part) -> bool:
    """Whether a part remembers anything."""
    return next(leaves(part.init(torch.zeros(1, 1, device=CPU, dtype=torch.float32))), None) is not None


def _check_names(part: Part, own: Set[str], saved: Set[str]) -> None:
    if saved and own != saved:
        raise ValueError(
            f"The checkpoint holds the states {', '.join(sorted(saved))}, but {part!r} has "
            f"{', '.join(sorted(own)) or 'none'}. Use the algorithm it was saved with."
        )


def _filled(state: State, blocks: Sequence[int], rows: StateRows, prefix: str = "") -> State:
    new: State = {}
    for key, value in state.items():
        if isinstance(value, dict):
            new[key] = _filled(value, blocks, rows, f"{prefix}{key}.")
        else:
            known = rows.get(prefix + key, {})
            new[key] = value if known.keys().isdisjoint(blocks) else _stacked(known, blocks, value)
    return new


def _stacked(known: dict[int, Tensor], blocks: Sequence[int], fresh: Tensor) -> Tensor:
    pairs = zip(blocks, fresh, strict=True)
    rows = [to_device(known.get(b, own), fresh.device).reshape(own.shape).to(own.dtype) for b, own in pairs]
    return torch.stack(rows)


def _split(what: str, flat: Tensor | Pieces, widths: list[int]) -> Sequence[Tensor]:
    if isinstance(flat, list):
        return _rows_in(what, flat, widths)
    if min(widths) > 0 and flat.numel() == sum(widths):
        return torch.split(flat, widths)
    if flat.numel() == len(widths):
        return torch.split(flat, 1)
    raise _misfit(what, flat.numel(), len(widths))


def _rows_in(what: str, pieces: Pieces, widths: list[int]) -> Sequence[Tensor]:
    """The rows of pieces, each of which holds whole ones."""
    total = sum(piece.numel() for piece in pieces)
    widths = [1] * len(widths) if total == len(widths) else widths
    rows: list[Tensor] = []
    for piece in pieces:
        own, left = list[int](), piece.numel()
        while left > 0 and len(rows) + len(own) < len(widths):
            own.append(widths[len(rows) + len(own)])
            left -= own[-1]
        if left or min(own, default=0) < 1:
            raise _misfit(what, total, len(widths))
        rows += torch.split(piece, own)
    if len(rows) != len(widths):
        raise _misfit(what, total, len(widths))
    return rows


def _numbers(tensors: Mapping[str, Tensor | Pieces]) -> list[int]:
    """The blocks of a saved parameter."""
    found = tensors["blocks"]
    return [int(block) for block in found]


def _misfit(what: str, numbers: int, blocks: int) -> ValueError:
    return ValueError(
        f"{what} of the checkpoint has {numbers} numbers for {blocks} blocks, which does not fit these "
        "parameters. Load it with the model and the block size it was saved with."
    )
