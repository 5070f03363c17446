"""A matplotlib figure as an inline SVG that follows the page: its fonts, its light or dark colours, its ids."""

import io
import re
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.figure import Figure

from gradvote.lab.report.style import variable_of

_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
_HEX = re.compile(r"#[0-9a-f]{6}\b")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def to_svg(figure: Figure, prefix: str, title: str) -> str:
    """The `<svg>` element for an HTML page; `prefix` keeps its ids apart from other figures', `title` is read aloud.

    Colours of `style` become CSS variables, text stays text, groups named `series-…` become classes, and namespaces are
    dropped, so that nothing in it looks like an address. It is the same text for the same figure and prefix.
    """
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(buffer, format="svg", transparent=True, dpi=144, metadata=_NO_METADATA)
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        _adapt(element, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-label": title}
    return ElementTree.tostring(root, encoding="unicode")


def _adapt(element: ElementTree.Element, prefix: str) -> None:
    """Strip namespaces, make ids and references unique, turn palette colours into CSS variables."""
    element.tag = _local(element.tag)
    attributes = [_attribute(_local(name), value, prefix) for name, value in element.attrib.items()]
    element.attrib.clear()
    element.attrib.update(attributes)


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(name: str, value: str, prefix: str) -> tuple[str, str]:
    if name == "id":
        return ("class", f"series {value}") if value.startswith("series-") else ("id", f"{prefix}-{value}")
    if name == "href" and value.startswith("#"):
        return name, f"#{prefix}-{value[1:]}"
    if name in ("style", "clip-path"):
        return name, _themed(_REFERENCE.sub(rf"url(#{prefix}-\1)", value))
    return name, value


def _themed(css: str) -> str:
    variables = variable_of()
    return _HEX.sub(lambda match: variables.get(match[0], match[0]), css)
