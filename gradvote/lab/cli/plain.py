"""Terminals that do not take all characters: what they lack is written in plain ones, and nothing fails."""

import codecs
import sys
import unicodedata

_PLAIN = {
    "—": "-", "–": "-", "−": "-", "·": "*", "×": "x", "÷": "/", "…": "...", "∞": "inf", "√": "sqrt ", "‖": "|",
    "⁄": "/", "≤": "<=", "≥": ">=", "←": "<-", "→": "->", "±": "+-", "≈": "~", "∇": "grad ", "Σ": "sum ", "∫": "int ",
    "∝": "~", "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "°": "deg",
}  # fmt: skip
_HANDLER = "gradvote-plain"


def plain_characters() -> None:
    """From now on standard output and standard error write a character that they cannot encode in plain ones."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)


def spelled(text: str) -> str:
    """The text in ASCII: β is beta, x² is x^2, é is e; what has no such spelling is a question mark."""
    return "".join(character if character.isascii() else _spelled(character) for character in text)


def _spelled(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    kind, name = unicodedata.decomposition(character), unicodedata.name(character, "").lower()
    if name.startswith("greek ") and " letter " in name:
        return name.split(" letter ")[1].split(" ")[0]
    if "\u2500" <= character <= "\u25ff":  # lines, boxes and blocks
        return "|" if "vertical" in name and "horizontal" not in name else "-"
    if "\u2800" <= character <= "\u28ff":  # the spinner
        return "*"
    simple = unicodedata.normalize("NFKD", character).translate({ord(k): v for k, v in _PLAIN.items()})
    simple = "".join(c for c in simple if c.isascii())
    return (
        f"^{simple}"
        if kind.startswith("<super>") and simple
        else simple or ("" if unicodedata.combining(character) else "?")
    )


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return spelled(error.object[error.start : error.end]), error.end


codecs.register_error(_HANDLER, _replace)
