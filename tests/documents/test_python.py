"""Every block of Python in README and docs is compiled, and run on one rank where one rank will do.

tests/test_types.py has the types of all of them checked, of those that are not run, too.
"""

import pytest

import gradvote
from tests.documents.fragments import errors_of, whole
from tests.documents.reading import FILES, ROOT, Block, all_blocks, prose_of

PYTHON = all_blocks("python", "diff")
KNOWN = {"sh", "python", "pycon", "diff", "text"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_every_block_says_what_it_is(file):
    """Then none escapes the tests; an indented block would."""
    lines = prose_of(file).splitlines()
    loose = [now for before, now in zip(["", *lines], lines, strict=False) if not before and now.startswith("    ")]
    assert not loose, f"Fence this block, as ```sh, ```python or ```text: {loose[0].strip()}"
    assert not [b for b in all_blocks("") if b.file == file], "A fence without a language."


def test_languages_are_known():
    assert {
        b.language for b in all_blocks("sh", "bash", "console", "shell", "python", "py", "pycon", "diff", "text")
    } <= KNOWN


@pytest.mark.parametrize("block", PYTHON, ids=lambda b: b.place)
def test_blocks_of_python_compile(block):
    compile(block.program, block.place, "exec")
    if block.language == "diff":
        compile(block.side("+"), block.place, "exec")


def test_blocks_of_python_run(monkeypatch):
    monkeypatch.setenv("GRADVOTE_KERNELS", "reference")  # two seconds less
    blocks = [block for block in [*PYTHON, *all_blocks("pycon")] if not block.excuse]
    assert len(blocks) > 8
    [told] = gradvote.distributed.spawn(errors_of, 1, blocks)
    assert not told, "\n".join(f"{place}\n{text}" for place, text in told.items())


def test_a_mistake_in_a_block_is_told():
    """A test that ran nothing would pass always."""
    wrong = Block(ROOT / "README.md", 1, "python", "vote = gradvote.ddp.attach(ddp, algorithm, optimiser=opt)\n")
    assert "DistributedDataParallel(" in whole(wrong.text) and "class Loss" not in whole(wrong.text)
    odd = Block(ROOT / "README.md", 2, "pycon", ">>> 1 + 1\n3\n")
    assert errors_of([Block(ROOT / "README.md", 3, "python", "gradvote.nothing\n"), odd]).keys() == {
        odd.place,
        "README.md:3",
    }
