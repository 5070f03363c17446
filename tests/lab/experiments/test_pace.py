"""How far measurements are, and how it is shown."""

import io

from rich.console import Console

from gradvote.lab.cli.progress import Shown
from gradvote.lab.experiments.pace import Board, Piece, lasting


def board() -> Board:
    pieces = {name: Piece(name[0], f"cell {name}", cells) for name, cells in (("a1", 2), ("a2", 2), ("b1", 1))}
    return Board(2, 3, pieces)


def test_what_has_not_begun_takes_as_long_as_others_of_its_claim_or_of_all() -> None:
    own = board()
    assert own.left(now=0.0) is None and own.share == 3 / 8
    own.tell("a1", now=0.0)
    own.tell("a1", 0.25, "step 1 of 4")
    assert own.left(now=10.0) == (30.0 + 40.0 + 20.0) / 2
    own.end("a1", now=40.0)
    own.tell("a2", now=40.0)
    assert (own.done, own.total) == (5, 8) and [p.name for p in own.running] == ["cell a2"]
    assert own.left(now=50.0) == (30.0 + 20.0) / 2 or own.left(now=50.0) == 30.0
    own.end("b1", now=50.0)
    own.end("a2", now=80.0)
    assert own.left(now=80.0) == 0.0 and own.share == 1.0 and not own.running


def test_times_in_words() -> None:
    assert [lasting(s) for s in (40, 89.6, 200, 7800)] == ["40 s", "90 s", "3 min", "2 h 10 min"]


def test_no_terminal_gets_a_line_now_and_then() -> None:
    out, own = io.StringIO(), board()
    own.tell("a1", 0.25, "step 1 of 4")
    with Shown(Console(file=out, width=40), pause=3600.0) as shown:
        for _ in range(3):
            shown.show(own)
    [line] = out.getvalue().splitlines()
    assert line.startswith("3 of 8 cells, 44%, about ") and line.endswith("at work: a (cell a1) 25%, step 1 of 4")


def test_a_terminal_gets_a_bar_for_all_and_one_for_each_at_work() -> None:
    out, own = io.StringIO(), board()
    own.tell("a1", 0.25, "step 1 of 4")
    console = Console(file=out, width=120, force_terminal=True)
    with Shown(console) as shown:
        shown.show(own)
        own.end("a1")
        own.tell("a2", 0.5, "step 2 of 4")
        shown.show(own)
    last = out.getvalue()[out.getvalue().rindex("5 of 8 cells") :]
    assert "a (cell a2) 50%, step 2 of 4" in last and "cell a1" not in last
