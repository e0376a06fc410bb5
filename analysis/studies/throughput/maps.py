"""Maps over hidden size and batch size: who is fastest where, and the speedup of one backend over another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from analysis.report import words
from analysis.report.drawing import INK, PAPER, UNDECIDED, Drawing, look, panels, style
from analysis.report.load import rows_of, sweeps
from analysis.statistics.ratios import Ratio, Statistic, log_ratio, on, over_replicates

# Who is fastest where: batch by hidden size, each cell the fastest backend and its lead over the runner-up.


def draw_heatmap(cases: pd.DataFrame, times: pd.DataFrame, statistic: Statistic) -> Drawing | None:
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
            for leader in _panel_heatmap(axes, sweep.rows, times, statistic):
                tally[leader] = tally.get(leader, 0) + 1
            axes.set_title(f"{words.PHASES[phase].capitalize()}, {words.format_sizes(sweep.fixed)}".rstrip(", "))
        grid[0][0].set_ylabel("batch size B")
    undecided = tally.pop("", 0)
    parts = [f"{name} in {number}" for name, number in sorted(tally.items(), key=lambda item: -item[1])]
    parts += [f"inconclusive in {undecided}"] if undecided else []
    caption = f"Fastest of {words.format_count(undecided + sum(tally.values()), 'cell')}: {words.join_list(parts)}; "
    caption += "the number is its speedup over "
    return Drawing(
        figure,
        "Fastest backend by batch and hidden size",
        caption + "the second. Inconclusive: the interval of the speedup includes 1, or one replicate gives none.",
    )


def _panel_heatmap(axes: Axes, rows: pd.DataFrame, times: pd.DataFrame, statistic: Statistic) -> list[str]:
    """Draw the cells; returns each cell's leader, or an empty name where it is not decided."""
    batches, hiddens = sorted(rows["batch"].unique()), sorted(rows["hidden_size"].unique())
    leaders = []
    for (batch, hidden), cell in rows.groupby(["batch", "hidden_size"]):
        at = hiddens.index(hidden), batches.index(batch)
        order = cell.sort_values("seconds")["backend"].tolist()
        lead = margin(times[times["case"].isin(cell["case"])], order[0], order[1], statistic) if len(order) > 1 else None
        decided = lead is not None and lead.verdict == "faster"
        if len(order) == 1:
            text = f"only {order[0]}"
        elif decided and lead is not None:
            text = f"{order[0]}\n{words.format_significant(lead.value)}×"
        else:
            text = "inconclusive"
        leaders.append(order[0] if decided or len(order) == 1 else "")
        fill, alpha = (style(order[0]).colour, 0.28) if leaders[-1] else (UNDECIDED, 1.0)
        axes.add_patch(Rectangle((at[0] - 0.5, at[1] - 0.5), 1, 1, edgecolor=PAPER, linewidth=2, facecolor=fill, alpha=alpha))
        axes.text(*at, text, ha="center", va="center", fontsize=8, color=INK, linespacing=1.25)
    _grid(axes, hiddens, batches)
    return leaders


def margin(times: pd.DataFrame, first: str, second: str, statistic: Statistic) -> Ratio | None:
    """Speedup of `first` over `second` in the replicates that have both; None where none has."""
    of = {
        name: part.set_index("replicate_key") for name, part in times[times["backend"].isin((first, second))].groupby("backend")
    }
    if len(of) < 2:
        return None
    shared = [key for key in of[first].index.unique() if key in of[second].index]
    logs, hosts = [], [host for key in shared for host in on(of[first].loc[[key]].iloc[:1])]
    for key in shared:
        ours, theirs = (of[name].loc[[key]].iloc[0] for name in (first, second))
        logs.append(log_ratio(theirs["samples"], ours["samples"], theirs["blocks"], ours["blocks"], statistic))
    return over_replicates(logs, statistic, on=hosts) if logs else None


def _grid(axes: Axes, hiddens: Sequence[float], batches: Sequence[float]) -> None:
    axes.set(xlim=(-0.5, len(hiddens) - 0.5), ylim=(-0.5, len(batches) - 0.5), xlabel="hidden size H")
    axes.set_xticks(range(len(hiddens)), [f"{value:g}" for value in hiddens])
    axes.set_yticks(range(len(batches)), [f"{value:g}" for value in batches])
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)


