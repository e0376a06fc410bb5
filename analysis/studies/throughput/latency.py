"""Streaming: the time of one token, every sample's place shown, for tails matter there as much as the middle."""

from __future__ import annotations

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes

from analysis.report import words
from analysis.report.drawing import Drawing, blank, log_units, look, panels
from analysis.report.load import rows_of
from analysis.report.style import INK, PAPER, colour, ordered, style

MOST_PANELS, COLUMNS, MOST_POINTS = 6, 3, 120


def draw(times: pd.DataFrame) -> Drawing | None:
    """times: rows of a section's `series` with metric `time`, of one device; those of phase `step` are drawn."""
    steps = times[times["phase"] == "step"]
    if steps.empty:
        return None
    keys = steps.drop_duplicates("case").sort_values(["batch", "hidden_size", "case"])
    cases = _spread(list(keys["case"]))
    backends = ordered(steps["backend"])
    with look():
        rows = -(-len(cases) // COLUMNS)
        figure, grid = panels(min(len(cases), COLUMNS), rows, 0.9 + 0.32 * len(backends))
        flat = [axes for line in grid for axes in line]
        every = [np.concatenate(list(steps.loc[steps["case"] == case, "samples"])) for case in cases]
        for axes, case, samples in zip(flat, cases, every, strict=False):
            _panel(axes, steps[steps["case"] == case], backends)
            axes.set_xscale("log")
            axes.set_xlim(samples.min() / 1.3, samples.max() * 1.3)
            log_units(axes.xaxis, "s", samples.min(), samples.max())
        blank(flat[len(cases) :])
        for axes in flat[max(len(cases) - len(grid[0]), 0) : len(cases)]:
            axes.set_xlabel("time of one streaming step")
    return Drawing(figure, "Latency of one streaming step", _caption(steps, cases, len(keys)))


def _spread(cases: list[str]) -> list[str]:
    if len(cases) <= MOST_PANELS:
        return cases
    return [cases[place] for place in np.linspace(0, len(cases) - 1, MOST_PANELS).round().astype(int)]


def _panel(axes: Axes, rows: pd.DataFrame, backends: list[str]) -> None:
    pooled = {str(name): np.concatenate(list(part["samples"])) for name, part in rows.groupby("backend")}
    thinned = {
        name: np.quantile(samples, np.linspace(0, 1, min(len(samples), MOST_POINTS))) for name, samples in pooled.items()
    }
    points = pd.DataFrame(
        [(name, value) for name, values in thinned.items() for value in values], columns=["backend", "seconds"]
    )
    palette = {name: colour(name) for name in pooled}
    seaborn.stripplot(
        points, x="seconds", y="backend", hue="backend", order=backends, palette=palette, ax=axes, size=2.6, alpha=0.35,
        jitter=0.22, legend=False, zorder=2,
    )  # fmt: skip
    for place, name in enumerate(backends):
        if name not in pooled:
            axes.text(
                0.5,
                place,
                words.NOT_MEASURED,
                transform=axes.get_yaxis_transform(),
                ha="center",
                va="center",
                color=INK,
                alpha=0.6,
            )
            continue
        low, middle, high = np.quantile(pooled[name], (0.05, 0.5, 0.95))
        axes.plot([low, high], [place, place], color=palette[name], lw=1.4, zorder=3)
        axes.plot(middle, place, style(name).marker, color=palette[name], ms=7, mec=PAPER, mew=0.8, zorder=4)
    axes.set(xlabel="", ylabel="", title=words.sizes(rows_of(rows[:1])[0]))
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0)


def _caption(steps: pd.DataFrame, cases: list[str], every: int) -> str:
    case = cases[0]
    pooled = {str(n): np.concatenate(list(part["samples"])) for n, part in steps[steps["case"] == case].groupby("backend")}
    first = min(pooled, key=lambda name: float(np.median(pooled[name])))
    low, high = (words.scaled(float(np.quantile(pooled[first], share)), "s") for share in (0.5, 0.95))
    row = rows_of(steps[steps["case"] == case][:1])[0]
    text = f"At {words.sizes(row)} the smallest median is {first}’s, {low}, with 95 % of its samples within {high}; "
    text += "dots are samples, lines span the 5th to the 95th percentile, markers are medians."
    return text + (f" {len(cases)} of {every} cases are shown." if len(cases) < every else "")
