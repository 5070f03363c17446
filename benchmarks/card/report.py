"""The tables of docs/performance.md from the JSON of `benchmarks/gpu.py`: one file for each card, in `results/`.

Each part has the commit that it was measured at, as minutes on a card are few, and not all parts fit into them at once.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TARGETS = {("ResNet-50", "signsgd"): 0.02, ("GPT-2 124M", "signsgd"): 0.01}
"""The most that encoding and decoding may add to a step."""
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- card -->", "<!-- end of card -->"


def rewrite(page: Path) -> None:
    """Put the tables between the marks of a page."""
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    page.write_text(f"{head}{BEGIN}\n{tables()}{END}{rest.split(END)[1]}", encoding="utf-8")


def tables() -> str:
    cards = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    return "\n".join(
        line for table in (_kernels(cards), _steps(cards), _ranks(cards), _memory(cards)) for line in (*table, "")
    )


def _kernels(cards: dict[str, Any]) -> Iterator[str]:
    own = {name: card["kernels"] for name, card in cards.items() if "kernels" in card}
    rows: dict[str, dict[str, Any]] = {}
    for name, part in own.items():
        for row in part["found"]["rows"]:
            rows.setdefault(row["name"], {})[name] = row
    yield f"| 25.6M coordinates | {' | '.join(_card(cards[name], part) for name, part in own.items())} | wanted |"
    yield "|---" * (len(own) + 2) + "|"
    copies = (part["found"]["copy"] / 1e12 for part in own.values())
    yield f"| a copy, read and written | {' | '.join(f'{copy:.2f} TB/s' for copy in copies)} | |"
    for kernel, found in rows.items():
        target = next(iter(found.values()))["target"]
        cells = [_cell(found[name]) if name in found else _missing(kernel, part) for name, part in own.items()]
        name = kernel.replace("|", r"\|")
        yield f"| {name} | {' | '.join(cells)} | {'' if target is None else f'{target:.0%}'} |"


def _missing(kernel: str, part: dict[str, Any]) -> str:
    """What is said of a kernel without a time: it failed, or it was not measured."""
    return "did not compile" if any(name.startswith(kernel) for name in part["found"]["failed"]) else ""


def _cell(row: dict[str, Any]) -> str:
    share = f"{row['bandwidth']:.0%}"
    share = f"**{share}**" if row["target"] is not None and row["bandwidth"] < row["target"] else share
    rivals = "".join(f"; {ratio:.1f} × {name}" for name, ratio in row["rivals"].items())
    return f"{1e6 * row['time']['card']:.0f} µs, {share}{rivals}"


def _steps(cards: dict[str, Any]) -> Iterator[str]:
    for number, card in enumerate(c for c in cards.values() if "steps" in c):
        yield from [""] * bool(number)
        heads = "plain step | with a worker's half | that alone | the processor's time for it"
        yield f"| {_card(card, card['steps'])} | {heads} |"
        yield "|---|---|---|---|---|"
        for row in card["steps"]["found"]:
            more, share = f"{row['voting'] / row['plain'] - 1:+.0%}", f"{row['card'] / row['plain']:.1%}"
            most = TARGETS.get((row["model"], row["algorithm"]), 1)
            share = f"**{share}**" if row["card"] / row["plain"] > most else share
            times = f"{row['plain']:.1f} ms | {row['voting']:.1f} ms, {more} | {row['card']:.2f} ms, {share}"
            yield f"| {row['model']}, `{row['algorithm']}` | {times} | {row['host']:.0f} ms |"


def _ranks(cards: dict[str, Any]) -> Iterator[str]:
    for card in (c for c in cards.values() if "ranks" in c):
        found = card["ranks"]["found"]
        yield f"| {_card(card, card['ranks'])}; ResNet-50, two ranks | {' | '.join(f'`{n}`' for n in found)} |"
        yield "|---" * (len(found) + 1) + "|"
        yield f"| ms per step | {' | '.join(f'{ms:.0f}' for ms in found.values())} |"


def _memory(cards: dict[str, Any]) -> Iterator[str]:
    for card in (c for c in cards.values() if "memory" in c):
        found = card["memory"]["found"]
        yield f"| {_card(card, card['memory'])}; bytes per parameter | {' | '.join(f'`{name}`' for name in found)} |"
        yield "|---" * (len(found) + 1) + "|"
        yield f"| kept, at the peak | {' | '.join(f'{kept:.1f}, {peak:.1f}' for kept, peak in found.values())} |"


def _card(card: dict[str, Any], part: dict[str, Any]) -> str:
    size = f"; {card['size']}" if "size" in card else ""
    return f"{card['device']['name']}, {part['commit']}{size}"
