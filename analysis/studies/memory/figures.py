"""Peak memory over length: what was measured as points, the closed-form model as a dashed line."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report import words
from analysis.report.drawing import (
    DASHES,
    INK,
    LEAST_OF_A_LINE,
    PAPER,
    Drawing,
    Style,
    dumbbells,
    legend,
    log_units,
    log_values,
    look,
    ordered,
    panels,
    style,
)
from analysis.report.load import Sweep, sweeps

# Only what the driver says of the process compares across frameworks; their own counts come after.
METRICS = {
    "device_peak": "device memory of the process, less the idle context",
    "rss_peak": "resident memory of the worker, less its baseline",
    "alloc_peak": "memory allocated, as the framework counts it",
    "reserved_peak": "memory reserved, as the framework counts it",
}


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series` of one device; the first metric of METRICS that is there is drawn."""
    metric = next((name for name in METRICS if (series["metric"] == name).any()), None)
    if metric is None:
        return None
    rows = series[series["metric"] == metric]
    rows = rows.assign(bytes=[float(np.median(samples)) for samples in rows["samples"]])
    found = {phase: sweeps(rows[rows["phase"] == phase], ["steps"]) for phase in words.PHASES}
    found = {phase: each[0] for phase, each in found.items() if each}
    if not found:
        return None
    caption = _caption({phase: sweep.rows for phase, sweep in found.items()}, metric)
    if all(sweep.rows["steps"].nunique() < LEAST_OF_A_LINE for sweep in found.values()):
        return _draw_ends(found, caption)
    with look():
        figure, grid = panels(len(found))
        for axes, (phase, sweep) in zip(grid[0], found.items(), strict=True):
            _panel(axes, sweep.rows)
            axes.set_title(f"{words.PHASES[phase].capitalize()}, {words.format_sizes(sweep.fixed)}")
        drawn = pd.concat([sweep.rows for sweep in found.values()])
        positive = drawn.loc[drawn["bytes"] > 0, "bytes"]
        lows = [positive.min(), drawn["count_model_bytes"].min()] if "count_model_bytes" in drawn else [positive.min()]
        log_units(grid[0][0].yaxis, "B", float(np.nanmin(lows)), float(positive.max()))
        grid[0][0].set_ylabel("peak memory of one call")
        model = [Line2D([], [], color=INK, lw=1.2, ls=(0, (4, 3)), label="model")] if "count_model_bytes" in drawn else []
        legend(figure, drawn["backend"].unique(), model)
    return Drawing(figure, "Peak memory vs length", caption)


def _draw_ends(found: dict[str, Sweep], caption: str) -> Drawing:
    """Of two lengths, the smaller hollow."""
    with look():
        figure, grid = panels(
            len(found), 1, 0.9 + 0.3 * max(sweep.rows["backend"].nunique() + 1 for sweep in found.values()), False
        )
        for axes, (phase, sweep) in zip(grid[0], found.items(), strict=True):
            names = ordered(sweep.rows["backend"])
            middle = sweep.rows.groupby(["backend", "steps"])["bytes"].median().clip(lower=1)
            ends = {name: (float(middle[name].iloc[0]), float(middle[name].iloc[-1])) for name in names}
            looks = {name: style(name) for name in names}
            if "count_model_bytes" in sweep.rows:
                model = sweep.rows.groupby("steps")["count_model_bytes"].first()
                ends["model"], looks["model"] = (float(model.iloc[0]), float(model.iloc[-1])), Style(INK, "|", DASHES[0])
            dumbbells(axes, ends, looks, "B")
            axes.set_title(f"{words.PHASES[phase].capitalize()}, {words.format_sizes(sweep.fixed)}")
            axes.set_xlabel("peak memory of one call")
    steps = next(iter(found.values())).rows["steps"]
    return Drawing(figure, "Peak memory vs length", f"Hollow: T = {steps.min():g}; filled: T = {steps.max():g}. {caption}")


def _panel(axes: Axes, rows: pd.DataFrame) -> None:
    for backend, part in rows.groupby("backend", sort=False):
        own = style(str(backend))
        middle = part.groupby("steps")["bytes"].median()
        axes.plot(part["steps"], part["bytes"], own.marker, color=own.colour, mec=PAPER, mew=0.6, zorder=3)
        axes.plot(middle.index, middle, color=own.colour, lw=0.9, alpha=0.5, linestyle=own.dash)
    if "count_model_bytes" in rows:
        model = rows.drop_duplicates("steps").sort_values("steps")
        axes.plot(model["steps"], model["count_model_bytes"], color=INK, lw=1.2, ls=(0, (4, 3)), zorder=2)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    log_values(axes.xaxis, rows["steps"])
    axes.tick_params(labelleft=True)
    axes.set_xlabel("length T, steps")


def _caption(found: dict[str, pd.DataFrame], metric: str) -> str:
    said = []
    for phase, rows in found.items():
        longest = rows[rows["steps"] == rows["steps"].max()].groupby("backend")["bytes"].median()
        least, most = longest.idxmin(), longest.idxmax()
        if least == most:
            said.append(f"{words.PHASES[phase]} takes {words.format_si(longest[least], 'B')} with {least}")
            continue
        span = f"from {words.format_si(longest[least], 'B')} ({least}) to {words.format_si(longest[most], 'B')} ({most})"
        said.append(f"{words.PHASES[phase]} takes {span} at T{rows['steps'].max():g}")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}: {METRICS[metric]}."
