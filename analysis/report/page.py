"""The report: for each machine one self-contained HTML page and its Markdown version, made of the same cells and figures."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from analysis.report import claims, markdown, summary, tables, words
from analysis.report.data import embedded, section_data
from analysis.report.findings import Findings, find_out, machine_name, timings
from analysis.report.groups import Group, groups
from analysis.report.load import Prices, Section, load, priced, rows_of, run_name, weight
from analysis.report.overview import Overview, overview, rankings_text
from analysis.report.rendering import HISTORY_PAGE, asset, base_assets, covers, markdown_templates, templates
from analysis.report.summary import Answer
from analysis.report.tables import Cell, Column, Table
from analysis.statistics.quantities import Word
from analysis.statistics.ratios import Modes, Statistic
from analysis.studies import gradients as gradients_statistics
from analysis.studies.gradients import tables as gradients_tables
from results import output
from results.store import ROOT, StoreError

FOLDER = Path("report")
MOST_MODES = 8  # told one by one
BESIDE = (
    "The interval of a speedup takes the cases to be off together, since two machines were not measured in the same rounds. "
    "Energy is of the cases of the studies decode and scaling that measure it, by NVML."
)
SCRIPTS = ("../vendor/plot.js", "charts.js", "explore.js")


@dataclass(frozen=True, slots=True)
class View:
    """The page of one machine as the templates need it: its newest run, with figures of studies that older runs have."""

    found: Findings
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
    rankings: Table
    rankings_text: str
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
    *,
    price: Prices = None,
) -> Report:
    """Write the report, report.html and report.md with its figures; of further machines report-MACHINE.html and so on.

    Args:
        paths: run files or folders; without any, the latest run below `root`.
        out: folder to write to; it is made where it is not there.
        baseline: backend that speedups are over; without one, that which shares most cases with others.
        statistic: statistic of a call's samples: median, lower_quartile or minimum.
        root: folder of results.
        price: of an hour of a machine, in the user's currency, for what a million tokens cost; see `load.priced`.

    Returns:
        Where the pages and their Markdown versions lie.

    Raises:
        StoreError: nothing to read, or nowhere to write.
        UnknownBaseline: the baseline was not timed.
        InvalidPrice: a price is not above zero, or not of one machine.
        UnknownLocation: there is no such statistic.
    """
    machines = _machines(priced(load(paths, root), price))
    files = _files([sections[0].title for sections in machines])
    founds = [find_out(sections[0], baseline, statistic) for sections in machines]
    views = [_view(found, own[1:], file) for found, own, file in zip(founds, machines, files, strict=True)]
    further = [find_out(each, baseline, statistic) for own in machines for each in _of_the_same_fleet(own)]
    side_by_side = tables.beside([*founds, *further])
    page = templates().get_template("report.html.j2")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for view in views:
            others = [other for other in views if other is not view]
            history = HISTORY_PAGE if covers(out / HISTORY_PAGE, [view.title]) else ""
            context = _context(view) | {"others": others, "history": history, "beside": side_by_side}
            output.write_text(out / f"{view.file}.html", page.render(context))
            for picture in (picture for group in view.groups for picture in group.pictures):
                output.write_text(out / picture.file, picture.alone)
            output.write_text(out / f"{view.file}.md", _markdown(view, context, out / f"{view.file}.png"))
    except OSError as error:
        raise StoreError(f"cannot write the report to {out}: {error.strerror}; choose another folder with --out") from error
    return Report(out / "report.html", out / "report.md", tuple(out / f"{view.file}.html" for view in views[1:]))


def live(path: Path, state: Mapping[str, Any]) -> str:
    """The page of a run that is still going: what is on disk so far, without figures, which take long to draw.

    Args:
        path: the run's file.
        state: version, state, count, latest, done and total, as the page shows them.
    """
    view = _view(find_out(load([path])[0]), (), "report", figures=False)
    page = templates().get_template("live.html.j2")
    return page.render(_context(view) | {"others": [], "history": "", "beside": None, "state": state, "live": asset("live.js")})


def _context(view: View) -> dict[str, Any]:
    made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    location = words.STATISTICS[view.found.statistic]
    scripts = [asset(name) for name in SCRIPTS]
    title = view.overview.headline or f"LSTM backends, measured on {view.machine}"
    return base_assets() | {
        "view": view, "title": title, "machines": [view.title], "made": made, "location": location, "scripts": scripts,
        "beside_text": BESIDE,
    }  # fmt: skip


def _markdown(view: View, context: Mapping[str, Any], image: Path) -> str:
    """The version for pull requests, whose chart is written to `image`."""
    template = markdown_templates().get_template("report.md.j2")
    folded = [(f"Claims: {view.tally}", template.render(context, part="claims"))] if view.claims else []
    folded.append((f"All results: {view.title}", template.render(context, part="view")))
    drawn = markdown.chart([view.found], image)
    return markdown.render([view.found], [view.overview], folded, str(context["made"]), image.name if drawn else "")


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


def _of_the_same_fleet(sections: Sequence[Section]) -> list[Section]:
    """Of the sections of one machine's page those of another fingerprint, as of its governor, in the fleet of the first."""
    fleets = [each.runs[-1].header.environment.get("fleet") or {} for each in sections]
    return [
        each
        for each, fleet in zip(sections[1:], fleets[1:], strict=True)
        if fleet.get("id") == fleets[0].get("id", "") and fleet.get("fingerprint") != fleets[0].get("fingerprint")
    ]


def _files(titles: Sequence[str]) -> list[str]:
    """Names without ending: of the first page `report`, of the others with their machine's name."""
    names = ["report"]
    for title in titles[1:]:
        plain = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "machine"
        number = sum(name == f"report-{plain}" or name.startswith(f"report-{plain}.") for name in names)
        names.append(f"report-{plain}" + (f".{number + 1}" if number else ""))
    return names


def _view(found: Findings, older: Sequence[Section], file: str, figures: bool = True) -> View:
    section, sections = found.section, [found.section, *older]
    drawn = groups(found, older, "" if file == "report" else f"{file.removeprefix('report-')}-") if figures else []
    tested = claims.tested(sorted(sections, key=lambda each: each.runs[-1].header.started))
    cases, audit = tables.cases(found), gradients_tables.of_machine(sections)
    data = section_data(found, older) if found.compares and not found.cases.empty else None
    contents = [(group.name, group.title) for group in drawn if not group.study]
    contents[1:1] = [("explore", "Explore")] if data else []
    contents += [("studies", "Studies")] if any(group.study for group in drawn) else []
    contents += [("claims", "Claims")] if tested else []
    contents += [("results", "All results")] if found.asks_for_speed else []
    contents += [("environment", "Environment")]
    return View(
        found=found,
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
        rankings=tables.rankings(found),
        rankings_text=rankings_text(found),
        groups=drawn,
        audit=audit,
        claims=claims.cards(tested, {picture.name: picture.anchor for group in drawn for picture in group.pictures}),
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
