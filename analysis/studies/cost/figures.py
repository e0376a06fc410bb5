"""What an LSTM and a GRU cost beside a vanilla RNN in the same backend, over width."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from analysis.report import words
from analysis.report.drawing import FAINT, INK, PAPER, Drawing, legend, log_values, look, panels, style
from analysis.report.load import rows_of
from analysis.studies import cost as cost_statistics
from analysis.studies import of_series
from analysis.studies.cost import Equal

TITLES: dict[Equal, str] = {"width": "equal width", "parameters": "equal parameters"}
CELL_DASHES = {"lstm": (0, ()), "gru": (0, (1.2, 1.6))}
PHASE = "forward_backward"
TICKS = (0.25, 0.5, 1, 2, 4, 8, 16)


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    if not (series["study"] == "cost").any():
        return None
    every: dict[Equal, pd.DataFrame] = {equal: cost_statistics.ratios(series, equal, PHASE) for equal in TITLES}
    found: dict[Equal, pd.DataFrame] = {equal: rows for equal, rows in every.items() if len(rows)}
    if not found:
        return None
    drawn = pd.concat(list(found.values()))
    with look():
        figure, grid = panels(len(found), height=3.2)
        for axes, (equal, rows) in zip(grid[0], found.items(), strict=True):
            _panel(axes, rows)
            axes.set_title(f"Training, {TITLES[equal]}")
        low, high = float(drawn["value"].min()), float(drawn["value"].max())
        grid[0][0].set_ylim(min(low / 1.3, 0.8), max(high * 1.3, 5))
        grid[0][0].set_ylabel("time relative to the RNN")
        more = [Line2D([], [], color=INK, linestyle=dash, label=cell.upper()) for cell, dash in CELL_DASHES.items()]
        legend(figure, drawn["backend"].unique(), more)
    return Drawing(figure, "Time of a training step relative to a vanilla RNN", _caption(found, series))


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    for (backend, cell), part in rows.groupby(["backend", "cell"], sort=False):
        own, part = style(str(backend)), part.sort_values("hidden_size")
        axes.plot(
            part["hidden_size"], part["value"], color=own.colour, marker=own.marker, linestyle=CELL_DASHES[str(cell)],
            markeredgecolor=PAPER, markeredgewidth=0.6, zorder=3,
        )  # fmt: skip
        axes.vlines(part["hidden_size"], part["low"], part["high"], color=own.colour, lw=1)
    axes.axhline(1, color=INK, lw=1)
    axes.axhline(4, color=FAINT, lw=1)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    log_values(axes.xaxis, rows["hidden_size"])
    axes.yaxis.set_major_locator(FixedLocator(TICKS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(labelleft=True)
    axes.set_xlabel("hidden size H of the LSTM")


def _caption(found: dict[Equal, pd.DataFrame], series: pd.DataFrame) -> str:
    said = []
    for equal, rows in found.items():
        lstm = rows[(rows["cell"] == "lstm") & (rows["hidden_size"] == rows["hidden_size"].max())]
        parts = [f"{row['backend']} {words.format_factor(row['value'], row['low'], row['high'], 2)}" for row in rows_of(lstm)]
        said += [f"at {TITLES[equal]} {', '.join(parts)}"] if parts else []
    widest = int(max(rows["hidden_size"].max() for rows in found.values()))
    return (
        f"LSTM over vanilla RNN, H = {widest}: {'; '.join(said)}. Grey: four times, as of parameters and FLOPs at equal width. "
        "Each ratio is of one backend’s two times in the same replicate; bars are 95 % intervals over replicates."
    )


SECTION = ("cost", "Time per token by cell")
FIGURES = of_series({"cost": draw})
