"""The claims table: every claim that the runs tested, its verdict, the measured value with its interval, the published one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from analysis.report import words
from analysis.report.load import Section, load, newest_of_each_study, studies_with_claims, weight
from analysis.report.tables import Cell, Column, Table
from analysis.statistics.quantities import Outcome, Verdict, Word, judge, named
from results.claims import Claim
from results.record import Header
from results.store import ROOT

TONES = {
    "supported": "faster", "mixed": "undecided", "refuted": "slower", "inconclusive": "undecided", "not measured": "undecided",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tested:
    """A claim as one section's runs judge it. section: its place among the sections; runs: the newest first."""

    verdict: Verdict
    study: str
    machine: str
    section: int
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
        newest, *others = map(_named, self.runs)
        beside = f", read with {words.join_list(others)}" if others else ""
        older = f"; newer than {words.join_list(map(_named, self.older))}" if self.older else ""
        return f"{newest}{beside}{older}"


def _named(header: Header) -> str:
    git = header.environment.get("git")
    unknown = isinstance(git, Mapping) and git.get("commit") is None  # such a run is no point of a history of commits
    return f"{header.started[:10]} {header.run}" + (" (commit unknown)" if unknown else "")


def tested(sections: Sequence[Section]) -> list[Tested]:
    """Each claim once a machine, by study. Where several sections tested it the newest counts that measured anything of it."""
    found: dict[tuple[str, str, str], list[Tested]] = {}
    for place, section in enumerate(sections):
        for each in _of_section(section, place):
            found.setdefault((each.study, each.verdict.claim.name, each.machine), []).append(each)
    chosen = []
    for candidates in found.values():
        best = max(candidates, key=lambda each: each.rank)
        older = tuple(header for each in candidates if each is not best for header in each.runs)
        chosen.append(Tested(best.verdict, best.study, best.machine, best.section, best.runs, older))
    studies, names = ([*dict.fromkeys(key[part] for key in found)] for part in (0, 1))
    return sorted(chosen, key=lambda each: (studies.index(each.study), names.index(each.verdict.claim.name)))


def _of_section(section: Section, place: int) -> list[Tested]:
    """By the rule that stood in the newest run."""
    claims: dict[str, tuple[Claim, str, list[Header]]] = {}
    for run in section.runs:
        studies = studies_with_claims(run.header)
        for claim in run.header.claims:
            study = claim.study or (studies[0] if len(studies) == 1 else "")
            before = claims[claim.name][2] if claim.name in claims else []
            claims[claim.name] = claim, study, [run.header, *before]
    return [
        Tested(judge(claim, section.series, section.records), study, section.title, place, tuple(headers))
        for claim, study, headers in claims.values()
    ]


def verdicts(section: Section) -> list[Verdict]:
    """One verdict for each claim of the section's runs."""
    return [each.verdict for each in _of_section(section, 0)]


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


def board(found: Sequence[Tested], links: Sequence[Mapping[str, str]]) -> Table:
    """links: for each section figure name → anchor in the page, where it was drawn; else a claim leads to its section."""
    machines = len({each.machine for each in found}) > 1
    columns = [
        Column("Claim"),
        Column("Verdict"),
        Column("Measured", hint="mean over seeds, 95 % interval"),
        Column("Published value"),
    ]
    columns += [Column("Tested by")]
    rows, headings = [], {}
    for each in found:
        verdict, claim = each.verdict, each.verdict.claim
        if each.study not in headings.values():
            headings[len(rows)] = each.study
        where = f"{each.machine}: " if machines else ""
        rows.append(
            (
                Cell(claim.statement, link=links[each.section].get(claim.figure, f"s{each.section}")),
                Cell(
                    f"{words.capitalised(verdict_text(verdict))}. {explanation(verdict)}".removesuffix(". "),
                    tone=TONES[verdict.word],
                ),
                Cell("; ".join(measurements(verdict))),
                Cell(published(claim)),
                Cell(f"{where}{each.by}", link=f"s{each.section}"),
            )
        )
    return Table("claims", tuple(columns), tuple(rows), headings)


def tally(found: Sequence[Tested]) -> str:
    """`27 claims: 9 supported, 8 mixed, 2 refuted and 8 inconclusive.`"""
    counted = Counter(each.verdict.word for each in found)
    parts = [f"{counted[word]} {word}" for word in get_args(Word) if counted[word]]
    return f"{words.format_count(len(found), 'claim')}: {words.join_list(parts)}."


def rows(paths: Sequence[Path] = (), root: Path = ROOT) -> list[dict[str, str]]:
    """The claims table as text for a terminal.

    Args:
        paths: run files or folders; without any, the newest run of each study that tests claims.
        root: folder of results.

    Returns:
        One row a claim: study, machine, run, claim, statement, verdict (one of `Word`), conditions, measured, published.

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
        }
        for each in tested(load(paths or newest_of_each_study(root), root))
    ]
