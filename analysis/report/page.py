"""The report: one self-contained HTML page and its Markdown version, made of the same cells, sentences and figures."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.report import claims, markdown, summary, tables, words
from analysis.report import drawing as report_drawing
from analysis.report.data import embedded, section_data
from analysis.report.drawing import Drawing
from analysis.report.findings import Findings, find_out, timings
from analysis.report.load import Section, load, rows_of
from analysis.report.overview import Overview, overview
from analysis.report.rendering import HISTORY_PAGE, REPORT_PAGE, asset, base_assets, covers, markdown_templates, templates
from analysis.report.summary import Answer
from analysis.report.tables import Table
from analysis.statistics.ratios import NOT_COMPARED, Modes, Statistic
from analysis.studies import gradients as gradients_statistics
from analysis.studies import with_figures
from analysis.studies.gradients import tables as gradients_tables
from analysis.studies.memory import figures as memory_figures
from analysis.studies.throughput import figures as throughput_figures
from results import output
from results.store import ROOT, StoreError

# The figures of a section in the report's order; what has nothing to show says so instead.


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure ready for the page: `inline` for HTML, `alone` for a file of its own; widths in CSS pixels."""

    name: str
    title: str
    caption: str
    file: str
    inline: Markup
    alone: str
    least_width: int
    most_width: int

    @property
    def anchor(self) -> str:
        """The figure's id in the page."""
        return f"figure-{self.file.removesuffix('.svg')}"


@dataclass(frozen=True, slots=True)
class Group:
    """Figures under one heading, then perhaps a table with a sentence; `missing` has one for each that could not be drawn."""

    name: str
    title: str
    pictures: tuple[Picture, ...]
    missing: tuple[str, ...]
    table: Table | None = None
    table_text: str = ""


def groups(found: Findings, prefix: str) -> list[Group]:
    """Every figure once per device and launch mode (the roofline also once per data type, memory once per device), so that no
    figure compares eager calls with those of a CUDA graph. prefix: of file names and ids."""
    speed: list[tuple[str, Drawing | str]] = []
    sweeps: list[tuple[str, Drawing | str]] = []
    stream: list[tuple[str, Drawing | str]] = []
    space: list[tuple[str, Drawing | str]] = []
    roofs: list[tuple[str, Drawing | str]] = []
    series = found.section.series
    measured = series[~series["backend"].isin(NOT_COMPARED)]
    devices = sorted(str(device) for device in measured["device"].dropna().unique())
    for device in devices or [""]:
        on = f"-{device}" if len(devices) > 1 else ""
        where = f" on {device}" if on else ""
        of_device = measured[measured["device"] == device]
        space.append((f"memory{on}", memory_figures.draw(of_device) or f"Memory over length{where}: not measured."))
        machine = series[(series["backend"] == "machine") & (series["device"] == device)]
        for launch in [name for name in found.launches if (of_device["launch"] == name).any()] or ["eager"]:
            how = f" ({words.LAUNCHES[launch]})" if "graph" in found.launches else ""
            end = f"{on}-{launch}" if how else on
            drawn = _of_speed(found, device, launch, machine, f"{where}{how}")
            for into, figures in zip((speed, sweeps, stream, roofs), drawn, strict=True):
                into += [(f"{name}{end}", _named(drawing, how)) for name, drawing in figures]
    named = (
        ("speed", "Speedup", speed), ("throughput", "Throughput", sweeps), ("latency", "Latency", stream),
        ("memory", "Memory", space), ("roofline", "Roofline", roofs or [("", "Roofline: not measured.")]),
    )  # fmt: skip
    if not found.compares:  # what nobody asked for is not missing
        named = [(name, title, kept) for name, title, drawn in named if (kept := _drawn(drawn))]
    named = [*studied(series, found.section.records), *named]
    made = [_group(name, title, drawn, prefix) for name, title, drawn in named]
    return [*[_with_table(group, series) for group in made], *_launches(found)]


