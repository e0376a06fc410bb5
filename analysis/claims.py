"""The claims board: every claim the runs set out to test, its verdict, our number with its interval, the published one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.load import Section, load
from analysis.quantities import WORDS
from analysis.tables import Cell, Column, Table
from analysis.verdicts import Verdict, judge, spoken
from results.claims import Claim
from results.store import ROOT

TONES = {"supported": "faster", "supported with conditions": "faster", "not supported": "slower", "inconclusive": "undecided"}


def verdicts(section: Section) -> list[Verdict]:
    """One verdict for each claim of the section's runs, by the rule that stood in the run."""
    found: dict[str, Claim] = {claim.name: claim for run in section.runs for claim in run.header.claims}
    return [judge(claim, section.series) for claim in found.values()]


def numbers(verdict: Verdict) -> list[str]:
    """For each setting its numbers: `LSTM as PyTorch: n(10⁻³) 12 steps [11, 13]`."""
    tests = verdict.claim.tests
    return [
        f"{finding.label}: "
        + ", ".join(
            f"{WORDS.get(test.quantity, test.quantity)} {spoken(test.quantity, estimate)}"
            for test, estimate in zip(tests, finding.estimates, strict=True)
        )
        for finding in verdict.findings
    ]


def in_print(claim: Claim) -> str:
    """The published number and where it stands."""
    if not claim.published:
        return "no number known"
    return f"{claim.published} ({claim.source})" if claim.source else claim.published


def board(section: Section, links: dict[str, str]) -> Table:
    """links: figure name → anchor in the page, for those that were drawn."""
    columns = (
        Column("Claim"),
        Column("Verdict"),
        Column("Measured", hint="mean over seeds, 95 % interval"),
        Column("In print"),
    )
    rows = []
    for verdict in verdicts(section):
        claim = verdict.claim
        said = verdict.word + (f". {verdict.conditions}" if len(verdict.findings) > 1 else "")
        rows.append(
            (
                Cell(claim.statement, link=links.get(claim.figure, "")),
                Cell(said[0].upper() + said[1:], tone=TONES[verdict.word]),
                Cell("; ".join(numbers(verdict))),
                Cell(in_print(claim)),
            )
        )
    return Table("claims", columns, tuple(rows))


def rows(paths: Sequence[Path] = (), root: Path = ROOT) -> list[dict[str, str]]:
    """The board as text for a terminal, one row a claim."""
    found = []
    for section in load(paths, root):
        for verdict in verdicts(section):
            claim = verdict.claim
            found.append(
                {
                    "claim": claim.name,
                    "statement": claim.statement,
                    "verdict": verdict.word,
                    "conditions": verdict.conditions if len(verdict.findings) > 1 else "",
                    "measured": "; ".join(numbers(verdict)),
                    "published": in_print(claim),
                }
            )
    return found
