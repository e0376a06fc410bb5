"""The share of the measured matrix-product ceiling that each architecture reaches, over length, width, depth and batch."""

from __future__ import annotations

import pandas as pd

from analysis.report import words
from analysis.report.drawing import Drawing, log_values, look, panels
from analysis.report.load import rows_of
from analysis.report.style import PAPER
from analysis.statistics.quantities import select
from analysis.statistics.ratios import locate, of_one_launch
from analysis.studies.architectures import LOOKS, NAMES
from analysis.studies.scaling import sizes

PANELS = (  # the column that changes, its words
    ("steps", "length T"),
    ("size", "width of the LSTM"),
    ("num_layers", "layers"),
    ("batch", "batch"),
)


def shares(series: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    """The rows of timed training with their `share` of the ceiling, and the ceiling in FLOP/s: the best matrix product
    measured in the same data type. No rows without a ceiling."""
    rows = of_one_launch(select(series, "study=scaling,metric=time,phase=forward_backward"))
    dtypes = rows["dtype"].unique()
    roof = series[(series["backend"] == "machine") & (series["metric"] == "gemm") & series["dtype"].isin(dtypes)]
    if roof.empty:
        return rows.iloc[:0].assign(share=0.0), 0.0
    ceiling = max(float(samples.max()) for samples in roof["samples"])
    seconds = [locate(samples, "median") for samples in rows["samples"]]
    rows = rows.assign(share=rows["count_flops"] / seconds / ceiling)
    return rows[rows["share"] > 0], ceiling


def over(rows: pd.DataFrame, column: str, cell: str) -> pd.Series:
    """Median share over replicates of one architecture at each value of a column, the others held."""
    own = rows[rows["cell"] == cell]
    part = own[own["sweep"] == "tokens"] if column == "steps" else sizes.along(own[own["sweep"] == "sizes"], _axis(column))
    return part.groupby(column)["share"].median() if len(part) else pd.Series(dtype=float)


def _axis(column: str) -> str:
    return next(axis for axis, group in sizes.GROUPS.items() if group == column)


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: a section's. None without the study or without ceilings in its data type."""
    if "sweep" not in series:
        return None
    rows, ceiling = shares(series)
    drawn = {
        (column, label): found
        for column, label in PANELS
        if (found := {cell: one for cell in LOOKS if len(one := over(rows, column, cell)) > 1})
    }
    if not drawn:
        return None
    with look():
        figure, grid = panels(len(drawn))
        for axes, ((_, label), found) in zip(grid[0], drawn.items(), strict=True):
            for cell, share in found.items():
                colour, marker = LOOKS[cell]
                axes.plot(share.index, share, color=colour, marker=marker, mec=PAPER, mew=0.6, label=NAMES[cell])
            axes.set(xscale="log", yscale="log", xlabel=label)
            axes.set_title(f"Training over {label}")
            log_values(axes.xaxis, [value for share in found.values() for value in share.index])
            log_values(axes.yaxis, [10.0**power for power in range(-5, 1)])
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
            axes.tick_params(labelleft=True)
            axes.set_ylim(rows["share"].min() / 1.5, 1.2)
        grid[0][0].set_ylabel("share of the matrix-product ceiling")
        handles, names = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=4)
    best = rows_of(rows.nlargest(1, "share"))[0]
    dtype = str(best["dtype"])
    return Drawing(
        figure,
        "How much of the machine is used",
        f"FLOP/s by the closed forms over {words.scaled(ceiling, 'FLOP/s')}, the best matrix product measured here in {dtype}. "
        f"The nearest: {NAMES[str(best['cell'])]} with {words.percent(float(best['share']))}. Elementwise work and scans "
        "count no operations, so a scan's share says how little of it is products.",
    )