Figures = list[tuple[str, Drawing | str]]


def _of_speed(found: Findings, device: str, launch: str, machine: pd.DataFrame, where: str) -> tuple[Figures, ...]:
    """Of one device and launch mode: ratios and who is fastest; throughput; latency; rooflines."""
    cases = found.cases[(found.cases["device"] == device) & (found.cases["launch"] == launch)]
    times = timings(found.section)
    times = times[(times["device"] == device) & (times["launch"] == launch)]
    rankings = {
        horizon_figures: ranking
        for (its, horizon_figures, how), ranking in found.rankings.items()
        if (its, how) == (device, launch)
    }
    ratio = throughput_figures.draw_ratio(cases, rankings, found.baseline or "")
    fastest = throughput_figures.draw_heatmap(cases, times, found.statistic)
    speed = [
        ("ratios", ratio or f"Speedup{where}: not measured: fewer than two backends share a case."),
        (
            "fastest",
            fastest or f"Fastest backend by batch and hidden size{where}: not measured: no grid of both with two backends.",
        ),
    ]
    sweeps = [
        (
            f"throughput-{over}",
            throughput_figures.draw_throughput(cases, over)
            or f"Throughput over {label}{where}: not measured: no two cases differ in it alone.",
        )
        for over, label in throughput_figures.LABELS.items()
    ]
    stream = [("latency", throughput_figures.draw_latency(times) or f"Streaming latency{where}: not measured.")]
    roofs = []
    for dtype in cases["dtype"].unique():
        drawing = throughput_figures.draw_roofline(cases[cases["dtype"] == dtype], machine[machine["dtype"] == dtype])
        missing = f"Roofline of {dtype}{where}: not measured: it needs both peaks, gemm and copy, and a timed case."
        roofs.append((f"roofline-{dtype}", drawing or missing))
    return speed, sweeps, stream, roofs


def _named(drawing: Drawing | str, how: str) -> Drawing | str:
    return drawing if isinstance(drawing, str) or not how else replace(drawing, title=drawing.title + how)


def _launches(found: Findings) -> list[Group]:
    """What a CUDA graph saves, where both launch modes of a case were timed."""
    table = tables.table(found)
    return [Group("launches", "Eager calls and CUDA graphs", (), (), table, tables.TEXT)] if table.rows else []


def _drawn(figures: list[tuple[str, Drawing | str]]) -> list[tuple[str, Drawing | str]]:
    return [(name, drawing) for name, drawing in figures if not isinstance(drawing, str)]


def _with_table(group: Group, series: pd.DataFrame) -> Group:
    table = gradients_tables.decay_table(series) if group.name == "gradients" else None
    return replace(group, table=table, table_text=gradients_tables.TEXT) if table is not None and table.rows else group


def studied(series: pd.DataFrame, records: pd.DataFrame) -> list[tuple[str, str, list[tuple[str, Drawing | str]]]]:
    """The figures of studies that measure something else than backends' speed, where they ran at all, by group and title."""
    groups: dict[tuple[str, str], list[tuple[str, Drawing | str]]] = {}
    for module in with_figures():
        for file, draw in module.FIGURES.items():
            if (drawing := draw(series, records)) is not None:
                groups.setdefault(module.SECTION, []).append((file, drawing))
    return [(name, title, drawn) for (name, title), drawn in groups.items()]


def _group(name: str, title: str, drawn: Iterable[tuple[str, Drawing | str]], prefix: str) -> Group:
    pictures, missing = [], []
    for file, drawing in drawn:
        if isinstance(drawing, str):
            missing.append(drawing)
            continue
        inline = report_drawing.inline(drawing.figure, f"{prefix}-{file}", drawing.title)
        points = drawing.figure.get_figwidth() * report_drawing.POINTS_PER_INCH
        widths = round(points * 1.1), round(points * 1.42)
        pictures.append(
            Picture(
                file,
                drawing.title,
                drawing.caption,
                f"{prefix}-{file}.svg",
                Markup(inline),
                report_drawing.alone(inline),
                *widths,
            )
        )
    return Group(name, title, tuple(pictures), tuple(missing))


