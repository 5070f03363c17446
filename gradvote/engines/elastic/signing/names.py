"""What a ballot is called: by its digest or, in signed runs, by its digest and its author's signature.

A signed name proves by itself, without the ballot, that its author gave it: for this run, group, slot, process and
ballot, and for nothing else. So lists of names carry their proofs with them.
"""

import struct
from typing import TYPE_CHECKING, Protocol

from gradvote.engines.common.digests import DIGEST_BYTES, digest_of
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member, Proof

if TYPE_CHECKING:
    from gradvote.engines.elastic.signing.keys import Keys

DOMAIN = b"gradvote elastic ballot 1\0"
RUN_BYTES = 16
SIGNED = 0x5369676E65644742
"""Sets apart the recipes of signed runs."""
_COVERED = struct.Struct("<QQQQQ")
_SIGNATURE_BYTES = 64
Body = bytes | bytearray


class Naming(Protocol):
    """How ballots are signed, named and known by all. A body is what travels: a ballot, and perhaps its signature."""

    signed: bool
    extra_bytes: int

    def sign(self, generation: int, slot: Slot, author: Member, ballot: bytes) -> bytes:
        """This worker's ballot as it travels."""

    def ballot(self, body: Body) -> Body:
        """The ballot in a body."""

    def name(self, body: Body, checksum: bytes = b"") -> bytes:
        """What a body is called; `checksum` is `digest_of(body)`, where it is known already."""

    def proves(self, generation: int, slot: Slot, author: Member, name: bytes) -> bool:
        """Whether a name can be that of a ballot of this author for this slot."""

    def knows(self, number: int) -> bool:
        """Whether the ballots of this worker can be told from others."""


class PlainNames:
    """A ballot is called by its digest; whose it is nobody can prove."""

    signed, extra_bytes = False, 0

    def sign(self, generation: int, slot: Slot, author: Member, ballot: bytes) -> bytes:
        return ballot

    def ballot(self, body: Body) -> Body:
        return body

    def name(self, body: Body, checksum: bytes = b"") -> bytes:
        return checksum or digest_of(body)

    def proves(self, generation: int, slot: Slot, author: Member, name: bytes) -> bool:
        return True

    def knows(self, number: int) -> bool:
        return True


class SignedNames:
    """A body is a ballot and 64 bytes of signature; its name is the ballot's digest and the same signature.

    Signed is: a domain, the run's id, generation, step, attempt, the author's ticket and number, the ballot's digest.
    """

    signed, extra_bytes = True, _SIGNATURE_BYTES

    def __init__(self, keys: "Keys", run: bytes) -> None:
        assert len(run) == RUN_BYTES
        self.keys, self._prefix = keys, DOMAIN + run

    def sign(self, generation: int, slot: Slot, author: Member, ballot: bytes) -> bytes:
        return ballot + self.keys.sign(self._message(generation, slot, author, digest_of(ballot)))

    def ballot(self, body: Body) -> Body:
        return body[:-_SIGNATURE_BYTES]

    def name(self, body: Body, checksum: bytes = b"") -> bytes:
        whole = memoryview(body)
        return digest_of(whole[:-_SIGNATURE_BYTES]) + bytes(whole[-_SIGNATURE_BYTES:])

    def proves(self, generation: int, slot: Slot, author: Member, name: bytes) -> bool:
        if len(name) != DIGEST_BYTES + _SIGNATURE_BYTES:
            return False
        message = self._message(generation, slot, author, name[:DIGEST_BYTES])
        return self.keys.verifies(author.number, message, name[DIGEST_BYTES:])

    def knows(self, number: int) -> bool:
        return number in self.keys.public

    def _message(self, generation: int, slot: Slot, author: Member, digest: bytes) -> bytes:
        return self._prefix + _COVERED.pack(generation, slot.step, slot.attempt, author.ticket, author.number) + digest


def convicts(naming: Naming, proof: Proof) -> bool:
    """Whether a proof is one: two names of one slot, both signed by its author."""
    names = set(proof.names)
    return (
        naming.signed
        and len(names) == 2
        and all(naming.proves(proof.generation, proof.slot, proof.author, name) for name in names)
    )
