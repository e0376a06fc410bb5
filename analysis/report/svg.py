"""Matplotlib's SVG made fit for a page: real text, ink that follows the page, no clashing identifiers, nothing external."""

from __future__ import annotations

import io
import re
from html import escape

from matplotlib.figure import Figure

from analysis.report.drawing import look
from analysis.report.style import FAINT, GRID, INK, PAPER, UNDECIDED

POINTS_PER_INCH = 72
_CSS = {
    INK: "currentColor",
    GRID: "var(--grid, #e4e4de)",
    PAPER: "var(--paper, #ffffff)",
    FAINT: "var(--faint, #a9adb3)",
    UNDECIDED: "var(--undecided, #ecece7)",
}
# A file of its own is shown as an image, which sees the reader's colour scheme but not the page's style.
_ALONE = (
    "<style>svg { color: #1b1d21; font-family: system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif }"
    " @media (prefers-color-scheme: dark) { svg { color: #e7e7e3; --grid: #2a2e35; --paper: #14161a; --faint: #6d727b;"
    " --undecided: #262a31 } }</style>"
)


def inline(figure: Figure, name: str, title: str) -> str:
    """An <svg> element for an HTML page. name prefixes every id, so that many figures can share a page."""
    text = io.StringIO()
    with look():
        figure.savefig(
            text, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    for sentinel, css in _CSS.items():
        svg = svg.replace(sentinel, css)
    svg = re.sub(r"font: (?:(\w+) )?([\d.]+px) [^;\"]*", lambda found: _font(found[1], found[2]), svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r' xmlns:xlink="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\1#{name}-", svg)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{escape(title)}" viewBox="{_view_box(svg)}">'
    return re.sub(r"<svg[^>]*>", head, svg, count=1)


def alone(svg: str) -> str:
    """An inline <svg> as a file of its own, light or dark by the reader's choice."""
    start = svg.index(">") + 1
    return svg[:start] + _ALONE + svg[start:]


def _font(weight: str | None, size: str) -> str:
    return f"font-size: {size}" + (f"; font-weight: {weight}" if weight else "")


def _view_box(svg: str) -> str:
    found = re.search(r'viewBox="([^"]+)"', svg)
    return found[1] if found else "0 0 100 100"
