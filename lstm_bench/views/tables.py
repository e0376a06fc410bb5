"""What the commands print: tables on a terminal, plain text elsewhere, JSON when asked."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from analysis.report.words import format_percent
from results.output import format_duration

if TYPE_CHECKING:
    from analysis.regression.calibration import Calibration
    from bench.harness.case import Case

FASTEST = "*"
WIDE = 100  # columns from which a table of one case has room for every column
PLAIN_WIDTH = 200  # columns where the output is no terminal


def names(as_json: bool) -> None:
    import impls
    from bench.harness import suites as asked

    suites = {name: asked.SUITES[name].question for name in asked.offered()}
    studies = {name: asked.question_of(name) for name in asked.studies()}
    backends = {name: facts.summary for name, facts in impls.table().items()}
    if as_json:
        return print_json({"suites": suites, "studies": studies, "backends": backends})
    for title, entries in (
        ("Suites: how much to measure, as in: lstm-bench run quick", suites),
        ("Studies: what to find out, as in: lstm-bench run gradients", studies),
        ("Backends: what is compared, as in: lstm-bench run quick --backend torch", backends),
    ):
        console().print(f"[bold]{title}[/]")
        table(("name", "what it is"), list(entries.items()))
        console().print()
    console().print("The cases of one of them: lstm-bench list quick")


def cases(what: str, where: Sequence[str], as_json: bool, like: Sequence[Case] = ()) -> None:
    from bench.harness import plan

    chosen = plan.make(what, where=where, like=like)
    found = [(its.name, case) for its in chosen.studies for case in chosen.cases(its)]
    if as_json:
        return print_json([{"study": name, "case": case.key} | case.to_dict() for name, case in found])
    table(("study", "case"), [(name, case.key) for name, case in found])


def show(runs: Sequence[Path], out: Path | None, as_json: bool) -> None:
    from analysis.report import summary
    from results import store

    root = out or store.ROOT
    if as_json:
        return print_json(summary.values(runs, root=root))
    rows = summary.rows(runs, root=root)
    if not rows:
        return console().print("nothing was measured in this run")
    screen, marked, machine = console(), False, ""
    measured = [row for row in rows if row["measured"] != "skipped"]
    for (place, *_), of_case in itertools.groupby(measured, key=lambda row: (row["machine"], row["study"], row["case"])):
        if place != machine:
            machine = place
            screen.print(f"[bold]{escape(place)}[/]\n")
        marked |= _show_case(screen, list(of_case))
    if marked:
        screen.print(f"{FASTEST} fastest of its case; \\[a, b]: interval of a ratio, where replicates give one")
    skipped = Counter((row["backend"], row["notes"]) for row in rows if row["measured"] == "skipped")
    alike: dict[tuple[str, int], list[str]] = {}
    for (backend, reason), count in skipped.items():
        alike.setdefault((reason, count), []).append(backend)
    for (reason, count), backends in alike.items():
        screen.print(escape(f"skipped in {count} case{'s'[: count > 1]}: {', '.join(backends)}"))
        screen.print(Padding(escape(reason), (0, 0, 0, 3), expand=False))
    for sentence in summary.remarks(runs, root):
        screen.print(escape(sentence))
    for line in rankings(runs, root):
        screen.print(line, markup=False, soft_wrap=True)


def rankings(runs: Sequence[Path], root: Path) -> Iterator[str]:
    """The lines on the rankings of each machine, after an empty one; none where no two backends were timed repeatedly."""
    from analysis.report import overview
    from analysis.report.findings import find_out
    from analysis.report.load import load

    for section in load(runs, root):
        if (section.series["metric"] == "time").any() and (lines := overview.ranking_lines(find_out(section))):
            yield from ("", *lines)


def _show_case(screen: Console, rows: Sequence[dict[str, str]]) -> bool:
    """One case as a small table under its parameters, what is to be noted below it. Returns whether it marks a fastest one."""
    times = [row for row in rows if row["metric"] == "time"]
    fastest = times[0] if len(times) > 1 else None
    baseline = next((row["baseline"] for row in times), "")
    # The columns after the name, as far as any row fills them; where the host's time is shown, tokens/s gives it its place.
    names = {"measured": "time" if times else "measured", "±": "±", "ratio": f"speedup over {baseline}", "host": "host"}
    names |= {} if "host" in rows[0] and screen.width < WIDE else {"tokens/s": "tokens/s"}
    shown = {name: title for name, title in names.items() if any(row.get(name) for row in rows)}
    drawn = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("", "backend"):
        drawn.add_column(column, no_wrap=True)
    for column in shown.values():
        drawn.add_column(column, no_wrap=True, justify="left" if "speedup" in column else "right")
    for row in rows:
        first = FASTEST if row is fastest else " "
        drawn.add_row(
            first,
            escape(row["backend"]),
            *(escape(row.get(name, "")) for name in shown),
            style="bold" if row is fastest else None,
        )
    screen.print(f"[bold]{escape(rows[0]['title'])}[/]")
    screen.print(drawn)
    noted: dict[str, list[str]] = {}
    for row in rows:
        if row["notes"]:
            noted.setdefault(row["notes"], []).append(row["backend"])
    for note, backends in noted.items():
        screen.print(Padding(escape(f"{', '.join(backends)}: {note}"), (0, 0, 0, 3), expand=False))
    screen.print()
    return fastest is not None


def comparison(rows: Sequence[dict[str, str]], screen: Console | None = None) -> None:
    """Each case as a small table under its name, with what is to be noted of its rows below it."""
    screen = screen or console()
    for case, of_case in itertools.groupby(rows, key=lambda row: row["case"]):
        drawn, notes = Table(box=None, pad_edge=False, header_style="dim"), dict[str, list[str]]()
        drawn.add_column("backend")
        for column in ("verdict", "base", "new", "change", "pairs"):
            drawn.add_column(column, no_wrap=True)
        for row in of_case:
            name = row["backend"] if row["metric"] == "time" else f"{row['backend']}, {row['metric']}"
            drawn.add_row(escape(name), *(escape(row[column]) for column in ("verdict", "base", "new", "change", "pairs")))
            if row["note"]:
                notes.setdefault(row["note"], []).append(name)
        screen.print(f"[bold]{escape(case)}[/]")
        screen.print(drawn)
        for note, names in notes.items():
            screen.print(Padding(escape(f"{', '.join(names)}: {note}"), (0, 0, 0, 3), expand=False))
        screen.print()


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, default=str))


def calibration(made: Calibration) -> None:
    def share(value: float) -> str:
        return format_percent(value)

    columns = (
        "case",
        "backend",
        "spread",
        "noise floor",
        "detectable",
        "pairs for 3 %",
        "time for 3 %",
        "false alarms",
        "confirmed",
    )
    rows = [
        (
            key.case, key.backend, share(case.spread), share(case.floor), share(math.expm1(case.detectable)),
            case.pairs_wanted or "none", "" if case.seconds_wanted is None else format_duration(case.seconds_wanted),
            share(case.false_alarms), share(case.confirmed_false_alarms),
        )
        for key, case in made.cases.items()
    ]  # fmt: skip
    table(columns, rows)
    repeats = ", ".join(f"{name.replace('_', ' ')} {share(value)}" for name, value in made.repeats.items())
    best = made.statistic.replace("_", " ")
    within = f"{format_percent(made.within[made.statistic])} of single pairs within 3 %"
    print(f"A/A difference of a case (root mean square, median case): {repeats}; most repeatable: {best}, {within}")
    print(made.sentence)
    if made.alarms:
        print(made.alarms.sentence)


def claims(runs: Sequence[Path], out: Path | None, as_json: bool) -> None:
    from analysis.report import claims as tested
    from results import store

    rows = tested.rows(runs, out or store.ROOT)
    if as_json:
        return print_json(rows)
    if not rows:
        return console().print("this run tested no claim; measure one with: lstm-bench run gradients")
    for place, row in enumerate(rows):
        of = row["study"], row["machine"], row["run"]
        if not place or of != tuple(rows[place - 1][name] for name in ("study", "machine", "run")):
            console().print(f"[bold]{escape(row['study'])}[/], {escape(row['run'])} on {escape(row['machine'])}\n")
        console().print(f"[bold]{escape(row['claim'])}[/]  {escape(row['statement'])}")
        console().print(escape(f"  {row['verdict']}. {row['conditions']}".rstrip()))
        for number in row["measured"].split("; "):
            console().print(f"    {number}", markup=False)  # [above 104] is an interval, not a style
        console().print(escape(f"  published: {row['published']}"))
        if row["planned"]:
            console().print(escape(f"  needed for 80 % power: {row['planned']}"))
        console().print()


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    drawn = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        drawn.add_row(*("" if value is None else escape(str(value)) for value in row))
    console().print(drawn)


def console() -> Console:
    """Rich's console; wide and without colour where the output is no terminal."""
    usual = Console(highlight=False)
    return usual if usual.is_terminal else Console(width=PLAIN_WIDTH, highlight=False, no_color=True)
