"""The numbers that the page's script reads: those of a section's cases, and what each figure shows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import colors
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection, PolyCollection, PolyQuadMesh
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from analysis.report import words
from analysis.report.drawing import colour, css, look, ordered, style
from analysis.report.findings import CASE, Findings, times, timings
from analysis.report.load import Section, commit_of, rows_of, run_name
from analysis.statistics.ratios import Ratio, case_ratios, log_ratios
from results.output import visible_in

# Of a section: the table, the figures and the files to download have the same.

SCHEMA = 1
DIGITS = 4
# A baseline costs a pass over all samples and a ratio a case: of more backends, those that ran most cases can be chosen.
MOST_BASELINES = 8
QUANTILES = (0.05, 0.5, 0.95, 0.99)


def rounded(value: Any) -> float | None:
    """With as many digits as the page's data has; None of what is no number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}")


def section_data(found: Findings, older: Sequence[Section] = ()) -> dict[str, Any]:
    """Every case with what each backend took, in SI units, rounded to four digits; null where nothing is known.

    Args:
        found: of the page's own section.
        older: further sections of the same machine, the newest first: what a reader can compare with.

    Returns:
        schema, baseline, baselines; backends: name, colour, symbol, in the order of all legends; cases: id, phase, sizes, and
        by backend seconds with its interval, quantiles of the samples, tokens and FLOP a second, notes, and the speedup over
        each baseline as [value, low, high]. ranks: of each phase on a device the geometric means over `baseline`. older: run,
        label, and by case and backend the seconds with their interval.
    """
    names = ordered(found.cases["backend"])
    baselines = _baselines(found)
    samples = timings(found.section)
    ratios = {name: case_ratios(log_ratios(samples, name, found.statistic), found.statistic) for name in baselines}
    quantiles = {
        tuple(map(str, key)): np.quantile(np.concatenate(list(part)), QUANTILES)
        for key, part in samples.groupby(CASE)["samples"]
    }
    cases: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows_of(found.cases):
        key = str(row["study"]), str(row["case"])
        case = cases.setdefault(key, _case(row, several_studies=found.cases["study"].nunique() > 1))
        backend = str(row["backend"])
        own = (*key, backend)
        case["of"][backend] = {
            "time": [rounded(row[name]) for name in ("seconds", "low", "high")],
            "quantiles": [rounded(value) for value in quantiles[own]],
            "tokens": rounded(row.get("tokens_per_second")),
            "flops": rounded(row.get("flops_per_second")),
            "notes": [words.format_note(str(note)) for note in row["notes"]],
            "speedup": {name: _bounds(each[own]) for name, each in ratios.items() if own in each},
        }
    looks = [{"name": name, "colour": colour(name), "symbol": SYMBOLS.get(style(name).marker, "circle")} for name in names]
    listed = sorted(cases.values(), key=_place)
    names = {case["id"] for case in listed}
    runs = [told for section in older if (told := _older(section, names, found)) is not None]
    ranks = [
        {"of": words.capitalised(found.named(*at)), "speedup": {name: _bounds(each) for name, each in ranking.ratios.items()}}
        for at, ranking in found.rankings.items()
    ]
    return {
        "schema": SCHEMA, "run": run_name(found.section.runs[-1].header), "baseline": found.baseline, "baselines": baselines,
        "backends": looks, "cases": listed, "ranks": ranks, "older": runs,
    }  # fmt: skip


def _older(section: Section, names: Collection[str], found: Findings) -> dict[str, Any] | None:
    """The times of an older section in the cases of a newer one, None where they share none."""
    cases: dict[str, dict[str, list[float | None]]] = {}
    for row in rows_of(times(section, found.statistic)):
        if row["case"] in names:
            bounds = [rounded(row[name]) for name in ("seconds", "low", "high")]
            cases.setdefault(str(row["case"]), {})[str(row["backend"])] = bounds
    if not cases:
        return None
    header = section.runs[-1].header
    other = "" if header.protocol == found.section.protocol else f", protocol {header.protocol}"
    commit = f", commit {commit}" if (commit := commit_of(header)) else ""
    return {"run": run_name(header), "label": f"{header.started[:16].replace('T', ' ')}{commit}{other}", "cases": cases}


def embedded(data: Any) -> Markup:
    """As JSON that can stand in a script element, with characters that cannot be seen written out."""
    text = json.dumps(visible_in(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))


def _baselines(found: Findings) -> list[str]:
    counts = found.cases["backend"].value_counts()
    common = sorted(counts.index, key=lambda name: (name != found.baseline, -counts[name]))[:MOST_BASELINES]
    return ordered(str(name) for name in common)


