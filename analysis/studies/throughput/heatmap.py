"""Who is fastest where: batch by hidden size, each cell the fastest backend and its lead over the runner-up."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from analysis.report import words
from analysis.report.drawing import Drawing, look, panels
from analysis.report.style import INK, PAPER, UNDECIDED, colour
from analysis.statistics.ratios import Location, Ratio, log_ratio, over_replicates
from analysis.statistics.sweeps import sweeps


def draw(cases: pd.DataFrame, times: pd.DataFrame, location: Location) -> Drawing | None:
    """cases: as in `Findings.cases`; times: the series behind them; both of one device."""
    found = {phase: sweeps(cases[cases["phase"] == phase], ["batch", "hidden_size"], 4) for phase in words.PHASES}
    found = {phase: each[0] for phase, each in found.items() if each and each[0].rows["backend"].nunique() > 1}
    if not found:
        return None
    tally: dict[str, int] = {}
    with look():
        tallest = max(sweep.rows["batch"].nunique() for sweep in found.values())
        figure, grid = panels(len(found), 1, 0.9 + 0.46 * tallest, share_y=False)
        for axes, (phase, sweep) in zip(grid[0], found.items(), strict=True):
            for leader in _panel(axes, sweep.rows, times, location):
                tally[leader] = tally.get(leader, 0) + 1
            axes.set_title(f"{words.PHASES[phase].capitalize()}, {words.sizes(sweep.fixed)}".rstrip(", "))
        grid[0][0].set_ylabel("batch size B")
    undecided = tally.pop("", 0)
    parts = [f"{name} in {number}" for name, number in sorted(tally.items(), key=lambda item: -item[1])]
    parts += [f"nobody decidedly in {undecided}"] if undecided else []
    caption = f"Fastest of {words.count(undecided + sum(tally.values()), 'cell')}: {words.listed(parts)}; "
    caption += "the number is its lead over "
    return Drawing(
        figure,
        "The fastest backend by batch and hidden size",
        caption + "the runner-up. Not decided: the interval of the lead includes 1, or one replicate leaves none.",
    )


def _panel(axes: Axes, rows: pd.DataFrame, times: pd.DataFrame, location: Location) -> list[str]:
    """Draw the cells; returns each cell's leader, or an empty name where it is not decided."""
    batches, hiddens = sorted(rows["batch"].unique()), sorted(rows["hidden_size"].unique())
    leaders = []
    for (batch, hidden), cell in rows.groupby(["batch", "hidden_size"]):
        at = hiddens.index(hidden), batches.index(batch)
        order = cell.sort_values("seconds")["backend"].tolist()
        lead = margin(times[times["case"].isin(cell["case"])], order[0], order[1], location) if len(order) > 1 else None
        decided = lead is not None and lead.verdict == "faster"
        if len(order) == 1:
            text = f"only {order[0]}"
        elif decided and lead is not None:
            text = f"{order[0]}\n{words.digits(lead.value)}×"
        else:
            text = "not decided"
        leaders.append(order[0] if decided or len(order) == 1 else "")
        fill, alpha = (colour(order[0]), 0.28) if leaders[-1] else (UNDECIDED, 1.0)
        axes.add_patch(Rectangle((at[0] - 0.5, at[1] - 0.5), 1, 1, edgecolor=PAPER, linewidth=2, facecolor=fill, alpha=alpha))
        axes.text(*at, text, ha="center", va="center", fontsize=8, color=INK, linespacing=1.25)
    axes.set(xlim=(-0.5, len(hiddens) - 0.5), ylim=(-0.5, len(batches) - 0.5), xlabel="hidden size H")
    axes.set_xticks(range(len(hiddens)), [f"{value:g}" for value in hiddens])
    axes.set_yticks(range(len(batches)), [f"{value:g}" for value in batches])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    return leaders


def margin(times: pd.DataFrame, first: str, second: str, location: Location) -> Ratio | None:
    """How many times as fast `first` is as `second` over the replicates that have both; None where none has."""
    of = {
        name: part.set_index("replicate_key") for name, part in times[times["backend"].isin((first, second))].groupby("backend")
    }
    if len(of) < 2:
        return None
    shared = [key for key in of[first].index.unique() if key in of[second].index]
    logs = []
    for key in shared:
        ours, theirs = (of[name].loc[[key]].iloc[0] for name in (first, second))
        logs.append(log_ratio(theirs["samples"], ours["samples"], theirs["blocks"], ours["blocks"], location))
    return over_replicates(logs, location) if logs else None
