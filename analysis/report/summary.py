"""The first paragraph of the report: what was asked and what came of it, every word computed from the findings."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

import numpy as np

from analysis.report import words
from analysis.report.findings import PHASES, Findings, timings
from analysis.report.load import Section, identity, rows_of
from analysis.statistics.ratios import NOT_COMPARED, Ranking, Ratio, format_ratio, locate, no_interval


@dataclass(frozen=True, slots=True)
class Answer:
    """One sentence or two under a topic of one word."""

    topic: str
    text: str


NOT_ASKED = "This run asked no backend for its speed."


def asked(section: Section) -> str:
    """What the plan asked for, in a sentence. Replicates are of what was timed: studies that measure alone have none."""
    plan = section.runs[0].header.plan
    records = section.records[~section.records["backend"].isin(NOT_COMPARED)]
    timed = records.drop_duplicates(["study", "case", "backend"])
    parts = [f"suite {plan['suite']}"] if plan.get("suite") else []
    names = studies(section)
    parts += [f"{'study' if len(names) == 1 else 'studies'} {words.listed(names)}"] if names else []
    names = list(dict.fromkeys(name for run in section.runs for name in run.header.plan.get("backends", ())))
    names = [name for name in names if name not in NOT_COMPARED]
    parts += [f"backends {words.listed(names)}"] if names else []
    repeated = timings(section)
    replicates = repeated["replicate_key"].nunique()
    timed_runs = set(repeated["run_key"])
    planned = sum(run.header.plan.get("replicates") or 0 for run in section.runs if identity(run.header) in timed_runs)
    if replicates:
        parts.append(words.count(replicates, "replicate") + (f" of the {planned} planned" if planned > replicates else ""))
    what = "; ".join(parts)
    return f"{what[0].upper()}{what[1:]}: {words.count(len(timed), 'measurement')} of a backend on a case asked."


def studies(section: Section) -> list[str]:
    """Those its runs asked for."""
    return list(dict.fromkeys(study for run in section.runs for study in run.header.plan.get("studies", ())))


def answers(found: Findings) -> list[Answer]:
    """Fastest per device, phase and launch mode, then noise, the price of the harness, and what is missing."""
    if not found.asks_for_speed:
        return [Answer("Speed", NOT_ASKED), Answer("Missing", _missing(found.section))]
    devices = list(dict.fromkeys(device for device, _, _ in found.rankings))
    said = []
    for device in devices or [""]:
        for phase in PHASES:
            rankings = {launch: ranking for (*at, launch), ranking in found.rankings.items() if at == [device, phase]}
            for launch in found.launches:
                if launch in rankings:
                    said.append(Answer(words.sentence(found.named(device, phase, launch)), _fastest(found, rankings[launch])))
            if not rankings and found.compares:
                where = f" on {device}" if len(devices) > 1 else ""
                said.append(Answer(words.PHASES[phase].capitalize() + where, f"{words.NOT_MEASURED.capitalize()}."))
    said += [Answer("Noise", _noise(found)), Answer("Harness", _harness(found)), Answer("Missing", _missing(found.section))]
    return said


def _fastest(found: Findings, ranking: Ranking) -> str:
    names = list(ranking.ratios)
    over = f"over {words.count(ranking.shared, 'case')}"
    over += f" (of {ranking.total} that {found.baseline} ran)" if ranking.shared != ranking.total else ""
    if len(names) == 1:
        if ranking.left_out:
            few = words.listed(f"{name} {number}" for name, number in ranking.left_out.items())
            return f"Of the {ranking.total} cases of {names[0]} others measured too few to rank them: {few}. See every case."
        return f"Only {names[0]} was measured ({words.count(ranking.total, 'case')}); there is nothing to compare."
    first, second = names[0], names[1]
    if first == found.baseline:
        text = f"{first}, the baseline, comes first; next is {second}, {_times(ranking.ratios[second])} as fast, {over}."
    else:
        text = f"{first} comes first: {_times(ranking.ratios[first])} as fast as {found.baseline}, {over}."
        if ranking.ratios[first].verdict is None and ranking.ratios[first].low is not None:
            text += f" The interval includes 1: whether it is faster than {found.baseline} is not decided."
    rest = [f"{name} {words.digits(ranking.ratios[name].value)}×" for name in names[1:] if name not in (found.baseline, second)]
    if first != found.baseline and second != found.baseline:
        rest.insert(0, f"{second} {format_ratio(ranking.ratios[second])}")
    if rest:
        text += f" Others: {words.listed(rest)}."
    if ranking.left_out:
        few = [f"{name} ({words.count(number, 'case')})" for name, number in ranking.left_out.items()]
        text += f" Not ranked, for they ran less than half of the cases: {words.listed(few)}."
    return text


def _times(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{words.digits(ratio.value)} times ({no_interval(ratio)})"
    return f"{words.digits(ratio.value)} times [{words.digits(ratio.low)}, {words.digits(ratio.high)}]"


def _noise(found: Findings) -> str:
    ratios = [ratio for ratio in found.cases["ratio"] if isinstance(ratio, Ratio)]
    halves = [np.log(ratio.high / ratio.low) / 2 for ratio in ratios if ratio.low and ratio.high and ratio.high != ratio.low]
    if halves:
        text = f"Half of the {len(halves)} ratios are known to {words.spread(float(np.median(halves)))} or better, "
        text += f"the worst to {words.spread(float(np.max(halves)))}."
    elif len(found.cases) and found.cases["replicates"].max() > 1:
        known = [np.log(row["high"] / row["low"]) / 2 for row in rows_of(found.cases) if np.isfinite(row["low"])]
        text = "Nothing is compared. "
        if known:
            text += f"Half of the {len(known)} times are known to {words.spread(float(np.median(known)))} or better."
    else:
        text = "One replicate: there is no interval over replicates. Measure again with more replicates to have one."
    unsteady = sum("no_steady_state" in notes for notes in found.cases["notes"])
    unsteady_ratios = sum("unsteady_ratio" in notes for notes in found.cases["notes"])
    modes = int(found.cases["modes"].notna().sum())
    parts = [f"{unsteady} never reached a steady state"] * bool(unsteady) + [f"{modes} have two modes"] * bool(modes)
    parts += [f"{unsteady_ratios} have an unsteady ratio"] * bool(unsteady_ratios)
    return text + (f" Of {words.count(len(found.cases), 'timing')} {words.listed(parts)}." if parts else "")


def _harness(found: Findings) -> str:
    null = found.section.series[(found.section.series["backend"] == "null") & (found.section.series["metric"] == "time")]
    if null.empty:
        return f"Its overhead was {words.NOT_MEASURED}."
    price = float(np.median([locate(samples, found.location) for samples in null["samples"]]))
    text = f"A call that does nothing costs {words.scaled(price, 's')}"
    if found.cases.empty:
        return text + "."
    shortest = rows_of(found.cases.nsmallest(1, "seconds"))[0]
    share = words.percent(price / float(shortest["seconds"]))
    return f"{text}: at most {share} of any measured call ({shortest['backend']}, {shortest['case']})."


def _missing(section: Section) -> str:
    records = section.records.drop_duplicates(["study", "case", "backend", "status"])
    skipped, failed = (records[records["status"] == status] for status in ("skipped", "failed"))
    parts = []
    for part, word in ((skipped, "skipped"), (failed, "failed")):
        if len(part):
            parts.append(f"{len(part)} {word} ({words.listed(sorted(part['backend'].unique()))})")
    if not parts:
        return "Nothing was skipped and nothing failed."
    return f"{words.listed(parts)}; every reason is listed under what is missing."


def about_backends(found: Findings) -> str:
    """What the ratios of the table of backends are."""
    if found.baseline is None:
        return f"No backend was timed; speed was {words.NOT_MEASURED}." if found.asks_for_speed else NOT_ASKED
    shared = [
        f"{ranking.shared} of {words.count(ranking.total, 'case')} for {found.named(*at)}"
        for at, ranking in found.rankings.items()
    ]
    equal = " Each compares cases of one launch mode: eager calls, or calls launched from one CUDA graph."
    return (
        f"Times as fast as {found.baseline}, the baseline: geometric means over the cases that all ranked backends share "
        f"({words.listed(shared)}). The interval holds measurement noise only; other cases may rank differently."
        + (equal if "graph" in found.launches else "")
    )


def about_cases(found: Findings) -> str:
    """How to read the table of cases."""
    return (
        f"{words.count(len(found.cases), 'row')}. T steps, B sequences in a batch, H hidden size. “± %” is half the 95 % "
        "interval of the time over replicates; a ratio’s is usually narrower, for backends take turns and drift hits all "
        "alike. A ratio is the median over turns: “unsteady ratio” marks where it differs from the quotient of the two times "
        "by more than a quarter. The first call includes compilation and tuning."
    )


def commands(section: Section) -> list[str]:
    """How to repeat each run, rebuilt from its plan."""
    return list(dict.fromkeys(_command(run.header.plan) for run in section.runs))


def _command(plan: dict[str, object]) -> str:
    suite, studies = str(plan.get("suite") or "quick"), _names(plan, "studies")
    parts = ["lstm-bench", "run", *((studies[0], "--scale", suite) if len(studies) == 1 else (suite,))]
    for option, name in (("--backend", "backends"), ("--where", "filters")):
        parts += [part for value in _names(plan, name) for part in (option, value)]
    for option, name in (("--threads", "threads"), ("--replicates", "replicates"), ("--seed", "seed")):
        value = plan.get(name)
        parts += [option, str(value)] if isinstance(value, int) and value else []
    budget = plan.get("time_budget")
    parts += ["--time-budget", f"{budget:g}s"] if isinstance(budget, int | float) else []
    return shlex.join(parts)


def _names(plan: dict[str, object], name: str) -> list[str]:
    values = plan.get(name)
    return [str(value) for value in values] if isinstance(values, list | tuple) else []
