"""What stands in an entry of the register: one that nobody can read would stop all who look at it."""

import json
import re
from collections.abc import Callable

from gradvote.engines.elastic.consensus.members import UNREADABLE, Proof, proofs_from_raw
from gradvote.engines.elastic.consensus.presence import presence_from
from gradvote.engines.elastic.consensus.records import record_from


def proofs_from(text: str) -> tuple[Proof, ...]:
    """The proofs in an entry.

    Raises:
        ValueError: it has something else.
    """
    try:
        return proofs_from_raw(json.loads(text))
    except UNREADABLE as error:
        raise ValueError(f"These are no proofs: {error}") from error


_READERS: dict[str, Callable[[str], object]] = {
    r"places/\d+": presence_from, r"(founded|(confirmed/)?slots/\d+/\d+)/\d+": record_from, r"proofs/\d+": proofs_from,
    r"ended/\d+": int, r"run": bytes.fromhex,
}  # fmt: skip


def read(key: str, value: str) -> object:
    """What an entry says, by the end of its key; the text itself, where any text will do.

    Raises:
        ValueError: the text is not what an entry of this key has to be.
    """
    readers = (reader for pattern, reader in _READERS.items() if re.search(rf"/{pattern}$", key, re.ASCII))
    return next(readers, str)(value)
