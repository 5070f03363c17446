"""Findings as one HTML file that holds everything it shows."""

from collections.abc import Sequence
from pathlib import Path

from gradvote.errors import MissingExtra
from gradvote.lab import report
from gradvote.lab.experiments.findings import Finding
from gradvote.lab.files import PAGE_MARK, check_page, write_text
from gradvote.lab.report.format import duration
from gradvote.lab.report.style import variables
from gradvote.lab.report.svg import to_svg

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup
except ImportError as error:
    raise MissingExtra("jinja2", "report") from error


def write_page(findings: Sequence[Finding], out: Path) -> Path:
    """Write the page of `findings` to `out`, atomically, and return its path."""
    style = Path(report.__file__).with_name("style.css").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        findings=[
            {
                "of": f,
                "svgs": [Markup(to_svg(figure, file, f.claim.title)) for file, figure in f.figures.items()],
                "time": duration(f.seconds),
            }
            for f in findings
        ],
        mark=Markup(PAGE_MARK),
        css=Markup(style),
        light=variables(dark=False),
        dark=variables(dark=True),
    )
    check_page(out)
    return write_text(out, page)