# The report: one self-contained HTML page and its Markdown twin, both made of the same cells and sentences.

FOLDER = Path("report")
MOST_MODES = 8  # told one by one


@dataclass(frozen=True, slots=True)
class View:
    """One section as the templates need it; name is an identifier, unique in the page."""

    name: str
    title: str
    speed: bool  # whether any backend was asked for it
    asked: str
    overview: Overview
    data: Markup
    fastest: list[Answer]
    quality: list[Answer]
    contents: list[tuple[str, str]]
    backends: Table
    backends_text: str
    groups: list[Group]
    ceilings: Table
    cases: Table
    cases_text: str
    cases_head: int
    refusals: Table
    notes: list[str]
    environment: Table
    commands: list[str]
    sources: str


@dataclass(frozen=True, slots=True)
class Report:
    """Where the two twins lie."""

    html: Path
    markdown: Path


def build(
    paths: Sequence[Path] = (),
    out: Path = FOLDER,
    baseline: str | None = None,
    statistic: Statistic = "median",
    root: Path = ROOT,
) -> Report:
    """Write the report, report.html and report.md with its figures.

    Args:
        paths: run files or folders; without any, the latest run below `root`.
        out: folder to write to; it is made where it is not there.
        baseline: backend that speedups are over; without one, that which shares most cases with others.
        statistic: statistic of a call's samples: median, lower_quartile or minimum.
        root: folder of results.

    Returns:
        Where the page and its Markdown version lie.

    Raises:
        StoreError: nothing to read, or nowhere to write.
        UnknownBaseline: the baseline was not timed.
        UnknownLocation: there is no such statistic.
    """
    sections = load(paths, root)
    shared = _shared(sections, baseline, statistic)
    views, machines = shared["views"], [section.machine for section in sections]
    shared["history"] = HISTORY_PAGE if covers(out / HISTORY_PAGE, machines) else ""
    report = Report(out / REPORT_PAGE, out / "report.md")
    try:
        out.mkdir(parents=True, exist_ok=True)
        page = templates().get_template("report.html.j2").render(shared, **_scripts())
        output.write_text(report.html, page)
        for view in views:
            for picture in (picture for group in view.groups for picture in group.pictures):
                output.write_text(out / picture.file, picture.alone)
        output.write_text(report.markdown, _markdown(shared, out / "report.png"))
    except OSError as error:
        raise StoreError(f"cannot write the report to {out}: {error.strerror}; choose another folder with --out") from error
    return report


def _markdown(shared: dict[str, Any], image: Path) -> str:
    """The version for pull requests, whose chart is written to `image`."""
    template = markdown_templates().get_template("report.md.j2")
    folded = [(f"Claims: {shared['tally']}", template.render(shared, part="claims"))] if shared["tested"] else []
    folded += [(f"All results: {view.title}", template.render(shared, part="view", view=view)) for view in shared["views"]]
    drawn = markdown.chart(shared["founds"], image)
    overviews = [view.overview for view in shared["views"]]
    return markdown.render(shared["founds"], overviews, folded, shared["made"], image.name if drawn else "")


def live(path: Path, state: Mapping[str, Any]) -> str:
    """The page of a run that is still going: what is on disk so far, without figures, which take long to draw.

    Args:
        path: the run's file.
        state: version, state, count, latest, done and total, as the page shows them.
    """
    shared = _shared(load([path]), None, "median", figures=False)
    page = templates().get_template("live.html.j2")
    return page.render(shared, **_scripts(), history="", state=state, live=asset("live.js"))


def _scripts() -> dict[str, Markup]:
    return base_assets() | {"explore": asset("explore.js"), "plot": asset("../vendor/plot.js")}