# The speedup of one backend over another: blue where it is faster, orange where it is slower.

FASTER, SLOWER = "#3b76c4", "#d9772b"
STRONGEST = math.log(8)  # the speedup from which on a cell's colour is at its strongest
SAME = 0.01  # of 1: a speedup so near, where it has no interval, has no colour


class Speedup(NamedTuple):
    """low and high are None where there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def decided(self) -> bool:
        """Whether its interval excludes 1, or, without one, the value is not near it."""
        if self.low is None or self.high is None:
            return abs(self.value - 1) >= SAME
        return self.low > 1 or self.high < 1


def draw_map(maps: Mapping[str, Mapping[tuple[float, float], Speedup]], ours: str, baseline: str, caption: str) -> Drawing:
    """maps: by the title of a panel the speedup at each hidden size and batch size."""
    hiddens, batches = (sorted({at[axis] for cells in maps.values() for at in cells}) for axis in (0, 1))
    with look():
        figure, grid = panels(len(maps), 1, 0.9 + 0.4 * len(batches), share_y=False)
        for axes, (title, cells) in zip(grid[0], maps.items(), strict=True):
            for (hidden, batch), found in cells.items():
                _cell(axes, (hiddens.index(hidden), batches.index(batch)), found)
            _grid(axes, hiddens, batches)
            axes.set_title(title)
        grid[0][0].set_ylabel("batch size B")
        texts = ((FASTER, f"▲ {ours} is faster"), (SLOWER, f"▼ {baseline} is faster"), (UNDECIDED, "not separated"))
        handles = [Line2D([], [], marker="s", markersize=9, linestyle="", color=tone, label=text) for tone, text in texts]
        figure.legend(handles=handles, loc="outside upper left", ncols=3, columnspacing=1.6)
    return Drawing(figure, f"Speedup of {ours} over {baseline} by hidden size and batch size", caption)


def _cell(axes: Axes, at: tuple[int, int], found: Speedup) -> None:
    strength = min(abs(math.log(found.value)) / STRONGEST, 1)
    fill, alpha = FASTER if found.value > 1 else SLOWER, 0.12 + 0.6 * strength
    if not found.decided:
        fill, alpha = UNDECIDED, 1.0
    axes.add_patch(Rectangle((at[0] - 0.5, at[1] - 0.5), 1, 1, edgecolor=PAPER, linewidth=2, facecolor=fill, alpha=alpha))
    mark = ("▲ " if found.value > 1 else "▼ ") if found.decided else ""
    number = words.format_significant(found.value, 2 if found.value < 1 else 3)
    axes.text(*at, f"{mark}{number}×", ha="center", va="center", fontsize=8, color=INK)


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def summary(title: str, values: Sequence[float]) -> str:
    """`forward 2.18× (28 of 36 points won)`."""
    mean = words.format_factor(geometric_mean(values), None, None)
    return f"{title} {mean} ({sum(value > 1 for value in values)} of {len(values)} points won)"


OURS, BASELINE = "cuda", "cudnn"


def draw_own(cases: pd.DataFrame, times: pd.DataFrame, statistic: Statistic) -> Drawing | None:
    """Our kernels against cuDNN. cases: as in `Findings.cases`; times: the series behind them; both of one launch mode."""
    both = cases[cases["backend"].isin((OURS, BASELINE))]
    maps: dict[str, dict[tuple[float, float], Speedup]] = {}
    for phase, name in words.PHASES.items():
        for sweep in sweeps(both[both["phase"] == phase], ["batch", "hidden_size"], 4):
            cells: dict[tuple[float, float], Speedup] = {}
            for case, cell in sweep.rows.groupby("case"):
                if (found := margin(times[times["case"] == case], OURS, BASELINE, statistic)) is not None:
                    row = rows_of(cell[:1])[0]
                    cells[float(row["hidden_size"]), float(row["batch"])] = Speedup(found.value, found.low, found.high)
            if cells:
                maps[f"{name.capitalize()}, {words.format_sizes(sweep.fixed)}, {sweep.fixed.get('dtype')}"] = cells
    if not maps:
        return None
    said = [summary(title.partition(",")[0].lower(), [each.value for each in cells.values()]) for title, cells in maps.items()]
    return draw_map(maps, OURS, BASELINE, f"Geometric means: {words.join_list(said)}.")
