"""Tokens a second over batch, hidden size or length: small multiples by phase, both axes logarithmic."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.report import words
from analysis.report.drawing import Drawing, blank, legend, log_units, log_values, look, panels
from analysis.report.load import rows_of
from analysis.report.style import PAPER, style
from analysis.statistics.sweeps import Sweep, sweeps

Over = Literal["batch", "hidden_size", "steps"]
LABELS: dict[Over, str] = {"batch": "batch size B", "hidden_size": "hidden size H", "steps": "length T, steps"}
LETTERS: dict[Over, str] = {"batch": "B", "hidden_size": "H", "steps": "T"}
MOST_ROWS = 2
ROOM = 2.0  # beyond the outermost points: an interval that is wider runs out of the panel


def draw(cases: pd.DataFrame, over: Over) -> Drawing | None:
    """Curves of every backend over one size. cases: as in `Findings.cases`, of one device; without a rate they are left out."""
    rates = cases["tokens_per_second"].astype(float)
    cases = cases[(rates > 0) & np.isfinite(rates)]
    phases = {phase: sweeps(cases[cases["phase"] == phase], [over]) for phase in words.PHASES}
    phases = {phase: found for phase, found in phases.items() if found}
    if not phases:
        return None
    shown = {phase: _spread(found) for phase, found in phases.items()}
    with look():
        figure, grid = panels(len(shown), max(len(found) for found in shown.values()))
        for column, (phase, found) in enumerate(shown.items()):
            for row, sweep in enumerate(found):
                _panel(grid[row][column], sweep, over, phase)
            blank(line[column] for line in grid[len(found) :])
        for line in grid:
            line[0].set_ylabel("tokens a second")
        drawn = pd.concat([sweep.rows for found in shown.values() for sweep in found])
        rates = drawn["tokens_per_second"]
        grid[0][0].set_ylim(rates.min() / ROOM, rates.max() * ROOM)
        log_units(grid[0][0].yaxis, "", rates.min(), rates.max())
        legend(figure, drawn["backend"].unique())
    title = f"Tokens a second over {LABELS[over]}"
    return Drawing(figure, title, _caption(phases, shown, over))


def _spread(found: list[Sweep]) -> list[Sweep]:
    """The few to show of sweeps with as many points as the largest: the one in the middle and the last."""
    most = len(found[0].rows["case"].unique())
    full = [sweep for sweep in found if len(sweep.rows["case"].unique()) == most]
    picked = {len(full) // 2: full[len(full) // 2], len(full) - 1: full[-1]}
    return list(picked.values())[:MOST_ROWS]


def _panel(axes: Axes, sweep: Sweep, over: Over, phase: str) -> None:
    for backend, rows in sweep.rows.groupby("backend", sort=False):
        own, rows = style(str(backend)), rows.sort_values(over)
        axes.plot(
            rows[over], rows["tokens_per_second"], color=own.colour, marker=own.marker, linestyle=own.dash,
            markeredgecolor=PAPER, markeredgewidth=0.6, zorder=3,
        )  # fmt: skip
        bounded = rows[rows["low"].notna() & rows["high"].notna()]
        tokens = bounded["tokens_per_second"] * bounded["seconds"]
        axes.vlines(
            bounded[over], tokens / bounded["high"].astype(float), tokens / bounded["low"].astype(float), color=own.colour, lw=1
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    log_values(axes.xaxis, sweep.rows[over])
    axes.tick_params(labelleft=True)
    axes.set_xlabel(LABELS[over])
    axes.set_title(f"{words.PHASES[phase].capitalize()}, {words.sizes(sweep.fixed)}")


def _caption(phases: dict[str, list[Sweep]], shown: dict[str, list[Sweep]], over: Over) -> str:
    best = []
    for phase, found in shown.items():
        rows = pd.concat([sweep.rows for sweep in found])
        row = rows_of(rows.nlargest(1, "tokens_per_second"))[0]
        where = f"{LETTERS[over]}{row[over]:g}"
        best.append(f"{words.rate(float(row['tokens_per_second']))} in {words.PHASES[phase]} ({row['backend']}, {where})")
    text = f"Most of what is shown: {words.listed(best)}; vertical bars are 95 % intervals "
    drawn = pd.concat([sweep.rows for found in shown.values() for sweep in found])
    text += "over replicates." if (drawn["replicates"] > 1).all() else "(of the samples’ median where there is one replicate)."
    every, here = (sum(len(found) for found in each.values()) for each in (phases, shown))
    return text + (f" {here} of {every} such curves are shown; the table holds the rest." if here < every else "")
