"""Newton's method on an LSTM: rounds until it converges, and their figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.report import words
from analysis.report.drawing import DASHES, FAINT, MARKERS, PALETTE, PAPER, Drawing, look, panels
from analysis.statistics import quantities, seeds
from analysis.statistics.quantities import select
from analysis.statistics.seeds import FEWEST_PAIRS, Estimate, missing, spearman

# Rounds of Newton's method on an LSTM, and how they go with its largest Lyapunov exponent.


@dataclass(frozen=True, slots=True)
class Start:
    """One initialisation: its means over seeds. rounds: where a seed did not converge, of the limit it reached."""

    init: str
    exponent: float
    rounds: float


def longest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["steps"] == rows["steps"].max()]


def rounds(rows: pd.DataFrame) -> Estimate:
    """Mean over seeds at the most steps; beyond the limit where a seed had not converged."""
    rows = longest(rows)
    found = rows[rows["metric"] == "rounds"]
    if found.empty:
        return missing("not measured")
    samples = found["samples"].iloc[0]
    if any(found["notes"]):
        return Estimate(None, low=float(samples.min()), seeds=len(samples), beyond=float(samples.max()))
    return seeds.mean(samples)


def starts(rows: pd.DataFrame) -> list[Start]:
    """By initialisation, at the most steps, in the order of their exponents."""
    found = []
    for init, part in longest(rows).groupby("init", sort=False):
        samples = part.set_index("metric")["samples"]
        if {"rounds", "lyapunov"} <= set(samples.index):
            found.append(Start(str(init), float(np.mean(samples["lyapunov"])), float(np.mean(samples["rounds"]))))
    return sorted(found, key=lambda start: start.exponent)


def rank_correlation(rows: pd.DataFrame) -> Estimate:
    """Spearman's ρ of rounds and of how near the exponent is to zero, over initialisations, with its interval."""
    known = np.array([(start.rounds, -abs(start.exponent)) for start in starts(rows)]).reshape(-1, 2)
    if len(known) < FEWEST_PAIRS:
        return missing(f"{len(known)} initialisations: too few for a correlation")
    if (np.ptp(known, axis=0) == 0).any():
        return missing("all of them equal: nothing to rank")
    value, low, high = spearman(known)
    return Estimate(value, low, high, len(known))


QUANTITIES: dict[str, Callable[[pd.DataFrame], Estimate]] = {
    "newton_rounds": rounds,
    "newton_rank_correlation": rank_correlation,
}
WORDS = {"newton_rounds": "rounds", "newton_rank_correlation": "ρ of rounds and −|λ₁|"}


# Rounds of Newton's method against the largest Lyapunov exponent: what it costs to evaluate an LSTM all at once.


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
    found = starts(rows)
    each = words.listed(f"{start.rounds:.3g} at {start.exponent:.2g} ({start.init})" for start in found)
    steps = f"{longest(rows)['steps'].iloc[0]:g}"
    rho = rank_correlation(rows)
    ranked = rho.why if rho.value is None else f"ρ {quantities.spoken('newton_rank_correlation', rho)}"
    return f"Mean rounds and λ₁ in nat/step at T = {steps}: {each}. Rank correlation of rounds with −|λ₁|: {ranked}."
