"""Six estimates of how far back a model makes use of what it read, side by side; a panel a source."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report import drawing
from analysis.report.drawing import INK, UNDECIDED, Drawing, log_values, look, panels
from analysis.statistics import quantities
from analysis.statistics.seeds import Estimate, missing
from analysis.studies import context as context_statistics
from analysis.studies import gradients as gradients_statistics
from analysis.studies import horizon as horizon_statistics
from analysis.studies import of_series

ESTIMATORS = (
    ("horizon", "gradient decay length (10⁻³)"),
    ("learnable_lag", "memory span (L50)"),
    ("context_within_percent", "within 1 % of perplexity"),
    ("context_for_nine_tenths", "90 % of the gain (c90)"),
    ("relative", "relative (RECL)"),
    ("influence_reach", "influence above 1 %"),
)
PUBLISHED = {"context_within_percent": (150, 250), "relative": (200, 400)}  # Khandelwal et al. 2018; Dai et al. 2019, table 8


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["probe"].isin(["context", "recall"])] if "probe" in series else series.iloc[:0]
    sources = [str(source) for source in rows["source"].unique() if source != "recall"] if len(rows) else []
    if not sources:
        return None
    sources.sort(key=lambda source: source == "text")
    with look():
        figure, grid = panels(len(sources), height=3.4)
        figure.set_figwidth(figure.get_figwidth() + 1.2)
        for axes, source in zip(grid[0], sources, strict=True):
            _panel(axes, rows, source)
        grid[0][0].set_yticks(range(len(ESTIMATORS)), [label for _, label in ESTIMATORS])
        grid[0][0].invert_yaxis()
        cells = [cell for cell in drawing.ARCHITECTURE_NAMES if (rows["cell"] == cell).any()]
        handles = [drawing.mark_architectures(cell) for cell in cells]
        for handle in handles:
            handle.set_linestyle("")
        handles.append(Line2D([], [], color=INK, marker="|", markersize=11, linestyle="", label="true, of the optimum"))
        handles.append(Line2D([], [], color=UNDECIDED, lw=6, label="LSTMs in print"))
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    return Drawing(figure, "Effective context length by six estimators", _caption(rows, sources))


def estimates(rows: pd.DataFrame, source: str, cell: str) -> list[Estimate]:
    """In the order of `ESTIMATORS`. Recall is of the architecture, and the same for every source."""
    group = rows[(rows["probe"] == "context") & (rows["source"] == source)]
    own, recall = group[group["cell"] == cell], rows[(rows["probe"] == "recall") & (rows["cell"] == cell)]
    found = []
    for name, _ in ESTIMATORS:
        if name == "horizon":
            curve = gradients_statistics.curve(own)
            found.append(missing("not measured") if curve is None else gradients_statistics.horizon(curve))
        elif name == "learnable_lag":
            trials = horizon_statistics.trials(recall)
            found.append(missing("not measured") if trials is None else horizon_statistics.learnable_lag(trials))
        elif name == "relative":
            found.append(context_statistics.relative_context(group, cell))
        else:
            found.append(quantities.named(name).estimate(own))
    return found


def _panel(axes: Axes, rows: pd.DataFrame, source: str) -> None:
    group = rows[(rows["probe"] == "context") & (rows["source"] == source)]
    cells = [cell for cell in drawing.ARCHITECTURE_NAMES if (group["cell"] == cell).any()]
    for place, cell in enumerate(cells):
        colour, marker = drawing.LOOKS[cell]
        for line, found in enumerate(estimates(rows, source, cell)):
            _mark(axes, found, line + 0.24 * (place - (len(cells) - 1) / 2), colour, marker)
    for line, (name, _) in enumerate(ESTIMATORS):
        if source == "text" and name in PUBLISHED:
            low, high = PUBLISHED[name]
            axes.fill_betweenx([line - 0.42, line + 0.42], low, high, color=UNDECIDED, lw=0, zorder=0)
        if name in context_statistics.CALIBRATED:
            true = context_statistics.truth(group, name)
            if true is not None:
                axes.plot([true], [line], color=INK, marker="|", markersize=22, markeredgewidth=1.4, linestyle="")
    axes.set_xscale("log")
    axes.set_xlim(0.8, 1.6 * max(float(rows["steps"].max()), 400.0))
    log_values(axes.xaxis, (1, 3, 10, 30, 100, 300, 1000)[: 6 + (rows["steps"].max() > 400)])
    axes.set_xlabel("tokens")
    axes.set_title(drawing.source(source))


def _mark(axes: Axes, found: Estimate, height: float, colour: str, marker: str) -> None:
    """A point with its interval; an arrow to the right where it is censored; nothing where there is no number."""
    at = found.value if found.value is not None else found.beyond
    if at is None:
        return
    low, high = found.low if found.low is not None else at, found.high if found.high is not None else at
    axes.plot([max(low, 1e-3), high], [height] * 2, color=colour, lw=1.2)
    if found.value is not None:
        axes.plot([at], [height], color=colour, marker=marker, linestyle="")
    if found.high is None:
        axes.plot([found.beyond or at], [height], color=colour, marker=">", linestyle="", markerfacecolor="none")


def _caption(rows: pd.DataFrame, sources: list[str]) -> str:
    said = []
    for source in sources:
        for cell in (cell for cell in drawing.ARCHITECTURE_NAMES if (rows["cell"] == cell).any()):
            texts = [
                f"{label.split(',')[0]} {quantities.named('influence_reach').format(found)}"
                for (_, label), found in zip(ESTIMATORS, estimates(rows, source, cell), strict=True)
            ]
            said.append(f"{drawing.ARCHITECTURE_NAMES[cell]}, {drawing.source(source)}: {'; '.join(texts)}")
    return "Mean over seeds with its 95 % interval; an open arrow: longer than measured. " + ". ".join(said) + "."


SECTION = ("language", "Language models: loss and use of context")
FIGURES = of_series({"context": draw})