def _case(row: dict[str, Any], several_studies: bool) -> dict[str, Any]:
    sizes = {"T": row.get("steps"), "B": row.get("batch"), "H": row.get("hidden_size")}
    return {
        "id": str(row["case"]), "study": str(row["study"]) if several_studies else "",
        "phase": words.PHASES.get(str(row["phase"]), str(row["phase"])), "launch": str(row["launch"]),
        "device": str(row["device"]), "dtype": str(row["dtype"]), "cell": str(row.get("cell", "")),
        **{name: None if value is None or pd.isna(value) else int(value) for name, value in sizes.items()}, "of": {},
    }  # fmt: skip


def _place(case: dict[str, Any]) -> tuple[object, ...]:
    phases = list(words.PHASES.values())
    sizes = [case[name] or 0 for name in ("H", "B", "T")]
    phase = phases.index(case["phase"]) if case["phase"] in phases else len(phases)
    return case["study"], case["device"], case["launch"], case["dtype"], case["cell"], phase, *sizes, case["id"]


def _bounds(ratio: Ratio) -> list[float | None]:
    return [rounded(value) for value in (ratio.value, ratio.low, ratio.high)]


# Of a figure: the script draws it again at the width of the reader's window.

PIXELS_PER_INCH = 88
MOST_POINTS = 120  # of a line or an outline; a longer one loses points at equal distances, points without a line never do
# Of matplotlib's markers those that Observable Plot draws too, else a circle; the name of a mark says what it is.
SYMBOLS = {
    "o": "circle", "s": "square", "D": "diamond", "^": "triangle", "v": "triangle2", "P": "plus", "X": "times", "x": "times",
    "p": "hexagon", "h": "hexagon", "H": "hexagon", "d": "diamond2", "*": "star", "|": "tick", "_": "dash", "<": "left",
    ">": "right",
}  # fmt: skip
ANCHORS = {"left": "start", "center": "middle", "right": "end"}

Points = list[list[float | None]]


def chart(figure: Figure) -> dict[str, Any] | None:
    """The panels of a figure that was drawn once.

    Returns:
        keys: the legend, as name, colour, and dashes, symbol or area. panels: title; height in CSS pixels; x and y, each with
        label, type, domain, ticks as [value, text] and the format of values; areas, lines and texts in the coordinates of the
        axes, colours as the page's CSS has them; lines have the names of the legend; keys of their own. None where a figure
        has marks of another kind: then the page shows it as it is.
    """
    drawn = [each for axes in figure.axes for each in (*axes.collections, *axes.images)]
    if not all(isinstance(each, LineCollection | PolyCollection) and not isinstance(each, PolyQuadMesh) for each in drawn):
        return None
    shared = [key for legend in figure.legends for key in _keys(legend)]
    with look():  # ticks are made when they are asked for
        return {"keys": shared, "panels": [_panel(figure, axes, shared) for axes in figure.axes if axes.axison]}


def _keys(legend: Legend | None) -> Iterator[dict[str, Any]]:
    if legend is not None:
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if isinstance(handle, Line2D):
                yield {"name": text.get_text()} | _look(handle)
            elif isinstance(handle, Patch):
                yield {"name": text.get_text(), "stroke": _css(handle.get_facecolor()), "dash": "", "symbol": "area"}


def _look(line: Line2D) -> dict[str, Any]:
    marker = str(line.get_marker())
    _, dash = getattr(line, "_unscaled_dash_pattern")  # noqa: B009 - matplotlib has no public name for it
    return {
        "stroke": _css(line.get_color()), "dash": " ".join(f"{2 * length:g}" for length in dash or ()),
        "symbol": "" if marker in ("None", "none", "", " ") else SYMBOLS.get(marker, "circle"),
    }  # fmt: skip


def _panel(figure: Figure, axes: Axes, shared: list[dict[str, Any]]) -> dict[str, Any]:
    own = list(_keys(axes.get_legend()))
    return {
        "title": axes.get_title(loc="left"),
        "height": round(axes.get_position().height * figure.get_figheight() * PIXELS_PER_INCH),
        "x": _axis(axes.xaxis, axes.get_xlim(), axes.get_xlabel()),
        "y": _axis(axes.yaxis, axes.get_ylim(), axes.get_ylabel() or _label_of_row(axes)),
        "keys": own,
        "areas": [*_patches(axes), *_polygons(axes)],
        "lines": [*_segments(axes), *(made for line in axes.lines if (made := _line(axes, line, [*own, *shared])))],
        "texts": [_text(axes, text) for text in axes.texts if text.get_text()],
    }


def _label_of_row(axes: Axes) -> str:
    """Of the panel at the left of it, where they share an axis."""
    beside = axes.get_shared_y_axes().get_siblings(axes)
    return next((each.get_ylabel() for each in beside if each.get_ylabel()), "")


