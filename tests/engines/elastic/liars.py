"""What no honest worker sends."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from gradvote.elastic import ElasticVote
from gradvote.engines.common.digests import DIGEST_BYTES, digest_of
from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.records import held_from, held_to_json
from gradvote.engines.elastic.net.frames import Frame, FrameKind
from gradvote.engines.elastic.servers.cut_ballots import digests_at

How = Callable[[int], str | None]


def lie(vote: ElasticVote, how_at: How) -> None:
    """From now on, what `how_at` says of a step becomes of this worker's ballots."""
    honest, earlier, once = vote._node.peers.send, dict[int, Frame](), set[tuple[Slot, int]]()

    def lying(to: Iterable[int], frame: Frame) -> None:
        receivers, how = list(to), how_at(frame.slot.step)
        if frame.author != vote._node.me.ticket or how is None:
            return honest(receivers, frame)
        if frame.kind == FrameKind.DECISION and how == "false server":
            return honest(receivers, altered(frame, sound=True, place=-1))
        if frame.kind != FrameKind.BALLOT:
            witness = frame.kind == FrameKind.HELD and how == "false witness"
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
            for other in vote._node.members.keys() - {frame.author}:
                honest(receivers, replace(frame, author=other))
        if how == "two-faced":
            deceived = min(vote._node.members.keys() - {frame.author})
            honest(set(receivers) & {deceived}, frame)
            receivers, frame = [ticket for ticket in receivers if ticket != deceived], resealed(vote, frame)
        if how == "unsigned":
            frame = altered(frame, sound=True)
        return honest(receivers, LIES[how](frame) if how in LIES else frame)

    vote._node.peers.send = lying  # type: ignore[method-assign]


def garble(vote: ElasticVote, receivers: Iterable[int]) -> None:
    """Noise on the connections."""
    for ticket in receivers:
        if (connection := vote._node.mesh.connections.get(ticket)) is not None:
            connection.channel.sock.sendall(b"\x00" * 64)


def altered(frame: Frame, sound: bool, place: int = -9) -> Frame:
    """The ballot with a bit turned round; `sound`: with the digest of what it says now."""
    body = bytearray(frame.body)
    body[place] ^= 0x10
    return replace(frame, body=bytes(body), digest=digest_of(body) if sound else frame.digest)


def resealed(vote: ElasticVote, frame: Frame) -> Frame:
    """The ballot with a bit turned round, signed again where this worker has a key."""
    node = vote._node
    if vote._server.num_shards:
        return reheaded(vote, frame)
    ballot = bytearray(node.naming.ballot(frame.body))
    ballot[-9] ^= 0x10
    body = node.naming.sign(node.generation, frame.slot, node.me, bytes(ballot))
    return replace(frame, body=body, digest=digest_of(body))


def reheaded(vote: ElasticVote, frame: Frame) -> Frame:
    """The same of a cut ballot: another learning rate stands in its head."""
    node = vote._node
    end = digests_at(vote._server.replica.rate_bytes) + DIGEST_BYTES * vote._server.num_shards
    head = bytearray(frame.body[:end])
    head[0] ^= 0x10
    sealed = node.naming.sign(node.generation, frame.slot, node.me, bytes(head))
    return replace(frame, body=sealed + frame.body[len(sealed) :], digest=b"")


def false_witness(vote: ElasticVote, frame: Frame) -> Frame:
    """The list with a bit turned round in the name of somebody else's ballot."""
    held, closed, proofs, lacks, seen = held_from(bytes(frame.body))
    other = max(held.keys() - {vote._node.me.ticket})
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
