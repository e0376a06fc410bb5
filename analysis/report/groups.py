"""The figures of a section in the report's order, in groups; what has nothing to show says so instead."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.report import drawing as report_drawing
from analysis.report import tables, words
from analysis.report.data import chart, embedded
from analysis.report.drawing import Drawing
from analysis.report.findings import Findings, timings
from analysis.report.load import Section, commit_of
from analysis.report.tables import Table
from analysis.statistics.ratios import NOT_COMPARED
from analysis.studies import with_figures
from analysis.studies.memory import figures as memory_figures
from analysis.studies.throughput import figures as throughput_figures
from analysis.studies.throughput import maps

LONGEST_LEAD = 260  # characters of a caption that are always seen


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
    chart: Markup  # the same as data, for the page's script
    source: str = ""  # the run, where it is an older one

    @property
    def lead(self) -> str:
        """The first sentences of the caption, as many as fit in some two lines; the page folds the others away."""
        lead = ""
        for sentence in re.split(r"(?<=\.) (?=[A-Z])", self.caption):
            if lead and len(lead) + len(sentence) > LONGEST_LEAD:
                break
            lead = f"{lead} {sentence}".strip()
        return lead

    @property
    def anchor(self) -> str:
        """The figure's id in the page."""
        return f"figure-{self.name}"


@dataclass(frozen=True, slots=True)
class Group:
    """Figures under one heading, then perhaps a table with a sentence; `missing` has one for each that could not be drawn."""

    name: str
    title: str
    pictures: tuple[Picture, ...]
    missing: tuple[str, ...]
    table: Table | None = None
    table_text: str = ""
    cards: tuple[Any, ...] = ()  # as `overview.Card`
    study: bool = False  # of a study that measures something else than the speed of backends


def groups(found: Findings, older: Sequence[Section] = (), prefix: str = "") -> list[Group]:
    """Every figure once per device and launch mode (the roofline also once per data type, memory once per device), so that no
    figure compares eager calls with those of a CUDA graph.

    Args:
        found: of the page's own section.
        older: further sections of the same machine, the newest first: figures of studies that `found` has not come from them.
        prefix: of file names.
    """
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
    made = [_group(name, title, drawn, prefix) for name, title, drawn in named]
    return [*made, *_launches(found), *_reduced(found.section), *_of_studies([found.section, *older], prefix)]


def _of_studies(sections: Sequence[Section], prefix: str) -> list[Group]:
    """Each figure from the first section that has it."""
    made: dict[str, Group] = {}
    for place, section in enumerate(sections):
        known = {picture.name for group in made.values() for picture in group.pictures}
        for name, title, drawn in studied(section.series, section.records, known):
            group = replace(_group(name, title, drawn, prefix, _source(section) if place else ""), study=True)
            before = made.get(name, _with_table(replace(group, pictures=()), section.series))
            made[name] = replace(before, pictures=(*before.pictures, *group.pictures))
    order = [module.SECTION[0] for module in with_figures()]
    return sorted(made.values(), key=lambda group: order.index(group.name))


def _with_table(group: Group, series: pd.DataFrame) -> Group:
    """With the table and the cards that a study's figures have beside them, if any."""
    for module in with_figures():
        if module.SECTION[0] == group.name and hasattr(module, "TABLE"):
            make, text = module.TABLE
            group = replace(group, table=made, table_text=text) if (made := make(series)).rows else group
        if module.SECTION[0] == group.name and hasattr(module, "CARDS"):
            group = replace(group, cards=tuple(module.CARDS(series)))
    return group


def _source(section: Section) -> str:
    """`Measured 2026-11-25, commit c70bcf2.`"""
    days = words.join_list(list(dict.fromkeys(run.header.started[:10] for run in section.runs)))
    commit = commit_of(section.runs[-1].header)
    return f"Measured {days}{f', commit {commit}' if commit else ''}."


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
    fastest = maps.draw_heatmap(cases, times, found.statistic)
    speed = [
        ("speedup-by-phase", ratio or f"Speedup{where}: not measured: fewer than two backends share a case."),
        (
            "fastest-by-size",
            fastest or f"Fastest backend by batch and hidden size{where}: not measured: no grid of both with two backends.",
        ),
    ]
    if (own := maps.draw_own(cases, times, found.statistic)) is not None:
        speed.append(("speedup-map", own))
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


def _reduced(section: Section) -> list[Group]:
    """What backends that compute in less than was asked took, where there are some."""
    table = tables.reduced(section)
    return [Group("reduced", "Lower precision", (), (), table, tables.REDUCED_TEXT)] if table.rows else []


def _drawn(figures: list[tuple[str, Drawing | str]]) -> list[tuple[str, Drawing | str]]:
    return [(name, drawing) for name, drawing in figures if not isinstance(drawing, str)]


def studied(
    series: pd.DataFrame, records: pd.DataFrame, known: Collection[str] = ()
) -> list[tuple[str, str, list[tuple[str, Drawing | str]]]]:
    """The figures of studies that measure something else than backends' speed, where they ran at all, by group and title.

    known: names of figures that are not wanted.
    """
    groups: dict[tuple[str, str], list[tuple[str, Drawing | str]]] = {}
    for module in with_figures():
        for file, draw in module.FIGURES.items():
            if file not in known and (drawing := draw(series, records)) is not None:
                groups.setdefault(module.SECTION, []).append((file, drawing))
    return [(name, title, drawn) for (name, title), drawn in groups.items()]


def _group(name: str, title: str, drawn: Iterable[tuple[str, Drawing | str]], prefix: str, source: str = "") -> Group:
    pictures, missing = [], []
    for file, drawing in drawn:
        if isinstance(drawing, str):
            missing.append(drawing)
            continue
        inline = report_drawing.inline(drawing.figure, file, drawing.title)
        points = drawing.figure.get_figwidth() * report_drawing.POINTS_PER_INCH
        widths = round(points * 1.1), round(points * 1.42)
        pictures.append(
            Picture(
                file,
                drawing.title,
                drawing.caption,
                f"{prefix}{file}.svg",
                Markup(inline),
                report_drawing.alone(inline),
                *widths,
                embedded(data) if (data := chart(drawing.figure)) else Markup(""),
                source,
            )
        )
    return Group(name, title, tuple(pictures), tuple(missing))
