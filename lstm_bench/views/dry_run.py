"""What `--dry-run` prints: cases, backends, what is excluded and why, and the predicted time. It imports no framework."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.padding import Padding

from lstm_bench.views import tables
from results.output import format_duration

if TYPE_CHECKING:
    from bench.harness.plan import Plan
    from bench.regression.revisions import Repository

NOTHING_MEASURED = "Nothing was measured."
SHOWN = 20  # cases of the same backends


def values(plan: Plan) -> dict[str, Any]:
    """The plan for a program to read; the same is shown to people.

    Returns: `cases` with the backends that each is put to; `excluded`: backends that their files say cannot run some, with the
    reason and how many; `not_installed`: what to install for others; `obstacle`: why this machine cannot measure it, or None;
    `predicted`: sentences on time and memory; `power`: by claim, how many seeds decide it.
    """
    from bench.harness import forecast

    found = [(its, case) for its in plan.studies for case in plan.cases(its)]
    cases = [{"study": its.name, "case": case.key, "backends": forecast.asked(plan, its, case)} for its, case in found]
    excluded = Counter(item for its, case in found for item in forecast.excluded(plan, its, case).items())
    return {
        "plan": plan.name, "device": plan.device, "replicates": plan.replicates, "threads": plan.threads,
        "time_budget": plan.time_budget, "cases": cases,
        "excluded": [{"backend": name, "reason": reason, "cases": count} for (name, reason), count in excluded.items()],
        "not_installed": _not_installed({name for case in cases for name in case["backends"]}),
        "obstacle": _obstacle(plan), "predicted": predicted(plan), "power": _planned_seeds(plan),
    }  # fmt: skip


def _planned_seeds(plan: Plan) -> dict[str, str]:
    """Of each claim that the plan tests: how many seeds or replicates its rule needs for 80 % power."""
    from analysis.report import claims

    tested = [claim for its in plan.studies if plan.cases(its) for claim in its.claims]
    return {claim.name: claims.planned(claim) or "not known: no run has told the spread" for claim in tested}


def predicted(plan: Plan) -> list[str]:
    """Sentences on the time and memory of a run; a lower bound where a study makes no forecast."""
    from bench.harness import forecast

    if not any(map(plan.cases, plan.studies)):
        return []
    least = format_duration(forecast.sampling_seconds(plan))
    return forecast.statement(plan) or [
        f"predicted: at least {least} of warm-up and sampling; how long these cases take to start and compile is not forecast"
    ]


def _not_installed(backends: set[str]) -> list[dict[str, str]]:
    import impls

    facts = {name: impls.facts(name) for name in sorted(backends & set(impls.names()))}
    missing = {name: [each for each in its.packages if importlib.util.find_spec(each) is None] for name, its in facts.items()}
    return [
        {"backend": name, "package": packages[0], "install": facts[name].install_command(packages[0])}
        for name, packages in missing.items()
        if packages
    ]


def _obstacle(plan: Plan) -> str | None:
    """Why this machine cannot carry out a plan, or None."""
    from bench.harness.plan import require_device
    from bench.machine import system
    from impls import Unavailable

    try:
        system.require_measuring()
        require_device(plan)
    except (Unavailable, system.UnsupportedSystem) as reason:
        return str(reason)
    return None


def show(found: dict[str, Any]) -> None:
    """Print `values` as tables and sentences."""
    screen, cases = tables.console(), found["cases"]
    if "sides" in found:
        screen.print(f"[bold]compare[/] {escape(' with '.join(found['sides']))}")
    if cases:
        size = [
            (len(cases), "case"),
            *([] if "sides" in found else [(found["replicates"], "replicate")]),
            (found["threads"], "thread"),
        ]
        counted = ", ".join(f"{count} {noun}{'s'[: count != 1]}" for count, noun in size)
        screen.print(f"[bold]plan of {escape(found['plan'])}[/]: {counted}, on {found['device']}\n")
    alike: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for case in cases:
        alike.setdefault(tuple(sorted(case["backends"])), []).append(case)
    for backends, those in alike.items():
        screen.print(f"backends: [bold]{escape(', '.join(backends)) or 'none'}[/]")
        for case in those[:SHOWN]:
            screen.print(Padding(escape(f"{case['study']} {case['case']}"), (0, 0, 0, 3), expand=False))
        if len(those) > SHOWN:
            screen.print(f"   and {len(those) - SHOWN} more; their study's: lstm-bench list {those[0]['study']}")
    reasons: dict[tuple[str, int], list[str]] = {}
    for one in found["excluded"]:
        reasons.setdefault((one["reason"], one["cases"]), []).append(one["backend"])
    for (reason, count), backends in reasons.items():
        screen.print(f"excluded from {count} case{'s'[: count != 1]}: [bold]{escape(', '.join(backends))}[/]")
        screen.print(Padding(escape(reason), (0, 0, 0, 3), expand=False))
    for one in found["not_installed"]:
        screen.print(escape(f"not installed here: {one['package']}, which {one['backend']} needs: {one['install']}"))
    if cases:
        screen.print("A backend may refuse more once it is imported; that is then recorded as skipped, with its reason.")
    if found.get("power"):
        screen.print("\nNeeded for 80 % power, a claim:")
        for claim, text in found["power"].items():
            screen.print(Padding(f"[bold]{escape(claim)}[/]  {escape(text)}", (0, 0, 0, 3), expand=False))
    finish(found)


def finish(found: dict[str, Any]) -> None:
    """The last lines: time, whether this machine can measure it, and that nothing was."""
    screen = tables.console()
    screen.print()
    for sentence in found["predicted"]:
        screen.print(escape(sentence))
    if found["obstacle"]:
        screen.print(escape(f"cannot be measured here: {found['obstacle']}"))
    screen.print(NOTHING_MEASURED)


def stored(base: str, new: str) -> dict[str, Any]:
    """Of `compare` with two runs on disk. Raises `results.store.StoreError` where one is none."""
    from results import store

    paths = [str(store.only(Path(name))) for name in (base, new)]
    return {
        "plan": "compare", "sides": paths, "cases": [], "excluded": [], "not_installed": [], "obstacle": None,
        "predicted": ["Both are stored runs, which are read and not measured again."],
    }  # fmt: skip


def compared(base: str, new: str, plan: Plan, repository: Repository, memory: bool, calibrated: str | None) -> dict[str, Any]:
    """What `compare` would measure of two revisions or backends, as `values`, with how many pairs it may take."""
    from analysis.statistics.decision import CONFIRMING, STAGES
    from bench.regression import comparison
    from lstm_bench.commands import compare as comparing

    kind = comparing.kind_of_both(base, new)
    found = values(plan)
    named = [name.removeprefix(comparing.BACKEND) if kind == "backend" else None for name in (base, new)]
    asked = comparison.paired_cases(plan, named[0], named[1], memory)
    can = {(case["study"], case["case"]): case["backends"] for case in found["cases"]}
    asked = [each for each in asked if {each.base, each.new} <= set(can[each.study.name, each.case.key])]
    keys = {(each.study.name, each.case.key) for each in asked}
    found["cases"] = [case for case in found["cases"] if (case["study"], case["case"]) in keys]
    least, most = (comparison.predicted_seconds(plan, asked, pairs) for pairs in (STAGES[0], STAGES[-1] + CONFIRMING))
    found["predicted"] = [
        f"predicted: at most about {format_duration(least)} for the first {STAGES[0]} pairs of each case, and at most about "
        f"{format_duration(most)} if all {STAGES[-1]} and {CONFIRMING} to confirm are needed; compiling not counted",
        f"calibration: {calibrated or 'none here, so that the minimum detectable effect is not known'}",
    ]
    if not asked:
        found["predicted"] = ["Nothing would be compared: of these cases none is timed on both sides."]
    sides = [name if kind == "backend" or name == comparing.HERE else f"{name} ({repository.short(repository.resolve(name))})"
             for name in (base, new)]  # fmt: skip
    return found | {"sides": sides, "pairs": [*STAGES, STAGES[-1] + CONFIRMING]}


def tracked(plan: Plan, repository: Repository, commits: Sequence[str], root: Path) -> dict[str, Any]:
    """What `track` would measure, as `values`, with the commits and how many runs of each the history has."""
    from bench.harness import forecast
    from results import store

    headers = [store.header_of(path) for path in store.find(root)] if root.is_dir() else []
    there = Counter(header.environment.get("git", {}).get("commit") for header in headers)
    found = values(plan)
    one = forecast.seconds(plan)
    bound, seconds = ("about", one) if one is not None else ("at least", forecast.sampling_seconds(plan))
    missing = sum(not there[commit] for commit in commits)
    found["predicted"] = [
        f"predicted: {bound} {format_duration(seconds * missing)} for {missing} of {len(commits)} commits that the history has "
        "no run of, by the cases of this checkout; a commit of lstm-bench has its own"
    ]
    rows = [{"commit": commit, "subject": repository.git("show", "-s", "--format=%s", commit), "runs": there[commit]}
            for commit in commits]  # fmt: skip
    return found | {"commits": rows}


def show_commits(found: dict[str, Any]) -> None:
    """Print the commits of `tracked`, and the plan for each."""
    tables.table(
        ("commit", "runs in the history", "subject"),
        [(row["commit"][:12], row["runs"], row["subject"]) for row in found["commits"]],
    )
    tables.console().print()
    show(found)
