"""The forest plot: how many times as fast as the baseline, per backend, with its interval and every case behind it."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from analysis.report import words
from analysis.report.drawing import Drawing, look, panels
from analysis.report.style import INK, PAPER, style
from analysis.statistics.ratios import Ranking, Ratio


def draw(cases: pd.DataFrame, rankings: dict[str, Ranking], baseline: str) -> Drawing | None:
    """cases: as in `Findings.cases`, of one device. rankings: phase → ranking. Needs a backend beside the baseline."""
    rankings = {phase: ranking for phase, ranking in rankings.items() if len(ranking.ratios) > 1}
    if not rankings:
        return None
    best: dict[str, float] = {}
    for ranking in rankings.values():
        for name, ratio in ranking.ratios.items():
            if name != baseline:
                best[name] = max(best.get(name, 0.0), ratio.value)
    backends = sorted(best, key=lambda name: best[name])
    with look():
        figure, grid = panels(len(rankings), 1, 1.0 + 0.36 * len(backends))
        for axes, (phase, ranking) in zip(grid[0], rankings.items(), strict=True):
            _panel(axes, cases[cases["phase"] == phase], ranking, backends, baseline)
            axes.set_title(f"{words.PHASES[phase].capitalize()}, {words.count(ranking.shared, 'case')}")
        grid[0][0].set_yticks(range(len(backends)), backends)
        grid[0][0].set_ylim(-0.6, len(backends) - 0.4)
    return Drawing(figure, f"Times as fast as {baseline}", _caption(cases, rankings, baseline))


def _panel(axes: Axes, cases: pd.DataFrame, ranking: Ranking, backends: list[str], baseline: str) -> None:
    axes.axvline(1, color=INK, lw=1)
    values = [1.0]
    for place, name in enumerate(backends):
        own = style(name)
        every = [ratio.value for ratio in cases.loc[cases["backend"] == name, "ratio"] if isinstance(ratio, Ratio)]
        axes.plot(every, [place - 0.24] * len(every), "|", color=own.colour, ms=6, alpha=0.6)
        values += every
        ratio = ranking.ratios.get(name)
        if ratio is None:
            if not every:
                axes.text(
                    0.5, place, words.NOT_MEASURED, transform=axes.get_yaxis_transform(), ha="center", va="center", alpha=0.6
                )
            continue
        if ratio.low is not None and ratio.high is not None:
            axes.plot([ratio.low, ratio.high], [place, place], color=own.colour, lw=3, solid_capstyle="butt")
        axes.plot(ratio.value, place, own.marker, color=own.colour, ms=8, mec=PAPER, mew=0.8, zorder=4)
    axes.set_xscale("log")
    low, high = min(values) / 1.25, max(values) * 1.25
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(
        LogLocator(10, subs=(1, 3) if high / low > 30 else (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 6, 8))
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"times as fast as {baseline}")
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def _caption(cases: pd.DataFrame, rankings: dict[str, Ranking], baseline: str) -> str:
    said = []
    for phase, ranking in rankings.items():
        verdicts = [ratio.verdict for name, ratio in ranking.ratios.items() if name != baseline]
        tally = [f"{verdicts.count(word)} {word}" for word in ("faster", "slower") if verdicts.count(word)]
        tally += [f"{verdicts.count(None)} not decided"] if verdicts.count(None) else []
        said.append(f"{words.PHASES[phase]} {words.listed(tally)}")
    ratios = [ratio for ranking in rankings.values() for name, ratio in ranking.ratios.items() if name != baseline]
    without = {words.no_interval(ratio) for ratio in ratios} - {""}
    interval = f"({words.listed(sorted(without))})" if without else "with their 95 % interval over replicates"
    location = next(iter(next(iter(rankings.values())).ratios.values())).location
    return (
        f"Against {baseline}: {'; '.join(said)}. Large markers are geometric means over shared cases {interval}, "
        f"ticks below them single cases (location: {words.LOCATIONS[location]})."
    )
