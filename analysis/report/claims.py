"""The claims table: every claim that the runs tested, its verdict, the measured value with its interval, the published one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from analysis.report import words
from analysis.report.load import Section, load, newest_of_each_study, run_name, studies_with_claims, weight
from analysis.report.tables import Cell, Column, Table
from analysis.statistics import power
from analysis.statistics.quantities import Outcome, Verdict, Word, judge, named
from results.claims import Claim
from results.record import Header
from results.store import ROOT


@dataclass(frozen=True, slots=True)
class Tested:
    """A claim as one section's runs judge it. runs: the newest first."""

    verdict: Verdict
    study: str
    machine: str
    runs: tuple[Header, ...]
    older: tuple[Header, ...] = ()  # of other sections, that tested it too

    @property
    def rank(self) -> tuple[bool, int, str]:
        """Highest is what the table shows: what measured anything, no smoke run, the newest.

        A newer run that measured nothing of the claim (narrowed by `--where`, say) must not hide an older verdict, nor must a
        smoke run.
        """
        estimates = [estimate for finding in self.verdict.findings for estimate in finding.estimates]
        measured = any(estimate.value is not None or estimate.beyond is not None for estimate in estimates)
        return measured, weight(self.runs[0]), self.runs[0].started

    @property
    def by(self) -> str:
        """`2026-11-24 173926-gradients`, those read with it, and those it is newer than."""
        newest, *others = map(run_name, self.runs)
        beside = f", read with {words.join_list(others)}" if others else ""
        older = f"; newer than {words.join_list(map(run_name, self.older))}" if self.older else ""
        return f"{newest}{beside}{older}"


def tested(sections: Sequence[Section]) -> list[Tested]:
    """Each claim once a machine, by study. Where several sections tested it the newest counts that measured anything of it."""
    found: dict[tuple[str, str, str], list[Tested]] = {}
    for section in sections:
        for each in _of_section(section):
            found.setdefault((each.study, each.verdict.claim.name, each.machine), []).append(each)
    chosen = []
    for candidates in found.values():
        best = max(candidates, key=lambda each: each.rank)
        older = tuple(header for each in candidates if each is not best for header in each.runs)
        chosen.append(replace(best, older=older))
    studies, names = ([*dict.fromkeys(key[part] for key in found)] for part in (0, 1))
    return sorted(chosen, key=lambda each: (studies.index(each.study), names.index(each.verdict.claim.name)))


def _of_section(section: Section) -> list[Tested]:
    """By the rule that stood in the newest run."""
    claims: dict[str, tuple[Claim, str, list[Header]]] = {}
    for run in section.runs:
        studies = studies_with_claims(run.header)
        for claim in run.header.claims:
            study = claim.study or (studies[0] if len(studies) == 1 else "")
            before = claims[claim.name][2] if claim.name in claims else []
            claims[claim.name] = claim, study, [run.header, *before]
    return [
        Tested(judge(claim, section.series, section.records), study, section.title, tuple(headers))
        for claim, study, headers in claims.values()
    ]


def verdicts(section: Section) -> list[Verdict]:
    """One verdict for each claim of the section's runs."""
    return [each.verdict for each in _of_section(section)]


def measurements(verdict: Verdict) -> list[str]:
    """For each setting that was measured its numbers: `LSTM as PyTorch: decay length (10⁻³) 12 steps [11, 13]`."""
    quantities = [named(test.quantity) for test in verdict.claim.tests]
    return [
        f"{finding.label}: "
        + ", ".join(
            f"{quantity.label} {quantity.format(estimate)}"
            for quantity, estimate in zip(quantities, finding.estimates, strict=True)
        )
        for finding in verdict.findings
        if finding.measured
    ] or [words.NOT_MEASURED]


def published(claim: Claim) -> str:
    """The published value and its source."""
    if not claim.published:
        return "no value known"
    return f"{claim.published} ({claim.source})" if claim.source else claim.published


def planned(claim: Claim) -> str:
    """What its rules need for 80 % power: `15 seeds if loss gap is 0.05 nat (published)`; "" where none states an effect."""
    parts = []
    for test in claim.tests:
        if test.effect is None or test.spread is None:
            continue
        quantity, needed = named(test.quantity), power.seeds_needed(test)
        if test.spread == 0:
            parts.append(f"{quantity.label}: found, not estimated")
            continue
        count = f"more than {power.MOST} seeds" if needed is None else words.format_count(needed, "seed")
        unit = "" if quantity.unit in ("", "×") else f" {quantity.unit}"
        parts.append(f"{count} if {quantity.label} is {words.format_number(test.effect)}{unit} ({test.basis})")
    return "; ".join(parts)


