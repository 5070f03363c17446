"""Colours, markers and dashes. A drawing uses the light colours; inside the page each becomes a CSS variable with a
dark counterpart, so one drawing suits both backgrounds. The eight hues stay apart for colour-blind readers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

LIGHT_SERIES = ("#1d4fad", "#c2470a", "#138a5e", "#7a1f6e", "#ae8d1f", "#8f88ea", "#c9618a", "#3a9db5")
DARK_SERIES = ("#4392e6", "#e0741a", "#6fe8ab", "#b168a2", "#ecbb48", "#d3bcfb", "#f38a92", "#20bec6")
LIGHT = {"ink": "#1c2430", "muted": "#5f6b7b", "grid": "#dfe2e7", "accent": "#2b5c8a", "on_accent": "#fdfeff"}
DARK = {"ink": "#e9ecf2", "muted": "#9aa5b5", "grid": "#2c333e", "accent": "#7db4e6", "on_accent": "#0e1116"}

_MARKERS = ("o", "s", "^", "D", "v", "P", "p", "h")
_DASHES = ("solid", (0, (5, 2)), (0, (1.5, 1.5)))


@dataclass(frozen=True)
class Style:
    """How one label is drawn in every figure: its place in the palette, beyond which dashes tell it apart."""

    place: int

    @property
    def slot(self) -> int:
        return self.place % len(LIGHT_SERIES)

    @property
    def color(self) -> str:
        return LIGHT_SERIES[self.slot]

    @property
    def marker(self) -> str:
        return _MARKERS[self.slot]

    @property
    def hollow(self) -> bool:
        """The second time round the palette, markers are outlines."""
        return self.place // len(LIGHT_SERIES) % 2 == 1

    @property
    def dash(self) -> str | tuple[int, tuple[float, float]]:
        return _DASHES[self.place // len(LIGHT_SERIES) % len(_DASHES)]


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """A style for each different label, in order of first appearance."""
    return {label: Style(place) for place, label in enumerate(dict.fromkeys(labels))}


def variables(dark: bool) -> str:
    """The CSS custom properties of one theme, as declarations."""
    named = (DARK if dark else LIGHT) | {f"s{i}": c for i, c in enumerate(DARK_SERIES if dark else LIGHT_SERIES)}
    return " ".join(f"--{name.replace('_', '-')}: {color};" for name, color in named.items())


def variable_of() -> dict[str, str]:
    """From each light colour to the CSS expression that replaces it inside the page."""
    named = LIGHT | {f"s{slot}": color for slot, color in enumerate(LIGHT_SERIES)}
    return {color: f"var(--{name.replace('_', '-')})" for name, color in named.items()}
