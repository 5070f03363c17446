"""What a process asks a register, and what it answers: a letter, and texts of known lengths."""

import struct
from dataclasses import dataclass

_QUESTION = struct.Struct("<cHI")
GET, FIRST = b"G", b"F"
VALUE, NOTHING, PAST, REFUSED, DENIED = b"V", b"N", b"P", b"R", b"D"
ANSWERS = (VALUE, NOTHING, PAST, REFUSED, DENIED)


@dataclass(frozen=True)
class Question:
    """GET an entry, or write the FIRST one."""

    kind: bytes
    key: str
    value: str = ""

    def pack(self) -> bytes:
        """As a message."""
        key, value = self.key.encode(), self.value.encode()
        return _QUESTION.pack(self.kind, len(key), len(value)) + key + value


@dataclass(frozen=True)
class Answer:
    """The VALUE of an entry, NOTHING, that a slot is PAST, why a question is REFUSED for now, or DENIED for ever."""

    kind: bytes
    text: str = ""

    def pack(self) -> bytes:
        """As a message."""
        return self.kind + self.text.encode()


def question_from(message: bytes) -> Question:
    """The question in a message.

    Raises:
        ValueError: it is none.
    """
    if len(message) < _QUESTION.size:
        raise ValueError("This is no question to a register: it is too short.")
    kind, key, value = _QUESTION.unpack_from(message)
    texts = message[_QUESTION.size :]
    if kind not in (GET, FIRST) or len(texts) != key + value:
        raise ValueError("This is no question to a register: its kind or its lengths make no sense.")
    return Question(kind, texts[:key].decode(), texts[key:].decode())


def answer_from(message: bytes) -> Answer:
    """The answer in a message.

    Raises:
        ValueError: it is none.
    """
    if message[:1] not in ANSWERS:
        raise ValueError("This is no answer of a register.")
    return Answer(message[:1], message[1:].decode())
