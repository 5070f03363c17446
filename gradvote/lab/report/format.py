"""How numbers read, in the HTML report and on the console alike: 0.974, 3.1e-02, 1.2 MB, — for missing."""

import math
from collections.abc import Callable

MISSING = "—"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _show(value: float | None, text: Callable[[float], str]) -> str:
    """Missing and non-finite values by name, everything else by `text`."""
    if value is None:
        return MISSING
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return text(value)


def fraction(value: float | None) -> str:
    """0.974."""
    return _show(value, lambda v: f"{v:.3f}")


def scientific(value: float | None) -> str:
    """3.1e-02, and 0 for zero."""
    return _show(value, lambda v: f"{v:.1e}" if v else "0")


def bits(value: float | None) -> str:
    """1.02 below ten bits, 32.0 from there."""
    return _show(value, lambda v: f"{v:.2f}" if abs(v) < 9.995 else f"{v:.1f}")


def count(value: float | None) -> str:
    """1,200."""
    return _show(value, lambda v: f"{round(v):,}")


def size(num_bytes: float | None) -> str:
    """912 B, 1.2 MB (1 MB = 10⁶ bytes)."""
    return _show(num_bytes, _size)


def _size(num_bytes: float) -> str:
    if abs(num_bytes) < 999.5:
        return f"{num_bytes:.0f} B"
    scaled = num_bytes
    for unit in ("kB", "MB", "GB", "TB"):
        scaled /= 1000
        if abs(scaled) < 999.95:
            return f"{scaled:.1f} {unit}"
    return f"{scaled / 1000:.1f} PB"


def duration(seconds: float | None) -> str:
    """4.2 s, 2 min 05 s, 1 h 02 min."""
    return _show(seconds, _duration)


def _duration(seconds: float) -> str:
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def status(state: str, step: float | None) -> str:
    """finished, diverged at step 40, interrupted at step 300, running (step 12)."""
    if state == "finished" or step is None:
        return state
    return f"running (step {count(step)})" if state == "running" else f"{state} at step {count(step)}"


def tick(value: float) -> str:
    """An axis label: 0.01, 250, 20,000, 10⁻⁵, 2×10⁻⁵."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.6f}".rstrip("0").rstrip(".").replace("-", "−")
    mantissa, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return power if mantissa == "1" else f"{mantissa.replace('-', '−')}×{power}"


def shortened(text: str, length: int) -> str:
    """At most `length` characters, the cut marked by an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def joined(items: list[str]) -> str:
    """a, b and c."""
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1] if items else ""
