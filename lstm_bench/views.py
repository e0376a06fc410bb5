"""What the commands print: tables on a terminal, plain text elsewhere, JSON when asked."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from lstm_bench.duration import spoken

if TYPE_CHECKING:
    from analysis.certificate import Certificate

PLAIN_WIDTH = 200  # columns where the output is no terminal


def doctor(as_json: bool) -> None:
    from bench import doctor, environment

    findings = [finding for finding in doctor.examine() if finding.backend != "null"]
    quiet = doctor.quietness()
    if as_json:
        machine = {"cpu": environment.cpu_model(), "gpus": environment.gpu_list(), "packages": environment.packages()}
        quietness = {name: getattr(quiet, name) for name in quiet.__slots__} | {"verdict": quiet.verdict}
        rows = [{name: getattr(finding, name) for name in finding.__slots__} for finding in findings]
        return print_json({"machine": machine, "backends": rows, "quietness": quietness})
    gpus = ", ".join(gpu["name"] for gpu in environment.gpu_list()) or "no NVIDIA GPU found"
    screen = console()
    screen.print(f"[bold]{environment.cpu_model()}[/], {gpus}\n")
    running = [finding for finding in findings if finding.runs]
    table(("runs here", "on", "in", "what ran"), [(one.backend, one.device, one.dtype, one.detail) for one in running])
    for columns, absent in ((("does not run here", "why"), False), (("not installed", "how to install it"), True)):
        reasons: dict[str, list[str]] = {}
        for one in findings:
            if not one.runs and (one.absent is not None) == absent:
                reasons.setdefault(one.detail, []).append(f"{one.backend} on {one.device}, {one.cell} in {one.dtype}")
        if reasons:
            screen.print()
            table(columns, [("\n".join(who), why) for why, who in reasons.items()])
    screen.print(
        f"\nThis machine is {quiet.verdict}.\n"
        f"The same work took {quiet.median_over_fastest:.2f}× its fastest time in the median, "
        f"{quiet.worst_tenth_over_fastest:.2f}× at p90; load average {quiet.load_average:.1f}."
    )


def names(as_json: bool) -> None:
    import impls
    from bench import plan, study

    suites = {name: plan.SUITES[name].question for name in plan.offered()}
    studies = {name: study.get(name).question for name in study.names()}
    backends = {name: _first_line(name) for name in impls.names()}
    if as_json:
        return print_json({"suites": suites, "studies": studies, "backends": backends})
    for title, entries in (("suite", suites), ("study", studies), ("backend", backends)):
        table((title, "what it is"), list(entries.items()))


def _first_line(backend: str) -> str:
    """The backend file's opening sentence, read without importing it."""
    import ast

    import impls

    return (ast.get_docstring(impls.source(backend)) or "").partition("\n")[0]


def cases(what: str, where: Sequence[str], as_json: bool) -> None:
    from bench import plan

    chosen = plan.make(what, where=where)
    found = [(name, case) for name in chosen.studies for case in chosen.cases(name)]
    if as_json:
        return print_json([{"study": name, "case": case.key} | case.to_dict() for name, case in found])
    table(("study", "case"), [(name, case.key) for name, case in found])


def show(runs: Sequence[Path], out: Path | None, as_json: bool) -> None:
    from analysis import show as shown
    from results import store

    root = out or store.ROOT
    if as_json:
        return print_json(shown.values(runs, root=root))
    rows = shown.rows(runs, root=root)
    if not rows:
        return console().print("nothing was measured in this run")
    measured = [row for row in rows if row["measured"] != "skipped"]
    columns = list(rows[0])
    table(columns, [[row[column] for column in columns] for row in measured])
    skipped: dict[tuple[str, str], int] = Counter(
        (row["backend"], row["notes"]) for row in rows if row["measured"] == "skipped"
    )
    for (backend, reason), count in skipped.items():
        console().print(f"skipped {backend} in {count} case{'s'[: count > 1]}: {reason}")


def print_json(value: object) -> None:
    print(json.dumps(value, indent=2, default=str))


def certificate(made: Certificate) -> None:
    def share(value: float) -> str:
        return f"{100 * value:.2g} %"

    columns = ("case", "backend", "spread", "floor", "detectable", "pairs for 3 %", "time for 3 %", "false alarms", "confirmed")
    rows = [
        (
            key.case, key.backend, share(case.spread), share(case.floor), share(math.expm1(case.detectable)),
            case.pairs_wanted or "none", "" if case.seconds_wanted is None else spoken(case.seconds_wanted),
            share(case.false_alarms), share(case.confirmed_false_alarms),
        )
        for key, case in made.cases.items()
    ]  # fmt: skip
    table(columns, rows)
    repeats = ", ".join(f"{name.replace('_', ' ')} {share(value)}" for name, value in made.repeats.items())
    within = f"{made.within[made.location]:.0%} of single pairs within 3 %"
    print(f"A against A differs by (typical case): {repeats}. Best here: {made.location.replace('_', ' ')}, {within}.")
    print(made.sentence)
    if made.alarms:
        print(made.alarms.sentence)


def claims(runs: Sequence[Path], out: Path | None, as_json: bool) -> None:
    from analysis import claims as tested
    from results import store

    rows = tested.rows(runs, out or store.ROOT)
    if as_json:
        return print_json(rows)
    if not rows:
        return console().print("this run tested no claim; measure one with: lstm-bench run gradients")
    for place, row in enumerate(rows):
        of = row["study"], row["machine"], row["run"]
        if not place or of != tuple(rows[place - 1][name] for name in ("study", "machine", "run")):
            console().print(f"[bold]{row['study']}[/], {row['run']} on {row['machine']}\n")
        console().print(f"[bold]{row['claim']}[/]  {row['statement']}")
        console().print(f"  {row['verdict']}. {row['conditions']}".rstrip())
        for number in row["measured"].split("; "):
            console().print(f"    {number}", markup=False)  # [above 104] is an interval, not a style
        console().print(f"  in print: {row['published']}\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    drawn = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        drawn.add_row(*("" if value is None else str(value) for value in row))
    console().print(drawn)


def console() -> Console:
    """Rich's console; wide and without colour where the output is no terminal."""
    usual = Console(highlight=False)
    return usual if usual.is_terminal else Console(width=PLAIN_WIDTH, highlight=False, no_color=True)
