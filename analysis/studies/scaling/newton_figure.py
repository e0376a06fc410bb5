"""Rounds of Newton's method against the largest Lyapunov exponent: what it costs to evaluate an LSTM all at once."""

from __future__ import annotations

import pandas as pd

from analysis.report import words
from analysis.report.drawing import Drawing, look, panels
from analysis.report.style import DASHES, FAINT, MARKERS, PALETTE, PAPER
from analysis.statistics import verdicts
from analysis.statistics.quantities import select
from analysis.studies.scaling import newton


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: a section's; one mark a seed."""
    rows = select(series, "study=scaling,sweep=newton") if "sweep" in series else series.iloc[:0]
    if rows.empty or not (rows["metric"] == "rounds").any():
        return None
    lengths = sorted(rows["steps"].unique())
    with look():
        figure, grid = panels(len(lengths))
        for axes, steps in zip(grid[0], lengths, strict=True):
            for place, (init, part) in enumerate(rows[rows["steps"] == steps].groupby("init", sort=False)):
                found = part.set_index("metric")["samples"]
                axes.plot(
                    found["lyapunov"], found["rounds"], MARKERS[place % 8], color=PALETTE[place % 8], mec=PAPER, mew=0.6,
                    label=str(init),
                )  # fmt: skip
            axes.axvline(0, color=FAINT, lw=1, linestyle=DASHES[2])
            axes.set(xlabel="largest Lyapunov exponent, nat/step", yscale="log", title=f"T = {steps:g}")
            axes.tick_params(labelleft=True)
            axes.set_yticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
            axes.minorticks_off()
        grid[0][0].set_ylabel("rounds until |s − F(s)| < 10⁻¹²")
        handles, names = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=5)
    worst = max(float(samples.max()) for samples in rows.loc[rows["metric"] == "difference", "samples"])
    return Drawing(
        figure,
        "An LSTM all at once, by Newton's method",
        "Each round is one parallel scan of 2H × 2H maps over all steps; a mark a seed, by initialisation. The states "
        f"differ from those of stepping by at most {worst:.1e}. {_said(rows)}",
    )


def _said(rows: pd.DataFrame) -> str:
    """Rounds beside exponents at the longest, and whether the two rank alike."""
    found = newton.starts(rows)
    each = words.listed(f"{start.rounds:.3g} at {start.exponent:.2g} ({start.init})" for start in found)
    steps = f"{newton.longest(rows)['steps'].iloc[0]:g}"
    rho = newton.rank_correlation(rows)
    ranked = rho.why if rho.value is None else f"ρ {verdicts.spoken('newton_rank_correlation', rho)}"
    return f"Mean rounds and λ₁ in nat/step at T = {steps}: {each}. Rank correlation of rounds with −|λ₁|: {ranked}."
