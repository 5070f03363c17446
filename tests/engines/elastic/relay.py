"""TCP connections between workers, led through the test's process: each leg can be cut, hung, slowed or altered.

A worker dials its peers by the ports of `Relay.ports`; where a peer listens itself stands in the file `port.K`. A relay
sees bytes, not packets: it cannot lose one, since the system would send it again.
"""

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

CHUNK = 1 << 14


@dataclass
class Leg:
    """The connections that worker a dialled to worker b, and what becomes of their bytes until `until`."""

    mode: str = ""
    until: float = 0.0
    rate: float = 0.0
    delay: float = 0.0
    to_alter: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def is_now(self, mode: str) -> bool:
        """Whether this fault is at work."""
        return self.mode == mode and time.monotonic() < self.until


class Relay:
    """Legs between all pairs of `num` workers, in both directions; a thread of its own moves the bytes."""

    def __init__(self, folder: Path, num: int, seed: int = 0) -> None:
        self.folder, self.num, self.random = folder, num, random.Random(seed)
        self.legs = {pair: Leg() for pair in permutations(range(num), 2)}
        self.ports: dict[int, dict[int, int]] = {a: {} for a in range(num)}
        self.counts: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    def cut(self, a: int, b: int, seconds: float) -> None:
        """End the connections of two workers, and refuse new ones for so long."""
        self._set(a, b, mode="cut", until=time.monotonic() + seconds)

    def hang(self, a: int, b: int, seconds: float) -> None:
        """Nothing passes between two workers for so long; then all of it does."""
        self._set(a, b, mode="hang", until=time.monotonic() + seconds)

    def slow(self, a: int, b: int, seconds: float, rate: float, delay: float) -> None:
        """So many bytes per second pass, each chunk with a delay."""
        self._set(a, b, mode="slow", until=time.monotonic() + seconds, rate=rate, delay=delay)

    def alter(self, a: int, b: int, num: int) -> None:
        """Flip a bit in the next `num` chunks between two workers."""
        self._set(a, b, to_alter=num)

    def close(self) -> None:
        """End everything."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _set(self, a: int, b: int, **values: object) -> None:
        def change() -> None:
            for leg in (self.legs[a, b], self.legs[b, a]):
                for name, value in values.items():
                    setattr(leg, name, value)
                for writer in list(leg.writers) if leg.is_now("cut") else ():
                    writer.transport.abort()

        self._loop.call_soon_threadsafe(change)

    async def _open(self) -> None:
        for (a, b), leg in self.legs.items():

            async def connected(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, b: int = b, leg: Leg = leg
            ) -> None:
                await self._join(reader, writer, b, leg)

            server = await asyncio.start_server(connected, "127.0.0.1", 0)
            self._servers.append(server)
            self.ports[a][b] = server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for leg in self.legs.values():
            leg.mode, leg.delay, leg.rate = "", 0.0, 1e9
            for writer in leg.writers:
                writer.transport.abort()
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=1)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: int, leg: Leg) -> None:
        leg.writers.add(writer)
        try:
            if leg.is_now("cut"):
                return
            await self._pass(leg, 0)
            port = int((self.folder / f"port.{to}").read_text())
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
            leg.writers.add(far_writer)
            try:
                await asyncio.gather(self._move(reader, far_writer, leg), self._move(far_reader, writer, leg))
            finally:
                leg.writers.discard(far_writer)
                far_writer.transport.abort()
        except (OSError, ValueError):
            pass
        finally:
            leg.writers.discard(writer)
            writer.transport.abort()

    async def _move(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, leg: Leg) -> None:
        while data := await reader.read(CHUNK):
            await self._pass(leg, len(data))
            writer.write(self._altered(leg, data))
            await writer.drain()
        await self._pass(leg, 0)
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def _pass(self, leg: Leg, num: int) -> None:
        while leg.is_now("hang"):
            await asyncio.sleep(min(0.05, max(leg.until - time.monotonic(), 0.0)))
        if leg.is_now("slow"):
            await asyncio.sleep(leg.delay + num / leg.rate)

    def _altered(self, leg: Leg, data: bytes) -> bytes:
        if not leg.to_alter:
            return data
        leg.to_alter -= 1
        self.counts["altered"] += 1
        spoiled = bytearray(data)
        spoiled[self.random.randrange(len(spoiled))] ^= 1 << self.random.randrange(8)
        return bytes(spoiled)
