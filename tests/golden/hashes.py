"""The file of frozen hashes: one set for each case, which holds for all engines, and what differs between them.

By law 6 only the bodies that travel may differ: cut into shards, or none at all where each worker decides for itself.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.golden.engines import Found, Hashes

FILE = Path(__file__).with_name("hashes.toml")
TRAVELS = ("ballot bodies", "decision bodies")
NOTHING = ["nothing travels"]
COMMAND = "python tests/golden/freeze.py"
ABOUT = f"""\
# The first 16 hex digits of a SHA-256 for each step. Written by `{COMMAND}`; see `tests/golden/README.md`.
# A change of a hash is a change of what is sent, remembered or learned: it belongs into CHANGELOG.md.
"""
Frozen = dict[str, dict[str, Hashes]]
"""By case, and then by the places it holds for; "" stands for all that are not named."""


def frozen_from(found: Found) -> Frozen:
    """What is written. Raises AssertionError where an engine differs in more than in what travels."""
    frozen: Frozen = {case: {"": hashes} for (case, place), hashes in found.items() if place == "simulation"}
    for case, sets in frozen.items():
        places: dict[str, list[str]] = {}
        for place, own in ((place, own) for (name, place), own in found.items() if name == case):
            differing = [what for what in sets[""].keys() | own.keys() if sets[""].get(what) != own.get(what)]
            assert set(differing) <= {*TRAVELS}, f"{case}, {place}: {', '.join(differing)} as in no simulation"
            if differing:
                text = _text({what: own.get(what, NOTHING) for what in sorted(differing)})
                places.setdefault(text, []).append(place)
        for text, names in places.items():
            sets[", ".join(names)] = tomllib.loads(text)
    return frozen


def write(frozen: Frozen) -> None:
    parts = [ABOUT]
    for case, sets in sorted(frozen.items()):
        for places, hashes in sets.items():
            name = f'"{case}"."{places}"' if places else f'"{case}"."everywhere"'
            parts.append(f"\n[{name}]\n{_text(hashes)}")
    FILE.write_text("".join(parts))


def read() -> Frozen:
    raw = tomllib.loads(FILE.read_text())
    return {case: {"" if k == "everywhere" else k: v for k, v in sets.items()} for case, sets in raw.items()}


def differences(found: Found, frozen: Frozen) -> list[str]:
    """One sentence for each thing that is not as it was, which names the first step where it is not."""
    lines = []
    for (case, place), own in found.items():
        if case not in frozen:
            lines.append(f"{case} has no frozen hashes yet: run `{COMMAND}`, look at what it adds, and commit it")
            continue
        expected = expected_at(frozen[case], place)
        for what in sorted(expected.keys() | own.keys()):
            step = _first_difference(own.get(what, NOTHING), expected.get(what, NOTHING))
            if step is not None:
                lines.append(f"{case}, {place}: {what} changed from step {step} on")
    return lines


def differences_after(step: int, found: Hashes, case: str) -> list[str]:
    """Of a run that went on before this step; its bodies are cut in as many ways as there are engines."""
    expected = {what: steps[step:] for what, steps in read()[case][""].items() if what not in TRAVELS}
    return [f"{case}: {what} changed after the checkpoint" for what in expected if found.get(what) != expected[what]]


def expected_at(sets: Mapping[str, Hashes], place: str) -> Hashes:
    own = [hashes for places, hashes in sets.items() if place in places.split(", ")]
    return dict(sets[""]) | {what: steps for hashes in own for what, steps in hashes.items()}


def unknown(cases: Iterable[str], frozen: Frozen) -> list[str]:
    """Frozen cases that nobody runs any more."""
    return sorted(frozen.keys() - set(cases))


def _first_difference(found: list[str], expected: list[str]) -> int | None:
    if found == expected:
        return None
    pairs = enumerate(zip(found, expected, strict=False))
    return next((step for step, (a, b) in pairs if a != b), min(len(found), len(expected)))


def _text(hashes: Mapping[str, list[str]]) -> str:
    return "".join(f'"{what}" = [{", ".join(f"{step!r}" for step in steps)}]\n' for what, steps in hashes.items())
