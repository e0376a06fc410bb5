"""The share of the measured matrix-product ceiling that each architecture reaches, over length, width, depth and batch."""

from __future__ import annotations

import pandas as pd

from analysis import words
from analysis.figures.architectures import LOOKS, NAMES
from analysis.figures.drawing import Drawing, log_values, look, panels
from analysis.load import rows_of
from analysis.quantities import select
from analysis.ratios import locate
from analysis.style import PAPER

SWEEPS = (  # factor, the column that changes, its words
    ("tokens", "steps", "length T"),
    ("width", "size", "width of the LSTM"),
    ("depth", "num_layers", "layers"),
    ("batch", "batch", "batch"),
)


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: a section's. None without the study or without ceilings in its data type."""
    if "sweep" not in series:
        return None
    rows = select(series, "study=scaling,metric=time,phase=forward_backward")
    if rows.empty:
        return None
    dtype = str(rows["dtype"].iloc[0])
    roof = series[(series["backend"] == "machine") & (series["metric"] == "gemm") & (series["dtype"] == dtype)]
    if roof.empty:
        return None
    ceiling = max(float(samples.max()) for samples in roof["samples"])
    rows = rows.assign(share=rows["count_flops"] / [locate(samples, "median") for samples in rows["samples"]] / ceiling)
    rows = rows[rows["share"] > 0]
    drawn = [each for each in SWEEPS if each[1] in rows and rows.loc[rows["sweep"] == each[0], each[1]].nunique() > 1]
    if not drawn:
        return None
    with look():
        figure, grid = panels(len(drawn))
        for axes, (sweep, column, label) in zip(grid[0], drawn, strict=True):
            part = rows[rows["sweep"] == sweep]
            for cell, (colour, marker) in LOOKS.items():
                shares = part[part["cell"] == cell].groupby(column)["share"].median()
                axes.plot(shares.index, shares, color=colour, marker=marker, mec=PAPER, mew=0.6, label=NAMES[cell])
            axes.set(xscale="log", yscale="log", xlabel=label)
            axes.set_title(f"Training over {label}")
            log_values(axes.xaxis, part[column])
            log_values(axes.yaxis, [10.0**power for power in range(-5, 1)])
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
            axes.tick_params(labelleft=True)
            axes.set_ylim(rows["share"].min() / 1.5, 1.2)
        grid[0][0].set_ylabel("share of the matrix-product ceiling")
        handles, names = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=4)
    best = rows_of(rows.nlargest(1, "share"))[0]
    return Drawing(
        figure,
        "How much of the machine is used",
        f"FLOP/s by the closed forms over {words.scaled(ceiling, 'FLOP/s')}, the best matrix product measured here in {dtype}. "
        f"The nearest: {NAMES[str(best['cell'])]} with {words.percent(float(best['share']))}. Elementwise work and scans "
        "count no operations, so a scan's share says how little of it is products.",
    )
