"""The report: for each machine one self-contained HTML page and its Markdown version, made of the same cells and figures."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.report import claims, summary, tables, words
from analysis.report.data import embedded, section_data
from analysis.report.drawing import DARK, colour
from analysis.report.findings import Findings, find_out, timings
from analysis.report.groups import Group, groups
from analysis.report.load import Section, load, rows_of, run_name, weight
from analysis.report.overview import Overview, machine_name, overview
from analysis.report.summary import Answer
from analysis.report.tables import Cell, Column, Table
from analysis.statistics.quantities import Word
from analysis.statistics.ratios import Modes, Statistic
from analysis.studies import gradients as gradients_statistics
from analysis.studies.gradients import tables as gradients_tables
from results import output
from results.output import in_markdown, without_html
from results.store import ROOT, StoreError

FOLDER = Path("report")
MOST_MODES = 8  # told one by one
SCRIPTS = ("report.js", "../vendor/plot.js", "charts.js", "explore.js")


@dataclass(frozen=True, slots=True)
class View:
    """The page of one machine as the templates need it: its newest run, with figures of studies that older runs have."""

    title: str  # as records name the machine
    machine: str
    file: str
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
    audit: Table
    claims: list[claims.Card]
    board: Table
    tally: str
    counted: dict[Word, int]
    ceilings: Table
    cases: Table
    cases_text: str
    cases_head: int
    refusals: Table
    notes: list[str]
    environment: Table
    older: Table
    commands: list[str]
    sources: str


@dataclass(frozen=True, slots=True)
class Report:
    """Where the page of the machine whose run is the newest lies, its Markdown version, and the pages of other machines."""

    html: Path
    markdown: Path
    others: tuple[Path, ...] = ()


def build(
    paths: Sequence[Path] = (),
    out: Path = FOLDER,
    baseline: str | None = None,
    statistic: Statistic = "median",
    root: Path = ROOT,
) -> Report:
    """Write the report, report.html and report.md with its figures; of further machines report-MACHINE.html and so on.

    Args:
        paths: run files or folders; without any, the latest run below `root`.
        out: folder to write to; it is made where it is not there.
        baseline: backend that speedups are over; without one, that which shares most cases with others.
        statistic: statistic of a call's samples: median, lower_quartile or minimum.
        root: folder of results.

    Returns:
        Where the pages and their Markdown versions lie.

    Raises:
        StoreError: nothing to read, or nowhere to write.
        UnknownBaseline: the baseline was not timed.
        UnknownLocation: there is no such statistic.
    """
    machines = _machines(load(paths, root))
    files = _files([sections[0].title for sections in machines])
    views = [_view(sections, file, baseline, statistic) for sections, file in zip(machines, files, strict=True)]
    templates = Environment(
        loader=PackageLoader("analysis.report"), autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    plain = templates.overlay(finalize=lambda value: without_html(value) if isinstance(value, str) else value)
    plain.filters = templates.filters | {"cell": in_markdown}
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    shared = {"made": made, "location": words.STATISTICS[statistic], "colour": colour, "dark": Markup(DARK)}
    page = {"style": _text("report.css"), "scripts": [_text(name) for name in SCRIPTS]}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for view in views:
            own = shared | {"view": view, "others": [other for other in views if other is not view]}
            output.write_text(out / f"{view.file}.html", templates.get_template("report.html.j2").render(own, **page))
            for picture in (picture for group in view.groups for picture in group.pictures):
                output.write_text(out / picture.file, picture.alone)
            output.write_text(out / f"{view.file}.md", plain.get_template("report.md.j2").render(own))
    except OSError as error:
        raise StoreError(f"cannot write the report to {out}: {error.strerror}; choose another folder with --out") from error
    return Report(out / "report.html", out / "report.md", tuple(out / f"{view.file}.html" for view in views[1:]))


def _machines(sections: Sequence[Section]) -> list[list[Section]]:
    """The sections of each machine, the page's own first and the others from the newest on; the newest machine first.

    A page is of the newest run that compares backends; of a smoke run, whose numbers mean little, only where there is no other.
    """

    def rank(section: Section) -> tuple[bool, int, str]:
        newest = section.runs[-1].header
        return timings(section)["backend"].nunique() > 1, weight(newest), newest.started

    machines: dict[str, list[Section]] = {}
    for section in sorted(sections, key=lambda section: section.runs[-1].header.started, reverse=True):
        machines.setdefault(section.title, []).append(section)
    pages = []
    for own in machines.values():
        first = max(own, key=rank)
        pages.append([first, *(section for section in own if section is not first)])
    return pages


def _files(titles: Sequence[str]) -> list[str]:
    """Names without ending: of the first page `report`, of the others with their machine's name."""
    names = ["report"]
    for title in titles[1:]:
        plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "machine"
        number = sum(name == f"report-{plain}" or name.startswith(f"report-{plain}.") for name in names)
        names.append(f"report-{plain}" + (f".{number + 1}" if number else ""))
    return names


def _view(sections: Sequence[Section], file: str, baseline: str | None, statistic: Statistic) -> View:
    section, *older = sections
    found = find_out(section, baseline, statistic)
    figures = groups(found, older, "" if file == "report" else f"{file.removeprefix('report-')}-")
    tested = claims.tested(sorted(sections, key=lambda each: each.runs[-1].header.started))
    cases, audit = tables.cases(found), gradients_tables.of_machine(sections)
    data = section_data(found, older) if found.compares and not found.cases.empty else None
    contents = [(group.name, group.title) for group in figures if not group.study]
    contents[1:1] = [("explore", "Explore")] if data else []
    contents += [("studies", "Studies")] if any(group.study for group in figures) else []
    contents += [("claims", "Claims")] if tested else []
    contents += [("results", "All results")] if found.asks_for_speed else []
    contents += [("environment", "Environment")]
    return View(
        title=section.title,
        machine=machine_name(section),
        file=file,
        speed=found.asks_for_speed,
        asked=summary.requested(section),
        overview=overview(found),
        data=embedded(data) if data else Markup(""),
        fastest=summary.fastest(found),
        quality=summary.quality(found),
        contents=contents,
        backends=tables.backends(found),
        backends_text=summary.about_backends(found),
        groups=figures,
        audit=audit,
        claims=claims.cards(tested, {picture.name: picture.anchor for group in figures for picture in group.pictures}),
        board=claims.board(tested),
        tally=claims.tally(tested),
        counted=claims.counted(tested),
        ceilings=tables.ceilings(section),
        cases=cases,
        cases_text=summary.about_cases(found),
        cases_head=next((place for place, column in enumerate(cases.columns) if column.label == "Backend"), 0),
        refusals=tables.refusals(section),
        notes=notes(found),
        environment=tables.environment(section),
        older=_older(older),
        commands=summary.commands(section),
        sources=words.join_list(run.path.name for run in section.runs),
    )


def _older(sections: Sequence[Section]) -> Table:
    """The runs beside the page's own, the newest first."""
    runs = sorted((run for section in sections for run in section.runs), key=lambda run: run.header.started, reverse=True)
    rows = [
        (Cell(run_name(run.header)), Cell(", ".join(run.header.plan.get("studies", ()))), Cell(str(run.header.protocol)))
        for run in runs
    ]
    return Table("older", (Column("Run"), Column("Studies"), Column("Protocol", True)), tuple(rows))


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


def _text(name: str) -> Markup:
    """A file of ours, put into the page as it is."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))
