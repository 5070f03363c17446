"""What no honest worker sends."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from gradvote.elastic import Vote
from gradvote.engines.elastic.frames import DIGEST_BYTES, Frame, Kind, digest_of
from gradvote.engines.elastic.records import Slot, held_from, held_to_json

How = Callable[[int], str | None]


def lie(vote: Vote, how_at: How) -> None:
    """From now on, what `how_at` says of a step becomes of this worker's ballots."""
    honest, earlier, once = vote._group.send, dict[int, Frame](), set[tuple[Slot, int]]()

    def lying(to: Iterable[int], frame: Frame) -> None:
        receivers, how = list(to), how_at(frame.slot.step)
        if frame.author != vote._group.me.ticket or how is None:
            return honest(receivers, frame)
        if frame.kind == Kind.DECISION and how == "false server":
            return honest(receivers, altered(frame, sound=True, place=-1))
        if frame.kind != Kind.BALLOT:
            witness = frame.kind == Kind.HELD and how == "false witness"
            return honest(receivers, false_witness(vote, frame) if witness else frame)
        if how in ("garbage", "huge"):  # the connection breaks; on the next one the worker is honest again
            again = [ticket for ticket in receivers if (frame.slot, ticket) in once]
            honest(again, frame)
            receivers = [ticket for ticket in receivers if ticket not in again]
            once.update((frame.slot, ticket) for ticket in receivers)
        if how == "garbage":
            return garble(vote, receivers)
        for ticket in receivers:
            if how == "replay" and ticket in earlier:
                honest([ticket], earlier[ticket])
            earlier[ticket] = frame
        if how == "forger":
            for other in vote._group.members.keys() - {frame.author}:
                honest(receivers, replace(frame, author=other))
        if how == "two-faced":
            deceived = min(vote._group.members.keys() - {frame.author})
            honest(set(receivers) & {deceived}, frame)
            receivers, frame = [ticket for ticket in receivers if ticket != deceived], resealed(vote, frame)
        if how == "unsigned":
            frame = altered(frame, sound=True)
        return honest(receivers, LIES[how](frame) if how in LIES else frame)

    vote._group.send = lying  # type: ignore[method-assign]


def garble(vote: Vote, receivers: Iterable[int]) -> None:
    """Noise on the connections."""
    for ticket in receivers:
        if (link := vote._group.mesh.links.get(ticket)) is not None:
            link.sock.sendall(b"\x00" * 64)


def altered(frame: Frame, sound: bool, place: int = -9) -> Frame:
    """The ballot with a bit turned round; `sound`: with the digest of what it says now."""
    body = bytearray(frame.body)
    body[place] ^= 0x10
    return replace(frame, body=bytes(body), digest=digest_of(body) if sound else frame.digest)


def resealed(vote: Vote, frame: Frame) -> Frame:
    """The ballot with a bit turned round, signed again where this worker has a key."""
    group = vote._group
    if group.sharding is not None:
        return reheaded(vote, frame)
    ballot = bytearray(group.seals.ballot(frame.body))
    ballot[-9] ^= 0x10
    body = group.seals.seal(group.generation, frame.slot, group.me, bytes(ballot))
    return replace(frame, body=body, digest=digest_of(body))


def reheaded(vote: Vote, frame: Frame) -> Frame:
    """The same of a cut ballot: another learning rate stands in its head."""
    group = vote._group
    assert group.sharding is not None
    end = group.replica.rate_bytes + DIGEST_BYTES * (1 + group.sharding.num)
    head = bytearray(frame.body[:end])
    head[0] ^= 0x10
    sealed = group.seals.seal(group.generation, frame.slot, group.me, bytes(head))
    return replace(frame, body=sealed + frame.body[len(sealed) :], digest=b"")


def false_witness(vote: Vote, frame: Frame) -> Frame:
    """The list with a bit turned round in the name of somebody else's ballot."""
    held, closed, proofs, lacks, seen = held_from(bytes(frame.body))
    other = max(held.keys() - {vote._group.me.ticket})
    held[other] = bytes([held[other][0] ^ 1]) + held[other][1:]
    return replace(frame, body=held_to_json(held, closed, proofs, lacks, seen).encode(), digest=b"")


LIES: dict[str, Callable[[Frame], Frame]] = {
    "altered": lambda f: altered(f, sound=False),
    "short": lambda f: replace(f, body=f.body[:-1], digest=b""),
    "long": lambda f: replace(f, body=bytes(f.body) + b"\x00" * 100, digest=b""),
    "huge": lambda f: replace(f, body=bytes(1 << 22), digest=b""),
    "future": lambda f: replace(f, slot=Slot(f.slot.step + 1000)),
    "replay": lambda f: f,
}
