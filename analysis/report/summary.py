"""A run in short: the sentences that open the report, and plain rows for a terminal."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.report import words
from analysis.report.findings import PHASES, Findings, find_out, timings
from analysis.report.load import Section, choose, command, identity, left_out, load, rows_of
from analysis.report.tables import reduced_note
from analysis.statistics.rankings import Ranking
from analysis.statistics.ratios import NOT_COMPARED, Ratio, Statistic, aggregate
from analysis.studies import gradients as gradients_statistics
from results.record import REDUCED_METRIC
from results.store import ROOT, read

# The first paragraph of the report: what was requested and what was measured, every word computed from the findings.


@dataclass(frozen=True, slots=True)
class Answer:
    """One sentence or two under a topic of one word."""

    topic: str
    text: str


NOT_ASKED = "No backend was timed in this run: its studies measure other quantities."


def requested(section: Section) -> str:
    """What the plan requests, in a sentence. Replicates are of what was timed: standalone studies have none."""
    plan = section.runs[0].header.plan
    records = section.records[~section.records["backend"].isin(NOT_COMPARED)]
    timed = records.drop_duplicates(["study", "case", "backend"])
    parts = [f"suite {plan['suite']}"] if plan.get("suite") else []
    names = studies(section)
    parts += [f"{'study' if len(names) == 1 else 'studies'} {words.join_list(names)}"] if names else []
    names = list(dict.fromkeys(name for run in section.runs for name in run.header.plan.get("backends", ())))
    names = [name for name in names if name not in NOT_COMPARED]
    parts += [f"backends {words.join_list(names)}"] if names else []
    repeated = timings(section)
    replicates = repeated["replicate_key"].nunique()
    timed_runs = set(repeated["run_key"])
    planned = sum(run.header.plan.get("replicates") or 0 for run in section.runs if identity(run.header) in timed_runs)
    if replicates:
        parts.append(
            words.format_count(replicates, "replicate") + (f" of the {planned} planned" if planned > replicates else "")
        )
    what = "; ".join(parts)
    return f"{words.capitalised(what)}: {words.format_count(len(timed), 'benchmark configuration')} requested."


def studies(section: Section) -> list[str]:
    """Those its runs asked for."""
    return list(dict.fromkeys(study for run in section.runs for study in run.header.plan.get("studies", ())))


def fastest(found: Findings) -> list[Answer]:
    """The fastest backend per device, phase and launch mode."""
    if not found.asks_for_speed:
        return [Answer("Speed", NOT_ASKED)]
    devices = list(dict.fromkeys(device for device, _, _ in found.rankings))
    said = []
    for device in devices or [""]:
        for phase in PHASES:
            rankings = {launch: ranking for (*at, launch), ranking in found.rankings.items() if at == [device, phase]}
            for launch in found.launches:
                if launch in rankings:
                    said.append(
                        Answer(words.capitalised(found.named(device, phase, launch)), _fastest(found, rankings[launch]))
                    )
            if not rankings and found.compares:
                where = f" on {device}" if len(devices) > 1 else ""
                said.append(Answer(words.PHASES[phase].capitalize() + where, f"{words.NOT_MEASURED.capitalize()}."))
    return said


def quality(found: Findings) -> list[Answer]:
    """Noise, harness overhead, and what was skipped or failed."""
    missing = Answer("Skipped or failed", _missing(found.section))
    if not found.asks_for_speed:
        return [missing]
    return [Answer("Noise", _noise(found)), Answer("Harness overhead", _harness(found)), missing]


def _fastest(found: Findings, ranking: Ranking) -> str:
    names = list(ranking.ratios)
    over = f"over {words.format_count(ranking.shared, 'case')}"
    over += f" (of {ranking.total} that {found.baseline} ran)" if ranking.shared != ranking.total else ""
    if len(names) == 1:
        if ranking.left_out:
            few = words.join_list(f"{name} {number}" for name, number in ranking.left_out.items())
            return f"Of the {ranking.total} cases of {names[0]} others measured too few to rank: {few}. See “All cases”."
        return f"Only {names[0]} was measured ({words.format_count(ranking.total, 'case')}); there is nothing to compare."
    first, second = names[0], names[1]
    if first == found.baseline:
        text = f"{first}, the baseline, is fastest; next is {second}, speedup {_speedup(ranking.ratios[second])}, {over}."
    else:
        text = f"{first} is fastest: speedup over {found.baseline} {_speedup(ranking.ratios[first])}, {over}."
        if ranking.ratios[first].verdict is None and ranking.ratios[first].low is not None:
            text += f" The interval includes 1: whether it is faster than {found.baseline} is inconclusive."
    rest = [
        f"{name} {words.format_significant(ranking.ratios[name].value)}×"
        for name in names[1:]
        if name not in (found.baseline, second)
    ]
    if first != found.baseline and second != found.baseline:
        rest.insert(0, f"{second} {words.format_ratio(ranking.ratios[second])}")
    if rest:
        text += f" Others: {words.join_list(rest)}."
    if ranking.left_out:
        few = [f"{name} ({words.format_count(number, 'case')})" for name, number in ranking.left_out.items()]
        text += f" Not ranked, for they ran less than half of the cases: {words.join_list(few)}."
    return text


def _speedup(ratio: Ratio) -> str:
    reason = words.no_interval(ratio)
    return words.format_ratio(ratio) + (f" ({reason})" if reason else "")


def _noise(found: Findings) -> str:
    ratios = [ratio for ratio in found.cases["ratio"] if isinstance(ratio, Ratio)]
    halves = [np.log(ratio.high / ratio.low) / 2 for ratio in ratios if ratio.low and ratio.high and ratio.high != ratio.low]
    if halves:
        text = (
            f"95 % interval of {words.format_count(len(halves), 'speedup')}: median {_widths(halves, 0.5)}, "
            f"p90 {_widths(halves, 0.9)}, max {_widths(halves, 1.0)}."
        )
    elif len(found.cases) and found.cases["replicates"].max() > 1:
        known = [np.log(row["high"] / row["low"]) / 2 for row in rows_of(found.cases) if np.isfinite(row["low"])]
        text = "Nothing is compared. "
        if known:
            text += f"95 % interval of {words.format_count(len(known), 'time')}: median {_widths(known, 0.5)}."
    else:
        text = "One replicate: there is no interval over replicates. Measure again with more replicates to have one."
    unsteady = sum("no_steady_state" in notes for notes in found.cases["notes"])
    unsteady_ratios = sum("unsteady_ratio" in notes for notes in found.cases["notes"])
    modes = int(found.cases["modes"].notna().sum())
    parts = [f"warm-up not converged in {unsteady}"] * bool(unsteady) + [f"{modes} bimodal"] * bool(modes)
    parts += [f"{unsteady_ratios} with an unstable ratio"] * bool(unsteady_ratios)
    return text + (f" Of {words.format_count(len(found.cases), 'timing')}: {words.join_list(parts)}." if parts else "")


def _widths(halves: Sequence[float], share: float) -> str:
    return words.format_half_width(float(np.quantile(halves, share)))


def _harness(found: Findings) -> str:
    null = found.section.series[(found.section.series["backend"] == "null") & (found.section.series["metric"] == "time")]
    if null.empty:
        return f"Overhead: {words.NOT_MEASURED}."
    price = float(np.median([aggregate(samples, found.statistic) for samples in null["samples"]]))
    text = f"The no-op baseline takes {words.format_si(price, 's')} a call"
    if found.cases.empty:
        return text + "."
    shortest = rows_of(found.cases.nsmallest(1, "seconds"))[0]
    share = words.format_percent(price / float(shortest["seconds"]))
    return f"{text}: at most {share} of a measured call ({shortest['backend']}, {shortest['case']})."


def _missing(section: Section) -> str:
    records = section.records.drop_duplicates(["study", "case", "backend", "status"])
    skipped, failed = (records[records["status"] == status] for status in ("skipped", "failed"))
    parts = []
    for part, word in ((skipped, "skipped"), (failed, "failed")):
        if len(part):
            parts.append(f"{len(part)} {word} ({words.join_list(sorted(part['backend'].unique()))})")
    if not parts:
        return "No case was skipped and none failed."
    return f"{words.join_list(parts)}; reasons under “Skipped and failed cases”."


def about_backends(found: Findings) -> str:
    """What the ratios of the table of backends are."""
    if found.baseline is None:
        return f"No backend was timed; speed was {words.NOT_MEASURED}." if found.asks_for_speed else NOT_ASKED
    shared = [
        f"{ranking.shared} of {words.format_count(ranking.total, 'case')} for {found.named(*at)}"
        for at, ranking in found.rankings.items()
    ]
    equal = " Each compares cases of one launch mode: eager calls, or calls launched from one CUDA graph."
    return (
        f"Speedup over {found.baseline}, the baseline: geometric means over the cases that all ranked backends share "
        f"({words.join_list(shared)}). Intervals cover measurement noise only; other cases may rank differently."
        + (equal if "graph" in found.launches else "")
    )


def about_cases(found: Findings) -> str:
    """How to read the table of cases."""
    return (
        f"{words.format_count(len(found.cases), 'row')}. T: steps, B: batch size, H: hidden size. “± %” is half the 95 % "
        "interval of the time over replicates; that of a speedup is usually narrower: backends are sampled in interleaved "
        "rounds and share drift. A speedup is the median over rounds: “unstable ratio” marks one that differs from the "
        "quotient of the two times by more than a quarter. The first call includes compilation and tuning."
    )


def commands(section: Section) -> list[str]:
    """How to repeat each run, rebuilt from its plan."""
    return list(dict.fromkeys(command(run.header.plan, run.header.environment.get("fleet")) for run in section.runs))


# A run for a terminal: plain rows, all with the same columns; the command line draws them.

STATUS_ORDER = ("ok", "failed", "skipped")
# Cases by what a reader looks for first, not in the shuffled order in which they ran.
CASE_ORDER = ["study", "phase", "launch", "cell", "dtype", "hidden_size", "batch", "steps", "case"]
NOT_SHOWN = ("null", "machine")  # harness overhead and peaks of the machine
Row = dict[str, str]
Values = dict[str, str | int | float | None]


def rows(
    paths: Sequence[Path] = (), baseline: str | None = None, statistic: Statistic = "median", root: Path = ROOT
) -> list[Row]:
    """One row per case and backend as text for a terminal.

    Args:
        paths: run files or folders; without any, the latest run below `root`.
        baseline: backend that speedups are over; without one, that which shares most cases with others.
        statistic: statistic of a call's samples.
        root: folder of results.

    Returns:
        Rows with the same columns; a column for the host's time only where that was measured.

    Raises:
        StoreError: nothing to read.
        UnknownBaseline: the baseline was not timed.
    """
    found = values(paths, baseline, statistic, root)
    hosts = any(value["host_seconds"] is not None for value in found)
    return [_text(value, hosts) for value in found]


def values(
    paths: Sequence[Path] = (), baseline: str | None = None, statistic: Statistic = "median", root: Path = ROOT
) -> list[Values]:
    """The rows of `rows` as numbers for a program.

    Args:
        paths: run files or folders; without any, the latest run below `root`.
        baseline, statistic, root: as for `rows`.

    Returns:
        One row per case and backend in SI units (seconds, tokens/s); None is what was not measured.

    Raises:
        StoreError: nothing to read.
        UnknownBaseline: the baseline was not timed.
    """
    return [value for section in load(paths, root) for value in _section(section, baseline, statistic)]


def remarks(paths: Sequence[Path] = (), root: Path = ROOT) -> list[str]:
    """Sentences on how many outcomes of runs are excluded, and why (see `results.exclusions`).

    Args:
        paths: run files or folders; without any, the latest run below `root`.
        root: folder of results.
    """
    return left_out(read(path) for path in choose(paths, root))


def _section(section: Section, baseline: str | None, statistic: Statistic) -> Iterator[Values]:
    found = find_out(section, baseline, statistic)
    timed = {(row["study"], row["case"], row["backend"]): row for row in rows_of(found.cases)}
    series = section.series[section.series["metric"] != "time"]
    other: dict[tuple[str, str, str], dict[str, Any]] = {}
    for (study, case, backend), rows in series.groupby(["study", "case", "backend"], sort=False):
        notes = reduced_note(rows, section.series) or gradients_statistics.case_gaps(rows)
        other[str(study), str(case), str(backend)] = rows_of(rows[:1])[0] | {"notes": notes}
    records = section.records.assign(rank=section.records["status"].map(STATUS_ORDER.index))
    records = records[~records["backend"].isin(NOT_SHOWN)].sort_values("rank", kind="stable")
    shown: list[Values] = []
    for row in rows_of(records.drop_duplicates(["study", "case", "backend"]).sort_values(CASE_ORDER, key=_throughput_first)):
        key = (row["study"], row["case"], row["backend"])
        start: Values = (
            {"machine": section.title}
            | {name: row[name] for name in ("study", "case", "backend", "launch", "status")}
            | {"title": title(row)}
        )
        measured = _timed(timed[key], found) if key in timed else _other(other.get(key), statistic)
        shown.append(start | measured | ({"notes": row["reason"]} if row["status"] != "ok" else {}))
    for _, of_case in itertools.groupby(shown, key=lambda value: (value["study"], value["case"])):
        yield from sorted(of_case, key=_fastest_first)


def title(row: dict[str, Any]) -> str:
    """A case by its parameters: its study, phase, sizes, data type, device and factors."""
    phase, device = str(row.get("phase") or ""), str(row.get("device") or "")
    cell = str(row.get("cell") or "").replace("_", " ")
    network = " ".join(filter(None, [cell if len(cell) > 5 else cell.upper(), words.format_sizes(row, ("cell", "launch"))]))
    launch = words.LAUNCHES.get(str(row["launch"]), "") if row.get("launch") == "graph" else ""
    where = " on ".join(filter(None, [str(row.get("dtype") or ""), device]))
    factors = str(row["case"]).partition(f"-{device}-")[2] if device else str(row["case"])
    parts = [
        words.PHASES.get(phase, phase),
        network,
        where,
        launch,
        *(part for part in re.split(r"-(?=\w+=)", factors) if "=" in part),
    ]
    return f"{row['study']}: " + (", ".join(filter(None, parts)) or str(row["case"]))


def _throughput_first(column: pd.Series) -> pd.Series:
    return column.where(column != "throughput", "") if column.name == "study" else column


def _fastest_first(value: Values) -> tuple[int, bool, float]:
    """What was measured by its value, then what computed in less than was asked, what failed, and what was skipped."""
    number, reduced = _number(value["value"]), str(value["metric"]).startswith(REDUCED_METRIC)
    return STATUS_ORDER.index(str(value["status"])), reduced, math.inf if number is None else number


def _timed(row: dict[str, Any], found: Findings) -> Values:
    ratio = row["ratio"] if isinstance(row["ratio"], Ratio) else None
    notes = row["notes"] if isinstance(row["notes"], tuple) else ()
    return {
        "metric": "time",
        "unit": "s",
        "value": _number(row["seconds"]),
        "low": _number(row["low"]),
        "high": _number(row["high"]),
        "host_seconds": _number(row["host_seconds"]),
        "tokens_per_second": _number(row["tokens_per_second"]),
        "ratio": None if ratio is None else ratio.value,
        "ratio_low": None if ratio is None else ratio.low,
        "ratio_high": None if ratio is None else ratio.high,
        "baseline": found.baseline,
        "location": found.statistic,
        "notes": ", ".join(str(note) for note in notes),
    }


def _other(series: dict[str, Any] | None, statistic: Statistic) -> Values:
    names = ("value", "low", "high", "host_seconds", "tokens_per_second", "ratio", "ratio_low", "ratio_high", "baseline")
    empty: Values = dict.fromkeys(names)
    said: Values = {"metric": "", "unit": ""} | empty | {"location": statistic, "notes": ""}
    if series is None:
        return said
    value = aggregate(series["samples"], statistic)
    return said | {"metric": series["metric"], "unit": series["unit"], "value": value, "notes": series["notes"]}


def _text(value: Values, hosts: bool) -> Row:
    number, low, high = (_number(value[name]) for name in ("value", "low", "high"))
    spread = f"±{words.format_percent((high - low) / 2 / number)}" if number and low is not None and high is not None else ""
    tokens, ratio = _number(value["tokens_per_second"]), _number(value["ratio"])
    bounds = [_number(value[name]) for name in ("ratio_low", "ratio_high")]
    own = value["backend"] == value["baseline"]
    host = _number(value["host_seconds"])
    interval = (
        "" if None in bounds else f" [{', '.join(words.format_significant(bound) for bound in bounds if bound is not None)}]"
    )
    return {
        "machine": str(value["machine"]),
        "study": str(value["study"]),
        "case": str(value["case"]),
        "title": str(value["title"]),
        "metric": str(value["metric"]),
        "baseline": str(value["baseline"] or ""),
        "backend": str(value["backend"]),
        "measured": str(value["status"]) if number is None else words.format_si(number, str(value["unit"])),
        "±": spread,
        **({"host": "" if host is None else words.format_si(host, "s")} if hosts else {}),
        "tokens/s": "" if tokens is None else words.format_si(tokens, "").strip(),
        "ratio": "" if ratio is None else "baseline" if own else f"{words.format_significant(ratio)}×{interval}",
        "notes": ", ".join(map(words.format_note, str(value["notes"]).split(", ")))
        if value["metric"] == "time"
        else str(value["notes"]),
    }


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not pd.isna(value) else None