def _shared(sections: Sequence[Section], baseline: str | None, statistic: Statistic, figures: bool = True) -> dict[str, Any]:
    """What both versions of the report are made of."""
    founds = [find_out(section, baseline, statistic) for section in sections]
    views = [_view(index, found, sections, figures) for index, found in enumerate(founds)]
    tested = claims.tested(sections)
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    machines = list(dict.fromkeys(section.title for section in sections))
    title = f"LSTM backends, measured on {words.join_list(machines)}"
    links = [{picture.name: picture.anchor for group in view.groups for picture in group.pictures} for view in views]
    return {
        "founds": founds, "views": views, "title": title, "machines": machines, "board": claims.board(tested, links),
        "tally": claims.tally(tested), "audits": _audits(sections), "made": made,
        "location": words.STATISTICS[statistic], "tested": bool(tested),
    }  # fmt: skip


def _audits(sections: Sequence[Section]) -> list[tuple[str, Table]]:
    """For each machine that measured initialisations their table."""
    machines = dict.fromkeys(section.title for section in sections)
    found = {name: gradients_tables.of_machine([section for section in sections if section.title == name]) for name in machines}
    return [(name, table) for name, table in found.items() if table.rows]


def _title(section: Section, sections: Sequence[Section]) -> str:
    """The machine; with its studies where sections of the same machine have to be told apart."""
    if sum(other.title == section.title for other in sections) == 1:
        return section.title
    return f"{section.title}: {words.join_list(summary.studies(section) or [run.header.run for run in section.runs])}"


def _view(index: int, found: Findings, sections: Sequence[Section], figures: bool) -> View:
    section, name = found.section, f"s{index}"
    cases, drawn = tables.cases(found), groups(found, name) if figures else []
    contents = [("backends-title", "Backends"), *((group.name, group.title) for group in drawn)]
    contents += [("cases-title", "All cases")] if found.asks_for_speed else []
    contents += [("refusals-title", "Skipped and failed"), ("environment-title", "Environment")]
    return View(
        name=name,
        title=_title(section, sections),
        speed=found.asks_for_speed,
        asked=summary.requested(section),
        overview=overview(found),
        data=embedded(section_data(found)) if found.compares and not found.cases.empty else Markup(""),
        fastest=summary.fastest(found),
        quality=summary.quality(found),
        contents=contents,
        backends=tables.backends(found),
        backends_text=summary.about_backends(found),
        groups=drawn,
        ceilings=tables.ceilings(section),
        cases=cases,
        cases_text=summary.about_cases(found),
        cases_head=next((place for place, column in enumerate(cases.columns) if column.label == "Backend"), 0),
        refusals=tables.refusals(section),
        notes=notes(found),
        environment=tables.environment(section),
        commands=summary.commands(section),
        sources=words.join_list(run.path.name for run in section.runs),
    )


def notes(found: Findings) -> list[str]:
    """What a careful reader must know: how runs were joined, what did not converge, what is bimodal."""
    said = list(found.section.remarks)
    bimodal = [row for row in rows_of(found.cases) if row["modes"] is not None]
    for row in bimodal[:MOST_MODES]:
        modes: Modes = row["modes"]
        said.append(
            f"{row['backend']} on {row['case']} is bimodal: {words.format_si(modes.lower, 's')} and "
            f"{words.format_si(modes.upper, 's')} ({words.format_percent(modes.upper_share)} of the samples in the upper mode)."
        )
    if len(bimodal) > MOST_MODES:
        said.append(f"{words.format_count(len(bimodal) - MOST_MODES, 'more timing')} bimodal; the table of cases marks them.")
    said += gradients_statistics.gap_sentences(found.section.series)
    counted = Counter(note for notes in found.cases["notes"] for note in notes)
    said += [
        f"{words.capitalised(words.format_note(note))}: {words.format_count(number, 'timing')}."
        for note, number in sorted(counted.items())
    ]
    return said
