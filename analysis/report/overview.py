"""The first screen of the report: who is fastest, by how much, and how precisely that is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.report import words
from analysis.report.findings import PHASES, Findings, machine_name, timings
from analysis.report.load import Section, commit_of
from analysis.statistics.ratios import Ranking, Ratio, log_ratios, ranking

LONGEST_HEADLINE = 70  # characters
# Half widths of the 95 % intervals of half of the speedups, as factors: up to the first precision is high, then medium.
HIGH, MEDIUM = 1.05, 1.2
FEW_REPLICATES = 10  # with fewer, more of them are advised
Level = Literal["high", "medium", "low", "unknown"]


@dataclass(frozen=True, slots=True)
class Card:
    """One phase on one device. clear: whether the leader's interval over the runner-up excludes 1; None for one backend."""

    title: str
    name: str
    value: str
    detail: str
    clear: bool | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Overview:
    """Sentences and cards; `headline` is empty where no speeds are compared."""

    eyebrow: str
    headline: str
    level: Level
    precision: str
    remedy: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class _Lead:
    """The fastest backend of a ranking, and its speedup over the runner-up on the cases that all ranked backends share."""

    ranking: Ranking
    leader: str
    runner_up: str | None
    over_runner_up: Ratio | None

    @property
    def clear(self) -> bool | None:
        return None if self.runner_up is None else self.over_runner_up is not None and self.over_runner_up.verdict == "faster"


def overview(found: Findings) -> Overview:
    """Of one section."""
    leads = {at: _lead(found, at, each) for at, each in found.rankings.items()}
    level, precision, remedy = _precision(found)
    return Overview(
        eyebrow=_eyebrow(found.section),
        headline=_headline(found, leads),
        level=level,
        precision=precision,
        remedy=remedy,
        cards=tuple(_card(found, at, leads[at]) for at in _in_order(leads)),
    )


def _in_order(leads: dict[tuple[str, str, str], _Lead]) -> list[tuple[str, str, str]]:
    devices = list(dict.fromkeys(device for device, _, _ in leads))
    return sorted(leads, key=lambda at: (devices.index(at[0]), PHASES.index(at[1]) if at[1] in PHASES else len(PHASES), at[2]))


def _lead(found: Findings, at: tuple[str, str, str], ranked: Ranking) -> _Lead:
    """With the runner-up as the baseline, so that the drift that the two share cancels."""
    names = list(ranked.ratios)
    if len(names) < 2:
        return _Lead(ranked, names[0], None, None)
    leader, second = names[:2]
    if second == found.baseline:
        return _Lead(ranked, leader, second, ranked.ratios[leader])
    times = timings(found.section)
    for column, value in zip(("device", "phase", "launch"), at, strict=True):
        times = times[times[column] == value]
    logs = log_ratios(times[times["backend"].isin(names)], second, found.statistic)
    return _Lead(ranked, leader, second, ranking(logs, second, found.statistic).ratios.get(leader))


def _eyebrow(section: Section) -> str:
    """Suite, processor or GPU, data types, date and commit."""
    header = section.runs[-1].header
    suite, git = header.plan.get("suite"), header.environment.get("git") or {}
    dtypes = sorted({str(dtype) for dtype in section.records.get("dtype", []) if isinstance(dtype, str)})
    commit = f"commit {commit_of(header)}" + (" with changes" if git.get("dirty") else "") if commit_of(header) else ""
    parts = [f"{suite} suite" if suite else "", machine_name(section), ", ".join(dtypes[:3]), header.started[:10], commit]
    return " · ".join(part for part in parts if part)


def _headline(found: Findings, leads: dict[tuple[str, str, str], _Lead]) -> str:
    """Phase by phase as long as it stays short; a winner only where its interval against the runner-up excludes 1."""
    said = ""
    for at in _in_order(leads):
        lead = leads[at]
        if lead.runner_up is None:
            continue
        what = words.capitalised(found.named(*at))
        other = lead.runner_up if lead.leader == found.baseline else found.baseline
        ratio = lead.over_runner_up if lead.leader == found.baseline else lead.ranking.ratios[lead.leader]
        winner = f"{lead.leader}, {words.format_significant(ratio.value, 2)}× {other}" if lead.clear and ratio else ""
        sentence = f"{what}: {winner or 'no clear winner'}."
        if said and len(said) + 1 + len(sentence) > LONGEST_HEADLINE:
            break
        said = f"{said} {sentence}".strip()
    return said


def _card(found: Findings, at: tuple[str, str, str], lead: _Lead) -> Card:
    title = f"{words.capitalised(found.named(*at))} · {words.format_count(lead.ranking.shared, 'case')}"
    if lead.runner_up is None:
        return Card(title, lead.leader, "", "the only backend that was measured", None, "")
    over = lead.over_runner_up
    if lead.leader == found.baseline:
        other, ratio = lead.runner_up, over
    else:
        other, ratio = found.baseline, lead.ranking.ratios[lead.leader]
    value = f"{words.format_significant(ratio.value)}×" if ratio else ""
    detail = f"the speed of {other}{_interval(ratio)}" if ratio else f"{other} shares no case with it"
    if lead.clear and over is not None:
        also = "" if other == lead.runner_up else f": {words.format_ratio(over)}"
        return Card(title, lead.leader, value, detail, True, f"Separated from {lead.runner_up}{also}")
    verdict = f"Not separated from {lead.runner_up}" + (f": {words.format_ratio(over)}" if over else "")
    return Card(title, f"{lead.leader} or {lead.runner_up}", value, detail, False, verdict)


def _interval(ratio: Ratio | None) -> str:
    if ratio is None or ratio.low is None or ratio.high is None:
        return ", one replicate: no interval" if ratio is not None and ratio.replicates == 1 else ", no interval"
    low, high = (words.format_significant(each) for each in (ratio.low, ratio.high))
    return f", 95 % CI {low}–{high}"


def _precision(found: Findings) -> tuple[Level, str, str]:
    """How well half of the speedups are known, and what to do about it."""
    ratios = [ratio for ratio in found.cases["ratio"] if isinstance(ratio, Ratio) and ratio.low != ratio.high]
    halves = [float(np.log(ratio.high / ratio.low)) / 2 for ratio in ratios if ratio.low and ratio.high]
    if not halves:
        return "unknown", "No speedup has an interval: that takes two replicates.", "Measure again with --replicates 3."
    middle = float(np.median(halves))
    level: Level = "high" if middle <= np.log(HIGH) else "medium" if middle <= np.log(MEDIUM) else "low"
    unsteady = sum("no_steady_state" in notes for notes in found.cases["notes"])
    replicates = int(found.cases["replicates"].max())
    known = "half of the speedups are known to within " + words.format_half_width(middle)
    why = [words.format_count(replicates, "process", "processes")]
    why += [f"{unsteady} of {words.format_count(len(found.cases), 'timing')} had not converged"] if unsteady else []
    precision = f"{words.capitalised(known)} ({'; '.join(why)})."
    if level == "high":
        return level, precision, ""
    closer = words.format_significant(float(np.exp(2 * middle)), 2)
    more = f"an idle machine or --replicates {FEW_REPLICATES}" if replicates < FEW_REPLICATES else "an idle machine"
    return level, precision, f"To separate backends closer than {closer}×, use {more}."
