"""A process's end of a served register: one connection, opened again where it breaks; no call outlives its time."""

import contextlib
import socket
import threading
import time

from gradvote.engines.elastic.consensus.storage import RegisterLost, SlotPast, Storage
from gradvote.engines.elastic.net.addresses import joined
from gradvote.engines.elastic.net.channels import Unproven
from gradvote.engines.elastic.stores.messages import (
    DENIED,
    FIRST,
    GET,
    NOTHING,
    PAST,
    REFUSED,
    Answer,
    Question,
    answer_from,
)
from gradvote.engines.elastic.stores.transport import Access, Link, secured

AGAIN = 0.05


class ServedStore(Storage):
    """Questions to a `RegisterServer`. Threads take turns; who waits for its turn does not wait longer either."""

    exposed = False

    def __init__(self, host: str, port: int, access: Access) -> None:
        self._host, self._port, self._access = host, port, access
        self._lock = threading.Lock()
        self._link: Link | None = None

    def get(self, key: str, seconds: float) -> str | None:
        answer = self._ask(Question(GET, key), seconds)
        return None if answer.kind == NOTHING else answer.text

    def first(self, key: str, value: str, seconds: float) -> str:
        answer = self._ask(Question(FIRST, key, value), seconds)
        if answer.kind == PAST:
            raise SlotPast(answer.text)
        return answer.text

    def refresh(self, seconds: float) -> None:
        """Nobody deletes here."""

    def _ask(self, question: Question, seconds: float) -> Answer:
        until = time.monotonic() + seconds
        if not self._lock.acquire(timeout=seconds):
            raise RegisterLost(self._lost("it does not answer"))
        try:
            while True:
                try:
                    answer = self._answer(question, until)
                    break
                except (OSError, ValueError) as error:
                    self._hang_up()
                    if isinstance(error, Unproven):
                        raise RegisterLost(self._lost(str(error))) from error
                    if time.monotonic() + AGAIN > until:
                        raise RegisterLost(self._lost(str(error) or type(error).__name__)) from error
                    time.sleep(AGAIN)  # ended, and perhaps started again
        finally:
            self._lock.release()
        if answer.kind == DENIED:
            raise ValueError(answer.text)
        if answer.kind == REFUSED:
            raise RegisterLost(answer.text)
        return answer

    def _answer(self, question: Question, until: float) -> Answer:
        if self._link is None:
            sock = socket.create_connection((self._host, self._port), timeout=max(until - time.monotonic(), 0.01))
            try:
                self._link = secured(sock, self._access, until, answering=False)
            except BaseException:
                sock.close()
                raise
        self._link.send(question.pack(), until)
        return answer_from(self._link.receive(until))

    def _hang_up(self) -> None:
        if self._link is not None:
            with contextlib.suppress(OSError):
                self._link.close()
            self._link = None

    def _lost(self, why: str) -> str:
        return (
            f"The register at {joined(self._host, self._port)} does not answer ({why}): the process that serves it, "
            "`gradvote launch`, ended, was stopped or cannot be reached. Start it again with its --journal, or the run "
            "from its last checkpoint."
        )
