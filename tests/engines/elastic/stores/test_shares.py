"""What one worker may make a register keep: a share, counted and named beyond it."""

from pathlib import Path

import pytest

from gradvote.engines.common.slot import Slot
from gradvote.engines.elastic.consensus.members import Member
from gradvote.engines.elastic.consensus.records import Outcome, Record
from gradvote.engines.elastic.consensus.register import PREFIX
from gradvote.engines.elastic.stores import shares
from gradvote.engines.elastic.stores.journal import Journal
from gradvote.engines.elastic.stores.messages import FIRST, GET, PAST, REFUSED, VALUE, Question
from gradvote.engines.elastic.stores.server import answered
from gradvote.engines.elastic.stores.table import Table


def record(step: int, text: str = "") -> Record:
    return Record(Slot(step), Outcome.VOID, members=(Member(1, 0),), text=text)


def test_decisions_far_ahead_fill_no_register_and_shut_out_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker gone bad writes decisions on slots that nobody has reached: in the end it is refused, and named."""
    monkeypatch.setattr(shares, "AHEAD", 30)
    table = Table(kept=8)

    def ask(kind: int, step: int, worker: int) -> int:
        text = record(step).to_json() if kind == FIRST else ""
        return answered(table, Question(kind, f"{PREFIX}//slots/1/{step}/0", text), worker).kind

    assert [ask(FIRST, 10**6 + k, 3) for k in range(100)] == [VALUE] * 30 + [REFUSED] * 70
    assert table.shares.refused == {3: 70}
    assert "Worker 3 has written 30 decisions on slots that no other worker has asked for" in caplog.text
    for step in range(0, 200, 2):  # the others decide, ask, and forget the oldest as ever
        assert ask(FIRST, step, 0) == ask(GET, step, 1) == VALUE
    assert ask(FIRST, 199, 0) == VALUE and ask(FIRST, 4, 1) == PAST
    assert len(table._entries) == 30 + 8 + 1
    assert ask(FIRST, 10**7, 3) == REFUSED and ask(FIRST, 150, 3) == PAST


def test_what_is_asked_for_by_others_uses_up_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "AHEAD", 3)
    table = Table(kept=50)
    for step in range(100):
        table.first(f"g/slots/1/{step}/0", "decided", 0)
        assert table.get(f"g/slots/1/{step}/0", 0) == table.first(f"g/slots/1/{step}/0", "", 1) == "decided"
    assert len(table._entries) == 50 and not table.shares.refused


def test_decisions_far_ahead_make_no_journal_be_written_again_and_again(tmp_path: Path) -> None:
    journal, rewritten = Journal(tmp_path / "journal"), []
    table = Table(journal, rewritten=500)
    journal.rewrite = lambda entries: rewritten.append(list(entries))  # type: ignore[method-assign]
    for step in range(50):
        table.first(f"g/slots/1/{10**6 + step}/0", "decided" * 10, 3)
    assert not rewritten
    table.get(f"g/slots/1/{10**6 + 49}/0", 2)
    assert (table._ahead_bytes, table._num_ahead, len(table._slots)) == (0, 0, 50)
    table.close()


def test_tickets_and_addresses_of_one_worker_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "OTHERS", 5)
    table = Table()
    kinds = [answered(table, Question(FIRST, f"{PREFIX}//tickets/{k}", "x"), 3).kind for k in range(1, 9)]
    assert kinds == [VALUE] * 5 + [REFUSED] * 3
    assert answered(table, Question(FIRST, f"{PREFIX}//tickets/6", "y"), 2).kind == VALUE
