"""The first screen of the report: who is fastest, by how much, and how precisely that is known."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

import numpy as np

from analysis.report import words
from analysis.report.findings import Findings, machine_name
from analysis.report.load import Section, command, commit_of
from analysis.statistics.rankings import MOST_WANTED, At, Pair, Ranking, standings
from analysis.statistics.ratios import Ratio

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
    pair: Pair | None

    @property
    def over_runner_up(self) -> Ratio | None:
        return self.pair.speedup if self.pair else None

    @property
    def clear(self) -> bool | None:
        return None if self.pair is None else self.pair.verdict == "faster"


def overview(found: Findings) -> Overview:
    """Of one section."""
    leads = {at: _lead(each) for at, each in found.rankings.items()}
    level, precision, remedy = _precision(found)
    return Overview(
        eyebrow=_eyebrow(found.section),
        headline=_headline(found, leads),
        level=level,
        precision=precision,
        remedy=remedy,
        cards=tuple(_card(found, at, leads[at]) for at in found.ordered_rankings),
    )


def _lead(ranked: Ranking) -> _Lead:
    names = list(ranked.ratios)
    if len(names) < 2:
        return _Lead(ranked, names[0], None, None)
    leader, second = names[:2]
    return _Lead(ranked, leader, second, ranked.pair(leader, second))


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
    for at in found.ordered_rankings:
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
    alike = lead.pair is not None and lead.pair.verdict == "within"
    verdict = f"{'Within 5 % of' if alike else 'Not separated from'} {lead.runner_up}"
    verdict += f": {words.format_ratio(over)}" if over else ""
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


# Rankings: the order of the backends of a phase, how far each is from the fastest, and which neighbours are not separated.


def open_pairs(found: Findings, at: At, command_too: bool = True) -> list[str]:
    """Sentences on the pairs of a ranking that are not decided, and what deciding them would take, the command last."""
    ranking = found.rankings[at]
    if not ranking.open:
        return []
    named = [" – ".join(names) for names in ranking.open]
    sentences = [f"not separated: {words.join_list(named)}."]
    if any(pair.speedup.low is None for pair in ranking.pairs.values()):
        return [*sentences, "Without two complete replicates there is no interval."]
    wanted = {names: ranking.pairs[names].wanted for names in ranking.open}
    if hopeless := [" and ".join(names) for names, number in wanted.items() if number is None]:
        sentences.append(f"More than {MOST_WANTED} replicates would not decide {words.join_list(hopeless)} on this machine.")
    if counts := [number for number in wanted.values() if number is not None]:
        backends = [name for name in ranking.ratios if any(name in names for names, number in wanted.items() if number)]
        plan = dict(found.section.runs[-1].header.plan)
        plan |= {"backends": backends, "replicates": max(counts), "threads": None, "time_budget": None, "seed": None}
        plan["filters"] = list(dict.fromkeys((*plan.get("filters", ()), f"phase={at[1]}")))
        end = ":" if command_too else "."
        sentences.append(f"About {max(counts)} replicates would tell them apart, or that they are within 5 %{end}")
        sentences += [command(plan)] if command_too else []
    return sentences


def ranking_lines(found: Findings, width: int = 80) -> list[str]:
    """The rankings for a terminal, wrapped at `width` columns; none where no two backends were timed repeatedly."""
    lines: list[str] = []
    pairs, undecided = 0, 0
    for at in found.ordered_rankings:
        ranking = found.rankings[at]
        if not any(pair.speedup.low is not None for pair in ranking.pairs.values()):
            continue
        pairs, undecided = pairs + len(ranking.pairs), undecided + len(ranking.open)
        rows = standings(ranking)
        longest = max(len(row.backend) for row in rows)
        counts = sorted({pair.speedup.replicates for pair in ranking.pairs.values()})
        replicates = "–".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        lines.append(
            f"{words.capitalised(found.named(*at))}: {words.format_count(ranking.shared, 'case')}, {replicates} replicates"
        )
        for row in rows:
            speed, beside = words.format_ratio(row.speed), words.BESIDE_FASTER[row.beside] if row.beside else ""
            lines.append(f"{row.place:>3}  {row.backend:<{longest}}  {speed:<22}  {beside}".rstrip())
        for sentence in open_pairs(found, at):
            lines += textwrap.wrap(sentence, width, initial_indent="     ", subsequent_indent="     ", break_long_words=False)
        lines.append("")
    if not lines:
        return []
    decided = f"{pairs - undecided} of {words.format_count(pairs, 'pair')} of backends ranked or within 5 %"
    about = f"Rankings: {decided}. {about_rankings(found)}"
    return [*textwrap.wrap(about, width), "", *lines[:-1]]


def rankings_text(found: Findings) -> str:
    """What the page says above its table of rankings."""
    undecided = [(found.named(*at), open_pairs(found, at, command_too=False)) for at in found.ordered_rankings]
    said = [f"{words.capitalised(phase)}, {' '.join(sentences)}" for phase, sentences in undecided if sentences]
    return " ".join([about_rankings(found), *said, *(["lstm-bench show prints the commands that would."] if said else [])])


def about_rankings(found: Findings) -> str:
    """What the numbers of a ranking are."""
    statistics = dict.fromkeys(ratio.statistic for ranking in found.rankings.values() for ratio in ranking.ratios.values())
    statistic = words.join_list([words.STATISTICS[each] for each in statistics])
    text = (
        "Speeds relative to the fastest: geometric means over the cases, 95 % intervals over replicates, by the "
        f"{statistic} of each process; the last column is beside the backend above."
    )
    own = [
        f"{first} and {second}"
        for each in found.rankings.values()
        for first, second in each.pooled.own
        if each.pooled.deviation
    ]
    whole = [
        f"{found.named(*at)} ({each.pooled.reason})" for at, each in found.rankings.items() if each.pooled.reason and each.pairs
    ]
    text += f" Scatter more than the pooled variance allows, and keep their own: {words.join_list(own)}." if own else ""
    return text + (f" Variances are not pooled, so that intervals are wide: {words.join_list(whole)}." if whole else "")