def _axis(axis: Axis, domain: tuple[float, float], label: str) -> dict[str, Any]:
    low, high = sorted(domain)
    places = [float(place) for place in axis.get_majorticklocs() if low <= place <= high]
    texts = axis.get_major_formatter().format_ticks(places)
    ticks = [[rounded(place), re.sub(r"\$|\\mathdefault|[{}]", "", text)] for place, text in zip(places, texts, strict=True)]
    return {
        "label": label,
        "type": axis.get_scale(),
        "domain": [rounded(end) for end in domain],
        "ticks": ticks,
        "as": _format(texts),
        "grid": any(line.get_visible() for line in axis.get_gridlines()),
    }


def _format(texts: list[str]) -> str:
    """How a value is written, by its ticks: as a power of ten, a share, one of several names, a number."""
    if any(re.fullmatch(r"10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", text) for text in texts):
        return "power"
    if any(text.endswith("%") for text in texts):
        return "percent"
    return "number" if any(re.match(r"[−-]?[\d.]", text) for text in texts) else "name"


def _line(axes: Axes, line: Line2D, keys: list[dict[str, Any]]) -> dict[str, Any] | None:
    is_line = line.get_linestyle() not in ("None", "none", "", " ")
    look, points = _look(line), _points(axes, line, np.column_stack(line.get_data(orig=False)), thinned=is_line)
    drawn = is_line and len(points) > 1
    if not points or not (drawn or look["symbol"]):
        return None
    return look | {
        "name": _named(look, keys), "points": points, "width": rounded(line.get_linewidth()) if drawn else 0,
        "opacity": rounded(line.get_alpha() or 1), "size": rounded(line.get_markersize()),
        "fill": _css(line.get_markerfacecolor()), "edge": _css(line.get_markeredgecolor()),
    }  # fmt: skip


def _named(look: dict[str, Any], keys: list[dict[str, Any]]) -> str:
    """The first entry of the legend that looks so; of a line without markers one whose colour and dash agree."""
    alike = [key["name"] for key in keys if look.items() <= key.items()]
    alike += [key["name"] for key in keys if all(key[part] == look[part] for part in ("stroke", "dash"))]
    return alike[0] if alike else ""


def _segments(axes: Axes) -> Iterator[dict[str, Any]]:
    """Bars of intervals."""
    for drawn in axes.collections:
        if isinstance(drawn, LineCollection):
            tones, widths = drawn.get_colors(), np.atleast_1d(drawn.get_linewidth())
            for place, segment in enumerate(drawn.get_segments()):
                yield {
                    "name": "", "points": _points(axes, drawn, np.asarray(segment)), "symbol": "", "dash": "",
                    "stroke": _css(tones[place % len(tones)]), "width": rounded(float(widths[place % len(widths)])),
                    "opacity": 1,
                }  # fmt: skip


def _polygons(axes: Axes) -> Iterator[dict[str, Any]]:
    for drawn in axes.collections:
        if isinstance(drawn, PolyCollection):
            fills = drawn.get_facecolor()
            for place, path in enumerate(drawn.get_paths()):
                fill = fills[place % len(fills)]
                yield _area(_points(axes, drawn, path.vertices), fill, drawn.get_alpha())


def _patches(axes: Axes) -> Iterator[dict[str, Any]]:
    for patch in axes.patches:
        path = patch.get_path().transformed(patch.get_patch_transform())
        yield _area(_points(axes, patch, path.vertices), patch.get_facecolor(), patch.get_alpha())


def _area(points: Points, fill: Any, alpha: Any) -> dict[str, Any]:
    return {
        "points": points,
        "fill": _css(fill),
        "opacity": rounded(float(alpha if isinstance(alpha, int | float) else fill[3])),
    }


def _text(axes: Axes, text: Any) -> dict[str, Any]:
    ((x, y),) = _points(axes, text, np.array([text.get_position()])) or [[None, None]]
    return {
        "x": x, "y": y, "text": text.get_text(), "anchor": ANCHORS[text.get_ha()], "fill": _css(text.get_color()),
        "bold": text.get_fontweight() in ("bold", 700), "opacity": rounded(text.get_alpha() or 1),
    }  # fmt: skip


def _points(axes: Axes, drawn: Artist, vertices: ArrayLike, thinned: bool = True) -> Points:
    """Vertices in the coordinates of the axes, whatever the artist was placed by; at most `MOST_POINTS` where thinned."""
    placed = drawn.get_data_transform() if isinstance(drawn, Patch) else drawn.get_transform()
    found = np.asarray(vertices, dtype=float).reshape(-1, 2)
    if placed is not axes.transData:
        found = axes.transData.inverted().transform(placed.transform(found))
    found = found[np.isfinite(found).all(axis=1)]
    if thinned and len(found) > MOST_POINTS:
        found = found[np.unique(np.linspace(0, len(found) - 1, MOST_POINTS).round().astype(int))]
    return [[rounded(float(x)), rounded(float(y))] for x, y in found]


def _css(colour: Any) -> str:
    if isinstance(colour, str) and colour == "none":
        return "none"
    return css(colors.to_hex(colour))
