"""The Markdown version of the report: the first screen in short, everything else folded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from analysis.report import pull_request, words
from analysis.report.drawing import style
from analysis.report.findings import Findings
from analysis.report.overview import Overview
from analysis.statistics.ratios import Ratio

MOST_FACTS = 8
MOST_PANELS = 4


def render(
    founds: Sequence[Findings], overviews: Sequence[Overview], folded: Sequence[tuple[str, str]], made: str, image: str = ""
) -> str:
    """The report for a pull request.

    Args:
        founds, overviews: of the sections.
        folded: what each fold holds, and its Markdown.
        made: the moment, as text.
        image: file of the chart beside it; empty where there is none.
    """
    several = len(founds) > 1
    facts = [fact for each, found in zip(overviews, founds, strict=True) for fact in _facts(each, found, several)]
    more = [f"{words.format_count(len(facts) - MOST_FACTS, 'more line')} below"] if len(facts) > MOST_FACTS else []
    headlines = [each.headline for each in overviews if each.headline]
    machines = words.join_list(dict.fromkeys(found.section.title for found in founds))
    verdict = headlines[0] if len(headlines) == 1 else f"LSTM backends, measured on {machines}"
    shown = [*facts[:MOST_FACTS], *more, f"Written by lstm-bench, {made}."]
    return pull_request.document(verdict, shown, ("Speedup by phase with 95 % intervals", image) if image else None, (), folded)


def _facts(each: Overview, found: Findings, several: bool) -> list[str]:
    where = f"{found.section.title}: " if several else ""
    said = [f"{where}{each.eyebrow}"]
    for card in each.cards:
        value = f"{card.value} " if card.value else ""
        verdict = f" {card.verdict}." if card.verdict else ""
        said.append(f"**{card.title}: {card.name}.** {words.capitalised(f'{value}{card.detail}')}.{verdict}")
    if each.cards:
        said.append(f"Precision: {each.level}. {each.precision} {each.remedy}".strip())
    return said


def chart(founds: Sequence[Findings], path: Path) -> bool:
    """Draw the speedups of the first rankings as PNG; returns whether there was any to draw."""
    panels = []
    for found in founds:
        for at, ranking in found.rankings.items():
            dots = [_dot(name, ratio, name == found.baseline) for name, ratio in ranking.ratios.items()]
            where = f" · {found.section.title}" if len(founds) > 1 else ""
            if len(dots) > 1:
                title = f"{words.capitalised(found.named(*at))}{where}"
                panels.append((found.baseline, pull_request.Panel(title, tuple(dots[: pull_request.MOST_ROWS]))))
    shown = [(baseline, panel) for baseline, panel in panels if baseline == panels[0][0]][:MOST_PANELS]
    if not shown:
        return False
    label = f"speedup over {shown[0][0]}, 95 % CI"
    pull_request.chart([panel for _, panel in shown], label, "", path, lambda value: f"{value:g}×")
    return True


def _dot(name: str, ratio: Ratio, baseline: bool) -> pull_request.Dot:
    low, high = (None, None) if baseline else (ratio.low, ratio.high)
    look = style(name)
    return pull_request.Dot(name, ratio.value, low, high, look.colour, look.marker, baseline)
