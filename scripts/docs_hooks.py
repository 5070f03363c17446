"""For mkdocs: what the pages leave to it, so that they read well in a checkout and need no lists to edit.

Links out of docs/ (to examples, sources, the README) become the names of those files: a site has no such files, and
where the repository is read is not known to it. `<!-- parts: gradvote/algorithms -->` becomes the reference of each
file of parts in that folder.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^)\s]+)\)")
PARTS = re.compile(r"^<!-- parts: (\S+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page, before it is made into HTML."""
    folder = posixpath.dirname(page.file.src_uri)
    return PARTS.sub(references, LINK.sub(lambda found: inside(found, folder), markdown))


def inside(found: re.Match[str], folder: str) -> str:
    """A link of a page in `folder`, or its text and the name of the file where that is not in docs/."""
    text, target = found.groups()
    if "://" in target or not posixpath.normpath(posixpath.join(folder, target)).startswith("../"):
        return found[0]
    path = posixpath.normpath(posixpath.join("docs", folder, target.partition("#")[0]))
    return text if path in text else f"{text} (`{path}`)"


def references(found: re.Match[str]) -> str:
    """One directive for each file of parts."""
    files = sorted((ROOT / found[1]).glob("[!_]*.py"))
    if not files:
        raise ValueError(f"There are no parts in {found[1]}: name a folder of parts.")
    modules = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return "\n\n".join(f"::: {module}" for module in modules)
