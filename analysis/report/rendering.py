"""What every written page shares: templates, style and scripts of ours, and JSON that can stand in a script element."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.report.drawing import DARK, colour
from results.output import in_markdown, without_html

# Pages of one folder link to each other.
REPORT_PAGE = "report.html"
HISTORY_PAGE = "history.html"
_MACHINES = '<meta name="machines" content="'


def covers(page: Path, machines: Iterable[str]) -> bool:
    """Whether a page of ours lies there that is of one of these machines."""
    try:
        with page.open(encoding="utf-8") as file:
            _, found, rest = file.read(2000).partition(_MACHINES)
    except OSError:  # there is none that can be read, so nothing to link to
        return False
    return bool(found) and not set(rest.partition('"')[0].split(" ")).isdisjoint(machines)


def templates() -> Environment:
    """Those of HTML pages: what a value holds is escaped, and a name that nothing has is an error."""
    made = Environment(
        loader=PackageLoader("analysis.report"), autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.globals |= {"colour": colour}
    return made


def markdown_templates() -> Environment:
    """Those of Markdown: no value brings HTML of its own, and `cell` makes one fit for a table."""
    plain = templates().overlay(finalize=lambda value: without_html(value) if isinstance(value, str) else value)
    plain.filters = plain.filters | {"cell": in_markdown}
    return plain


def asset(name: str) -> Markup:
    """A file of ours, put into the page as it is.

    Args:
        name: path below the folder of templates, such as `report.css`.
    """
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))


def base_assets() -> dict[str, Markup]:
    """What `base.html.j2` puts into every page."""
    return {"style": asset("report.css"), "dark": Markup(DARK), "script": asset("report.js")}
