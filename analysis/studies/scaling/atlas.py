"""The crossover atlas: what a token costs over length, a panel a resource, a line an architecture, T* where two cross."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report import words
from analysis.report.drawing import Drawing, log_units, log_values, look, panels
from analysis.report.load import rows_of
from analysis.report.style import FAINT, INK, PAPER
from analysis.statistics import verdicts
from analysis.statistics.quantities import select
from analysis.statistics.ratios import of_one_launch
from analysis.studies.architectures import LOOKS, NAMES
from analysis.studies.scaling import lengths, operations
from analysis.studies.scaling.scaling import Series

TOKENS, MEMORY = "study=scaling,sweep=tokens", "study=scaling,sweep=memory"
FLOPS = ("flops",)  # counted, not measured
# title, selection, metrics, unit, multiple of d at which attention costs as much as the rest
PANELS = (
    ("Training, time a token", f"{TOKENS},phase=forward_backward", ("time",), "s", 12),
    ("Prefill, time a token", f"{TOKENS},phase=forward", ("time",), "s", 12),
    ("Decode, time a token", f"{TOKENS},phase=step", ("time",), "s", 6),
    ("Training, peak memory a token", MEMORY, lengths.MEMORY, "B", 0),
    ("Training, operations a token", f"{TOKENS},phase=forward_backward", FLOPS, "FLOP", 12),
    ("Training, energy a token", MEMORY, lengths.ENERGY, "J", 0),
)


def draw(series: pd.DataFrame, records: pd.DataFrame) -> Drawing | None:
    """series, records: a section's. None where the study did not run."""
    rows = select(series, "study=scaling,sweep!=newton") if "sweep" in series else series.iloc[:0]
    if select(rows, TOKENS).empty:
        return None
    said, exhausted = [], []
    with look():
        figure, grid = panels(3, 2, share_y=False)
        for axes, (title, selection, metrics, unit, multiple) in zip([*grid[0], *grid[1]], PANELS, strict=True):
            chosen = of_one_launch(select(rows, selection))
            drawn = {cell: found for cell in LOOKS if (found := _series(chosen[chosen["cell"] == cell], metrics)) is not None}
            axes.set_title(title)
            if not drawn:
                axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes, color=FAINT)
                axes.set(xticks=[], yticks=[])
                said.append(f"{title.lower()}: not measured")
                continue
            _panel(axes, drawn, unit)
            exhausted += _censored(axes, select(records, selection))
            if multiple and "transformer" in drawn:
                width = float(chosen.loc[chosen["cell"] == "transformer", "hidden_size"].iloc[0])
                axes.axvline(multiple * width, color=FAINT, lw=1, linestyle=(0, (3, 2)))
            said.append(f"{title.lower()}: {_crossing(axes, chosen, metrics)}")
        figure.legend(handles=_legend(), loc="outside upper left", ncols=6, handlelength=1.8, columnspacing=1.6)
    return Drawing(figure, "Where architectures cross over", _caption(said, exhausted))


def _series(rows: pd.DataFrame, metrics: tuple[str, ...]) -> Series | None:
    return operations.per_token(rows) if metrics == FLOPS else lengths.over_length(rows, *metrics)


def _panel(axes: Axes, drawn: dict[str, Series], unit: str) -> None:
    for cell, found in drawn.items():
        colour, marker = LOOKS[cell]
        middle = found.locations()
        axes.plot(found.lengths, middle, color=colour, marker=marker, mec=PAPER, mew=0.6)
        if len(found.values) > 1:
            axes.fill_between(
                found.lengths, np.nanmin(found.values, 0), np.nanmax(found.values, 0), color=colour, alpha=0.15, lw=0
            )
    axes.set(xscale="log", yscale="log", xlabel="length T")
    log_values(axes.xaxis, [length for found in drawn.values() for length in found.lengths])
    low, high = (pick(pick(found.locations()) for found in drawn.values()) for pick in (min, max))
    log_units(axes.yaxis, unit, float(low), float(high))


def _censored(axes: Axes, records: pd.DataFrame) -> list[str]:
    """A cross at the top for each length that did not fit in memory; their names."""
    named = []
    for row in rows_of(records[records["kind"] == "out_of_memory"].drop_duplicates(["cell", "steps"])):
        colour = LOOKS[str(row["cell"])][0]
        axes.plot([float(row["steps"])], [0.97], "x", color=colour, transform=axes.get_xaxis_transform(), clip_on=False)
        named.append(f"{NAMES[str(row['cell'])]} at T = {row['steps']:g}")
    return named


def _crossing(axes: Axes, rows: pd.DataFrame, metrics: tuple[str, ...]) -> str:
    found = operations.crossover(rows) if metrics == FLOPS else lengths.crossover(rows, *metrics)
    if found.value is not None and found.low is not None:
        high = found.high if found.high is not None else found.beyond
        axes.axvspan(max(found.low, axes.get_xlim()[0]), high or found.value, color=INK, alpha=0.07, lw=0)
        axes.axvline(found.value, color=INK, lw=1)
    text = f"T* {verdicts.spoken('crossover_time', found)}"
    equal = operations.attention_equals_rest(rows)
    if metrics != FLOPS or equal.value is None:
        return text
    return f"{text}, though attention takes as many as the rest of the Transformer at T = {words.digits(equal.value)}"


def _legend() -> list[Line2D]:
    marks = [
        Line2D([], [], color=colour, marker=marker, mec=PAPER, mew=0.6, label=NAMES[cell])
        for cell, (colour, marker) in LOOKS.items()
    ]
    marks.append(Line2D([], [], color=INK, lw=1, label="T*, 95 % interval"))
    return [*marks, Line2D([], [], color=FAINT, lw=1, linestyle=(0, (3, 2)), label="12 d; 6 d in decode")]


def _caption(said: list[str], exhausted: list[str]) -> str:
    text = "; ".join(said)
    named = words.listed(dict.fromkeys(exhausted))
    missing = f" Out of memory, so that no crossover is looked for there, and marked by a cross: {named}." if named else ""
    return (
        "Equal parameters within 1 %, equal tokens a call (the batch shrinks as sequences grow; decode has one stream with T "
        "tokens behind it). T*: the length from which the LSTM costs less than the Transformer; outside what was measured it "
        f"is a bound. {text[:1].upper()}{text[1:]}.{missing}"
    )
