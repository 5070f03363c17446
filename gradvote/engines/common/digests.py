"""What bytes are called: BLAKE2b, 32 bytes where a name must be nobody else's, 16 where lists are compared."""

import hashlib

DIGEST_BYTES, SHORT_DIGEST_BYTES = 32, 16
Bytes = bytes | bytearray | memoryview


def digest_of(body: Bytes) -> bytes:
    """BLAKE2b of a body: 32 bytes, so that nobody finds two bodies with one."""
    return hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest()


def short_digest_of(body: Bytes) -> bytes:
    """BLAKE2b of a body in 16 bytes."""
    return hashlib.blake2b(body, digest_size=SHORT_DIGEST_BYTES).digest()
