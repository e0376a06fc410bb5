"""The history as a page: series over commits, their changes, who made each, and the paired comparison that judged it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis.regression.changes import LEAST_POINTS, Change
from analysis.regression.comparison import change as format_change
from analysis.regression.comparison import interval
from analysis.regression.history import UNKNOWN, Commit, Judged, Point, Series
from analysis.report import drawing, words
from analysis.report.data import SYMBOLS, embedded
from analysis.report.rendering import HISTORY_PAGE, REPORT_PAGE, asset, base_assets, covers, templates
from analysis.report.tables import Cell, Column, Table
from analysis.statistics.decision import quantile
from results import output
from results.asv_files import STUDY
from results.store import StoreError

DIGITS = 5
MOST_PANELS = 12  # of the static figure; the tables have every series
COLUMNS = 3


def relative(series: Series) -> list[tuple[float, float | None, float | None]]:
    """Each point's time over the first one's, with its 95 % interval over replicates; None where one replicate gives none.

    Of a point that asv measured in one process it is over the samples of that.
    """
    reference = series.points[0].seconds
    return [(point.seconds / reference, *_bounds(point, reference)) for point in series.points]


def _bounds(point: Point, reference: float) -> tuple[float | None, float | None]:
    error = point.standard_error
    if error is None:
        return None, None
    half = math.exp(quantile(0.025, point.degrees) * error)
    return point.seconds / reference / half, point.seconds / reference * half


def build(
    series: Sequence[Series],
    judged: Sequence[Judged],
    commits: Sequence[Commit],
    out: Path,
    *,
    not_searched: str | None = None,
    remarks: Sequence[str] = (),
    suspected: Sequence[Judged] = (),
) -> Path:
    """Write the history page, history.html.

    Args:
        series: each of one case, backend, machine and fingerprint.
        judged: the changes of the series.
        commits: of the branch, oldest first; what a series has beyond them is shown as unknown.
        out: folder to write to; it is made where it is not there.
        not_searched: why change points were not searched, where they were not.
        remarks: what is stored and is not in the series.
        suspected: newest points beyond the usual, which no detector can tell yet.

    Raises:
        StoreError: nowhere to write.
    """
    known = {commit.commit: commit for commit in commits}
    shown = [one for one in series if one.points]
    machines = list(dict.fromkeys(one.machine for one in shown))
    page = templates().get_template("history.html.j2").render(
        **base_assets(),
        scripts=[asset(name) for name in ("../vendor/plot.js", "charts.js", "history.js")],
        title=title_of(judged, shown, not_searched),
        machines=machines, eyebrow=_eyebrow(shown, known), figure=_figure(shown, judged), captions=_caption(shown, judged),
        changes=changes_table("changes", judged, known), suspected=changes_table("suspected", suspected, known),
        few=_few(shown), series=series_table(shown), not_searched=not_searched, remarks=remarks,
        commands=_to_confirm([*judged, *suspected]),
        data=embedded(page_data(shown, judged, known)), report=REPORT_PAGE if covers(out / REPORT_PAGE, machines) else "",
    )  # fmt: skip
    try:
        out.mkdir(parents=True, exist_ok=True)
        output.write_text(out / HISTORY_PAGE, page)
    except OSError as error:
        raise StoreError(f"cannot write the history to {out}: {error.strerror}; choose another folder with --to") from error
    return out / HISTORY_PAGE


def page_data(series: Sequence[Series], judged: Sequence[Judged], known: Mapping[str, Commit]) -> dict[str, Any]:
    """What the page's script reads: commits in order, and each series' relative times as [commit, value, low, high]."""
    order = {commit: place for place, commit in enumerate(known)}
    met = dict.fromkeys(point.commit for one in series for point in one.points)
    used = sorted(met, key=lambda name: order.get(name, len(order)))
    place = {commit: index for index, commit in enumerate(used)}
    commits = [known.get(name) or Commit(name, name[:7]) for name in used]
    of = {id(one): [each for each in judged if each.series is one] for one in series}
    return {
        "schema": 1,
        "commits": [{"short": one.short, "author": one.author, "date": one.date, "subject": one.subject} for one in commits],
        "series": [
            {
                "id": f"{one.key.case} {one.key.backend} {one.fingerprint}", "case": one.key.case, "study": one.key.study,
                "backend": one.key.backend, "machine": one.machine, "fingerprint": one.fingerprint,
                "colour": drawing.colour(one.key.backend),
                "symbol": SYMBOLS.get(drawing.style(one.key.backend).marker, "circle"),
                "first": _rounded(one.points[0].seconds),
                "points": [
                    [place[point.commit], *map(_rounded, values)]
                    for point, values in zip(one.points, relative(one), strict=True)
                ],
                "changes": [
                    {"at": place[each.first], "change": format_change(each.change.change), "mark": each.change.mark,
                     "kind": each.change.kind, "outcome": each.outcome, "compared": _compared(each)}
                    for each in of[id(one)]
                ],
            }
            for one in series
        ],
    }  # fmt: skip


def changes_table(name: str, judged: Sequence[Judged], known: Mapping[str, Commit]) -> Table:
    """A row a change: what was found, at which commit and by whom, and what a paired comparison said."""
    columns = (
        Column("Case"), Column("Backend"), Column("Change", True, "of the time"), Column("Found", False, "by the detectors"),
        Column("Paired comparison"), Column("Commit"), Column("Date"), Column("Author"), Column("Subject"),
    )  # fmt: skip
    rows = []
    for each in judged:
        commit = known.get(each.first) or Commit(each.first, each.first[:7])
        tone = {"confirmed": "slower" if each.change.slower else "faster"}.get(each.outcome, "undecided")
        rows.append(
            (
                Cell(each.series.key.case),
                Cell(each.series.key.backend, backend=each.series.key.backend),
                Cell(format_change(each.change.change), each.change.change),
                Cell(_found(each.change)),
                Cell(_compared(each), tone=tone),
                Cell(commit.short),
                Cell(commit.date[:10]),
                Cell(commit.author),
                Cell(commit.subject),
            )
        )
    return Table(name, columns, tuple(rows))


def series_table(series: Sequence[Series]) -> Table:
    """A row a series: how many commits, where its time began and ended, and the newest relative time with its interval."""
    columns = (
        Column("Case"), Column("Backend"), Column("Machine"), Column("Environment"), Column("Commits", True),
        Column("First", True), Column("Newest", True), Column("Newest over first", True, "95 % CI"),
    )  # fmt: skip
    rows = []
    for one in series:
        value, low, high = relative(one)[-1]
        rows.append(
            (
                Cell(one.key.case),
                Cell(one.key.backend, backend=one.key.backend),
                Cell(one.machine),
                Cell(one.fingerprint),
                Cell(str(len(one.points)), len(one.points)),
                Cell(words.format_si(one.points[0].seconds, "s"), one.points[0].seconds),
                Cell(words.format_si(one.points[-1].seconds, "s"), one.points[-1].seconds),
                Cell(words.format_factor(value, low, high), value),
            )
        )
    return Table("series", columns, tuple(rows))


def _found(change: Change) -> str:
    return {
        "red": "step, by both detectors", "amber": "drift" if change.kind == "drift" else "step, by one detector",
        "grey": "recovered later",
    }[change.mark]  # fmt: skip


def _compared(each: Judged) -> str:
    if each.comparison is None:
        return each.outcome
    decision = each.comparison.decision
    pairs = words.format_count(decision.pairs, "pair")
    said = f"{interval(decision)}, {pairs}" if decision.change is not None else decision.reason
    return f"{each.outcome}: {said}"


def title_of(judged: Sequence[Judged], series: Sequence[Series], not_searched: str | None) -> str:
    """What matters most first: confirmed slow-downs, then speed-ups, then what no comparison has judged."""
    if not_searched:
        return "Times over commits; changes not searched"
    counts = Counter(
        f"{'slow-down' if each.change.slower else 'speed-up'} {each.outcome}"
        if each.outcome == "confirmed"
        else f"change {each.outcome}"
        for each in judged
        if each.change.mark != "grey"
    )
    if not counts:
        searched = [one for one in series if len(one.points) >= LEAST_POINTS]
        if not searched:
            return "Times over commits; too few of them to search for changes"
        return f"No lasting change in {words.format_count(len(searched), 'series', 'series')}"
    order = ("slow-down confirmed", "speed-up confirmed", "change refuted", "change undecided", "change not compared")
    said = [(counts[name], *name.split(" ", 1)) for name in order if counts[name]]
    return words.join_list(f"{words.format_count(number, noun)} {outcome}" for number, noun, outcome in said)


def _to_confirm(judged: Sequence[Judged]) -> list[str]:
    lasting = [each for each in judged if each.change.mark != "grey" and each.outcome == "not compared"]
    return list(dict.fromkeys(each.confirm for each in lasting if each.confirm))


def _few(series: Sequence[Series]) -> str:
    """How many series are too short for the detectors."""
    short = sum(len(one.points) < LEAST_POINTS for one in series)
    return f"Not searched: {short} of {len(series)} series, of fewer than {LEAST_POINTS} commits." if short else ""


def _eyebrow(series: Sequence[Series], known: Mapping[str, Commit]) -> str:
    used = {point.commit for one in series for point in one.points}
    dates = sorted(commit.date[:10] for commit in known.values() if commit.commit in used and commit.date != UNKNOWN)
    machines = list(dict.fromkeys(one.machine for one in series))
    counted = f"{words.format_count(len(series), 'series', 'series')}, {words.format_count(len(used), 'commit')}"
    return " · ".join(["History", *machines, counted, f"{dates[0]} to {dates[-1]}" if dates else "dates unknown"])


def _caption(series: Sequence[Series], judged: Sequence[Judged]) -> str:
    shown = min(len(series), MOST_PANELS)
    some = f"{shown} of {len(series)} series, those with changes first. " if shown < len(series) else ""
    return (
        f"{some}Median time over replicates, over that of the first commit; bars are 95 % t-intervals over replicates, each a "
        "fresh process. A dashed line is the first commit of a new level; commits are one step apart whatever their dates."
        + (
            " Bars of asv’s numbers are over the samples of one process."
            if any(one.key.study == STUDY for one in series)
            else ""
        )
        + ("" if judged else " No change was found.")
    )


def _figure(series: Sequence[Series], judged: Sequence[Judged]) -> Markup:
    """The static figure as an <svg> element: shown without JavaScript and in print."""
    lasting = Counter(id(each.series) for each in judged if each.change.mark != "grey")
    chosen = sorted(series, key=lambda one: -lasting[id(one)])[:MOST_PANELS]
    columns = min(COLUMNS, max(len(chosen), 1))
    rows = max(math.ceil(len(chosen) / columns), 1)
    with drawing.look():
        figure, grid = drawing.panels(columns, rows, share_y=False)
        cells = [axes for row in grid for axes in row]
        for axes, one in zip(cells, chosen, strict=False):
            _panel(axes, one, [each for each in judged if each.series is one])
        drawing.blank(cells[len(chosen) :])
        return Markup(drawing.inline(figure, "history", "Relative time over commits"))


def _panel(axes: Axes, series: Series, judged: Sequence[Judged]) -> None:
    values = relative(series)
    places = range(1, len(values) + 1)
    look = drawing.style(series.key.backend)
    for place, (_, low, high) in zip(places, values, strict=True):
        if low is not None and high is not None:
            axes.plot([place, place], [low, high], color=look.colour, lw=1, alpha=0.6)
    axes.plot(places, [value for value, _, _ in values], look.marker, color=look.colour, markersize=3)
    axes.axhline(1, color=drawing.FAINT, lw=0.8)
    for each in judged:
        ink = drawing.FAINT if each.change.mark == "grey" else drawing.INK
        axes.axvline(each.change.index + 0.5, color=ink, lw=0.9, linestyle=(0, (3, 2)))
        if each.change.mark != "grey":
            axes.annotate(
                format_change(each.change.change), (each.change.index + 0.5, 1), xycoords=axes.get_xaxis_transform(),
                xytext=(0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=8.5,
            )  # fmt: skip
    axes.set_title(f"{_short(series.key.case)}\n{series.key.backend}", pad=18)
    axes.set_xlabel("commit, oldest first")
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}×"))


def _short(case: str, most: int = 44) -> str:
    return case if len(case) <= most else f"{case[: most - 1]}…"


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")
