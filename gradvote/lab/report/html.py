"""The report: one HTML file that holds everything it shows, and reads without a network and without JavaScript."""

from collections.abc import Sequence
from pathlib import Path

from gradvote.errors import MissingExtra
from gradvote.lab.files import PAGE_MARK, check_page, write_text
from gradvote.lab.report.columns import COLUMNS
from gradvote.lab.report.records import Scene, unique_labels
from gradvote.lab.report.style import styles, variables

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
    from markupsafe import Markup
except ImportError as error:
    raise MissingExtra("jinja2", "report") from error

from gradvote.lab.report.view import facts, scene_view

__all__ = ["Scene", "write_report"]

_FOLDER = Path(__file__).parent


def write_report(scenes: Sequence[Scene], out: Path | str, title: str, intro: str = "") -> Path:
    """Write the report of `scenes` to the file `out`, atomically, and return its path.

    Every scene shows its finding, the table, the curves against steps and against bytes, the workers' data and the
    recipes. A label keeps its colour throughout. The raw records are inside, as download links.

    Raises:
        ValueError: no scene, a scene without a run, or `out` holds something else than a report.
        MissingExtra: on import, without matplotlib or jinja2 (extra `report`).
    """
    if not scenes or any(not scene.runs for scene in scenes):
        raise ValueError("A report needs a scene, and every scene at least one run. Give the runs to show.")
    look = styles(label for scene in scenes for label in unique_labels(scene.runs))
    page = _template().render(
        mark=Markup(PAGE_MARK),
        title=title,
        intro=intro,
        facts=facts([run for scene in scenes for run in scene.runs]),
        scenes=[scene_view(scene, number, look) for number, scene in enumerate(scenes, 1)],
        columns=COLUMNS,
        light=variables(dark=False),
        dark=variables(dark=True),
        css=_part("style.css"),
        script=_part("script.js"),
    )
    check_page(Path(out))
    return write_text(Path(out), page)


def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("template.html")


def _part(name: str) -> Markup:
    """A file of ours, to stand in the page as it is."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))