def verdict_text(verdict: Verdict) -> str:
    """`supported`, or `mixed (2 of 5 settings)`."""
    if verdict.word != "mixed":
        return verdict.word
    return f"mixed ({len(verdict.labels('supported'))} of {words.format_count(len(verdict.findings), 'setting')})"


def explanation(verdict: Verdict) -> str:
    """The settings by outcome where those differ, every one named, and the backends that were not tested."""
    settings: dict[Outcome, list[str]] = {outcome: verdict.labels(outcome) for outcome in get_args(Outcome)}
    parts = [
        f"{outcome} for {words.join_list(label.replace(', ', ' ') for label in labels)}"
        for outcome, labels in settings.items()
        if labels and len({finding.outcome for finding in verdict.findings}) > 1
    ]
    sentences = [words.capitalised("; ".join(parts)) + "."] if parts else []
    untested = [f"{words.join_list(names)} ({status})" for status, names in verdict.untested.items()]
    sentences += [f"Not tested on {words.join_list(untested)}."] if untested else []
    return " ".join(sentences)


@dataclass(frozen=True, slots=True)
class Card:
    """A claim for the page. anchor: its id there; figure: that of its figure, where it was drawn."""

    anchor: str
    statement: str
    study: str
    word: Word
    verdict: str
    explanation: str
    measured: list[str]
    published: str
    source: str
    planned: str
    by: str
    figure: str


def cards(found: Sequence[Tested], anchors: Mapping[str, str]) -> list[Card]:
    """anchors: name of a figure → its id in the page."""
    return [
        Card(
            anchor=f"claim-{each.verdict.claim.name}",
            statement=each.verdict.claim.statement,
            study=each.study,
            word=each.verdict.word,
            verdict=words.capitalised(verdict_text(each.verdict)),
            explanation=explanation(each.verdict),
            measured=measurements(each.verdict),
            published=each.verdict.claim.published or "no value known",
            source=each.verdict.claim.source,
            planned=planned(each.verdict.claim),
            by=each.by,
            figure=anchors.get(each.verdict.claim.figure, ""),
        )
        for each in found
    ]


def board(found: Sequence[Tested]) -> Table:
    """The same as a table, for the Markdown version."""
    columns = (
        Column("Claim"), Column("Verdict"), Column("Measured", hint="mean over seeds, 95 % interval"),
        Column("Published value"), Column("Tested by"),
    )  # fmt: skip
    rows, headings = [], {}
    for each in found:
        verdict = each.verdict
        if each.study not in headings.values():
            headings[len(rows)] = each.study
        said = f"{words.capitalised(verdict_text(verdict))}. {explanation(verdict)}".removesuffix(". ")
        texts = (verdict.claim.statement, said, "; ".join(measurements(verdict)), published(verdict.claim), each.by)
        rows.append(tuple(Cell(text) for text in texts))
    return Table("claims", columns, tuple(rows), headings)


def counted(found: Sequence[Tested]) -> dict[Word, int]:
    """How many claims have which verdict, in the order of verdicts; none that no claim has."""
    number = Counter(each.verdict.word for each in found)
    return {word: number[word] for word in get_args(Word) if number[word]}


def tally(found: Sequence[Tested]) -> str:
    """`27 claims: 9 supported, 8 mixed, 2 refuted and 8 inconclusive.`"""
    parts = [f"{number} {word}" for word, number in counted(found).items()]
    return f"{words.format_count(len(found), 'claim')}: {words.join_list(parts)}."


def rows(paths: Sequence[Path] = (), root: Path = ROOT) -> list[dict[str, str]]:
    """The claims table as text for a terminal.

    Args:
        paths: run files or folders; without any, the newest run of each study that tests claims.
        root: folder of results.

    Returns:
        One row a claim: study, machine, run, claim, statement, verdict (one of `Word`), conditions, measured, published,
        planned (seeds for 80 % power).

    Raises:
        StoreError: nothing to read.
    """
    return [
        {
            "study": each.study,
            "machine": each.machine,
            "run": each.by,
            "claim": each.verdict.claim.name,
            "statement": each.verdict.claim.statement,
            "verdict": each.verdict.word,
            "conditions": explanation(each.verdict),
            "measured": "; ".join(measurements(each.verdict)),
            "published": published(each.verdict.claim),
            "planned": planned(each.verdict.claim),
        }
        for each in tested(load(paths or newest_of_each_study(root), root))
    ]
