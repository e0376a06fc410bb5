"""The report: one self-contained HTML page and its Markdown twin, both made of the same cells and sentences."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from analysis.report import audit, claims, summary, tables, words
from analysis.report.drawing import colour
from analysis.report.findings import Findings, find_out
from analysis.report.gallery import Group, groups
from analysis.report.load import Section, load, rows_of
from analysis.report.summary import Answer
from analysis.report.tables import Table
from analysis.statistics.ratios import Location
from analysis.statistics.series import Modes
from analysis.studies.gradients import statistics as gradients_statistics
from results import files
from results.store import ROOT, StoreError
from results.text import in_markdown, without_html

FOLDER = Path("report")
MOST_MODES = 8  # told one by one


@dataclass(frozen=True, slots=True)
class View:
    """One section as the templates need it; name is an identifier, unique in the page."""

    name: str
    title: str
    speed: bool  # whether any backend was asked for it
    asked: str
    answers: list[Answer]
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
    location: Location = "median",
    root: Path = ROOT,
) -> Report:
    """Write report.html and report.md (with its figures) into `out`. Without paths: of the latest run below `root`.

    Raises `StoreError` (nothing to read, or nowhere to write), `UnknownBaseline`, `UnknownLocation`.
    """
    sections = load(paths, root)
    views = [_view(index, section, sections, baseline, location) for index, section in enumerate(sections)]
    tested = claims.tested(sections)
    templates = Environment(
        loader=PackageLoader("analysis.report"), autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    plain = templates.overlay(finalize=lambda value: without_html(value) if isinstance(value, str) else value)
    plain.filters = templates.filters | {"cell": in_markdown}
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    machines = list(dict.fromkeys(section.title for section in sections))
    title = f"LSTM backends, measured on {words.listed(machines)}"
    links = [{picture.name: picture.anchor for group in view.groups for picture in group.pictures} for view in views]
    shared = {
        "views": views, "title": title, "machines": machines, "board": claims.board(tested, links),
        "tally": claims.tally(tested), "audits": _audits(sections), "made": made,
        "location": words.LOCATIONS[location], "colour": colour,
    }  # fmt: skip
    report = Report(out / "report.html", out / "report.md")
    try:
        out.mkdir(parents=True, exist_ok=True)
        page = templates.get_template("report.html.j2").render(shared, style=_text("report.css"), script=_text("report.js"))
        files.write_text(report.html, page)
        for view in views:
            for picture in (picture for group in view.groups for picture in group.pictures):
                files.write_text(out / picture.file, picture.alone)
        files.write_text(report.markdown, plain.get_template("report.md.j2").render(shared))
    except OSError as error:
        raise StoreError(f"cannot write the report to {out}: {error.strerror}; choose another folder with --out") from error
    return report


def _audits(sections: Sequence[Section]) -> list[tuple[str, Table]]:
    """For each machine that measured initialisations their table."""
    machines = dict.fromkeys(section.title for section in sections)
    found = {name: audit.of_machine([section for section in sections if section.title == name]) for name in machines}
    return [(name, table) for name, table in found.items() if table.rows]


def _title(section: Section, sections: Sequence[Section]) -> str:
    """The machine; with its studies where sections of the same machine have to be told apart."""
    if sum(other.title == section.title for other in sections) == 1:
        return section.title
    return f"{section.title}: {words.listed(summary.studies(section)) or words.listed(run.header.run for run in section.runs)}"


def _view(index: int, section: Section, sections: Sequence[Section], baseline: str | None, location: Location) -> View:
    found, name = find_out(section, baseline, location), f"s{index}"
    cases, figures = tables.cases(found), groups(found, name)
    contents = [("backends-title", "Backends"), *((group.name, group.title) for group in figures)]
    contents += [("cases-title", "Every case")] if found.asks_for_speed else []
    contents += [("refusals-title", "What is missing"), ("environment-title", "Environment")]
    return View(
        name=name,
        title=_title(section, sections),
        speed=found.asks_for_speed,
        asked=summary.asked(section),
        answers=summary.answers(found),
        contents=contents,
        backends=tables.backends(found),
        backends_text=summary.about_backends(found),
        groups=figures,
        ceilings=tables.ceilings(section),
        cases=cases,
        cases_text=summary.about_cases(found),
        cases_head=next((place for place, column in enumerate(cases.columns) if column.label == "Backend"), 0),
        refusals=tables.refusals(section),
        notes=notes(found),
        environment=tables.environment(section),
        commands=summary.commands(section),
        sources=words.listed(run.path.name for run in section.runs),
    )


def notes(found: Findings) -> list[str]:
    """What a careful reader must know: how runs were joined, what never settled, what has two modes."""
    said = list(found.section.remarks)
    bimodal = [row for row in rows_of(found.cases) if row["modes"] is not None]
    for row in bimodal[:MOST_MODES]:
        modes: Modes = row["modes"]
        said.append(
            f"{row['backend']} on {row['case']} has two modes: {words.scaled(modes.lower, 's')} and "
            f"{words.scaled(modes.upper, 's')} ({words.percent(modes.upper_share)} of the samples in the upper one)."
        )
    if len(bimodal) > MOST_MODES:
        said.append(f"{len(bimodal) - MOST_MODES} more timings have two modes; the table of cases marks them.")
    said += gradients_statistics.sentences(found.section.series)
    counted = Counter(note for notes in found.cases["notes"] for note in notes)
    said += [f"{note.replace('_', ' ')}: {words.count(number, 'timing')}." for note, number in sorted(counted.items())]
    return said


def _text(name: str) -> Markup:
    """A file of ours, put into the page as it is."""
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))
