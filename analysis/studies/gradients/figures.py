"""Figures of where gradients flow: paths through h, Lyapunov spectra, time scales, precision."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.report import drawing, words
from analysis.report.drawing import FAINT, INK, PALETTE, PER_NAT, Drawing, decade_ticks, log_units, look, panels
from analysis.statistics import quantities, seeds
from analysis.statistics.seeds import Estimate
from analysis.studies import gradients as gradients_statistics
from analysis.studies import of_series
from analysis.studies.gradients import curves, tables
from results.metrics import HOP_SHARE, LOG_GRADIENT_AFTER

# The hop spectrum: which share of the gradient left the cell path how often, against lag.

SHOWN = ("never left", "once", "twice", "3 times", "4 or 5", "6 and more")
EDGES = (0, 1, 2, 3, 4, 6)  # first number of departures in each
COLOURS = (PALETTE[4], PALETTE[1], PALETTE[2], PALETTE[5], PALETTE[0], PALETTE[3])


def draw_hops(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["probe"] == "carousel"] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    rows = rows[rows["hidden_size"] == rows["hidden_size"].min()]
    found = {str(init): shares(part) for init, part in rows.groupby("init", sort=False)}
    found = {init: each for init, each in found.items() if len(each) > 1}
    if not found:
        return None
    with look():
        figure, grid = panels(len(found))
        figure.set_figwidth(2.35 * len(found) + 0.6 + (len(found) == 1))
        for axes, (init, each) in zip(grid[0], found.items(), strict=True):
            _panel_hops(axes, each)
            axes.set_title(drawing.init_name(init))
        grid[0][0].set_ylabel("share of the gradient")
        handles = [Patch(color=colour, label=label) for colour, label in zip(COLOURS, SHOWN, strict=True)]
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.2, columnspacing=1.4)
    return Drawing(figure, "Paths of the gradient through h", _caption_hops(found, int(rows["hidden_size"].iloc[0])))


def shares(rows: pd.DataFrame) -> dict[int, np.ndarray]:
    """lag → mean over seeds of the shares by departures."""
    lags = gradients_statistics.numbers_of(rows, HOP_SHARE)
    return {lag: seeds.together(seeds.metric(rows, HOP_SHARE.name(lag))).mean(0) for lag in lags}


def _panel_hops(axes: Axes, found: dict[int, np.ndarray]) -> None:
    lags = list(found)
    grouped = np.array(
        [[own[low:high].sum() for low, high in zip(EDGES, (*EDGES[1:], None), strict=True)] for own in found.values()]
    )
    # Signed shares: what cancels is drawn below zero, so that the whole still adds up to 1.
    for sign in (np.maximum, np.minimum):
        axes.stackplot(lags, sign(grouped, 0).T, colors=COLOURS, alpha=0.9, lw=0)
    axes.axhline(1, color=INK, lw=0.8)
    axes.axhline(0, color=INK, lw=0.8)
    axes.set_xlim(lags[0], lags[-1])
    axes.tick_params(labelleft=True)
    axes.set_xlabel("lag, steps")


def _caption_hops(found: dict[str, dict[int, np.ndarray]], hidden: int) -> str:
    lag = next((lag for lag in (10, *next(iter(found.values()))) if all(lag in each for each in found.values())), 1)
    parts = [f"{drawing.init_name(init)} {words.format_percent(float(each[lag][0]))}" for init, each in found.items()]
    return (
        "Each path of the gradient from the last cell back leaves the cell some number of times, through h. Shares are exact, "
        "signed and add up to 1; what lies above 1 is cancelled below 0. "
        f"Never left, at lag {lag}, H = {hidden}: {', '.join(parts)}."
    )


# Lyapunov exponents in order: how many directions of the state survive, and how fast the others fade.

CELLS = {"rnn": "Vanilla RNN: H exponents", "lstm": "LSTM: 2H exponents"}
LOWEST = -2.4  # nat a step; what fades faster is gone within two


def draw_spectrum(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["probe"] == "lyapunov"] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    rows = rows[rows["hidden_size"] == rows["hidden_size"].min()]
    cells = [cell for cell in CELLS if (rows["cell"] == cell).any()]
    with look():
        figure, grid = panels(len(cells), height=3.4)
        for axes, cell in zip(grid[0], cells, strict=True):
            _panel_spectrum(axes, rows[rows["cell"] == cell])
            axes.set_title(CELLS[cell])
        grid[0][0].set_ylabel("exponent, nat/step")
    return Drawing(figure, "Lyapunov spectrum of the whole state", _caption_spectrum(rows))


def _panel_spectrum(axes: Axes, rows: pd.DataFrame) -> None:
    handles = []
    for place, (init, part) in enumerate(rows.groupby("init", sort=False)):
        colour, dash = drawing.init_style(str(init), place)
        own = seeds.together(seeds.metric(part, "lyapunov"))
        if not own.size:
            continue
        share = (np.arange(own.shape[1]) + 1) / own.shape[1]
        axes.plot(share, own.mean(0), color=colour, linestyle=dash)
        mistaken = seeds.together(seeds.metric(part, "lyapunov_hidden_block"))
        if mistaken.size:
            axes.plot(0.02, max(float(mistaken.mean()), LOWEST + 0.05), marker="x", color=colour, clip_on=False, zorder=4)
        handles.append(drawing.mark_init(str(init), place))
    if (rows["metric"] == "lyapunov_hidden_block").any():
        handles.append(Line2D([], [], color=INK, marker="x", linestyle="", label="largest, of the h block alone"))
    axes.axhline(0, color=FAINT, lw=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(LOWEST, 0.25)
    axes.tick_params(labelleft=True)
    axes.set_xlabel("rank of the exponent, share of all")
    drawing.legend_outside(axes, handles)


def _caption_spectrum(rows: pd.DataFrame) -> str:
    said = []
    for (cell, init), part in rows.groupby(["cell", "init"], sort=False):
        largest = quantities.named("largest_exponent").estimate(part)
        said.append(
            f"{str(cell).upper()} {drawing.init_name(str(init))} {quantities.named('largest_exponent').format(largest)}"
        )
    return (
        f"H = {int(rows['hidden_size'].iloc[0])}. Zero is a direction that neither fades nor grows. "
        f"Largest exponent: {', '.join(said)}. "
        "Crosses: what ∂h/∂h at fixed c would have said (below the axis where at its edge)."
    )


# The distribution of timescales over an LSTM's cells.


def draw_timescales(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["metric"] == "timescale"]
    if rows.empty:
        return None
    rows = rows[rows["hidden_size"] == rows["hidden_size"].min()]
    found = {
        str(init): np.sort(np.concatenate(seeds.metric(part, "timescale"))) for init, part in rows.groupby("init", sort=False)
    }
    with look():
        figure, grid = panels(1, height=3.3)
        axes = grid[0][0]
        for place, (init, values) in enumerate(found.items()):
            colour, dash = drawing.init_style(init, place)
            axes.step(values, np.arange(1, len(values) + 1) / len(values), where="post", color=colour, linestyle=dash)
        axes.set_xscale("log")
        ends = np.concatenate(list(found.values()))
        log_units(axes.xaxis, "", float(ends.min()), float(ends.max()))
        axes.set_ylim(0, 1)
        axes.set_xlabel("τ = −1/E ln f, steps")
        axes.set_ylabel("cumulative share of cells")
        drawing.legend_outside(axes, [drawing.mark_init(init, place) for place, init in enumerate(found)])
    parts = [
        f"{drawing.init_name(init)} {words.format_significant(float(np.median(values)), 2)}" for init, values in found.items()
    ]
    return Drawing(
        figure,
        "Distribution of timescales",
        f"The steps after which a lone cell’s gradient is 1/e, every cell of every seed. Medians: {', '.join(parts)}.",
    )


# The precision horizon: the same gradient kept in three formats, until it is exactly zero.

FORMATS = {"float16": PALETTE[0], "bfloat16": PALETTE[1], "float32": PALETTE[2]}
WIDTHS = {"float16": 1.2, "bfloat16": 2.0, "float32": 3.2}  # they lie on one another as long as all are right
SCALED = (0, (2.5, 1.5))
MOST_SHOWN = 320


def draw_precision(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["probe"] == "precision"] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    networks = [(str(cell), str(init)) for cell, init in rows[["cell", "init"]].drop_duplicates().itertuples(index=False)]
    with look():
        figure, grid = panels(len(networks), height=3.0)
        said = []
        for axes, (cell, init) in zip(grid[0], networks, strict=True):
            part = rows[(rows["cell"] == cell) & (rows["init"] == init)]
            axes.set_title(f"{cell.upper()}, {drawing.init_name(init)}")
            said.append(_panel_precision(axes, part, f"{cell.upper()} {drawing.init_name(init)}"))
        grid[0][0].set_ylabel("largest number of dL/ds")
        handles = [Line2D([], [], color=colour, label=name) for name, colour in FORMATS.items()]
        handles.append(Line2D([], [], color=INK, linestyle=SCALED, label="loss × 2¹⁶"))
        handles.append(Line2D([], [], color=INK, marker="x", linestyle="", label="exactly zero from here"))
        figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.8, columnspacing=1.4)
    caption = (
        "Trajectory and backward pass computed in the format itself, nothing scaled on the way. Zero from lag "
        f"(mean), and with the loss multiplied by 2¹⁶: {'; '.join(said)}. Grey: the smallest normal numbers. "
        "What never is zero may be frozen: the smallest number there is, times a forget gate above ½, rounds back to itself."
    )
    return Drawing(figure, "Gradient underflow by number format", caption)


def _panel_precision(axes: Axes, rows: pd.DataFrame, name: str) -> str:
    said = []
    for kind, colour in reversed(FORMATS.items()):
        of = rows[rows["dtype"] == kind]
        if of.empty:
            continue
        for metric, dash in (("log_largest", "-"), ("log_largest_scaled", SCALED)):
            found = seeds.together(seeds.metric(of, metric))
            if not found.size:
                continue
            middle = found.mean(0) * PER_NAT
            axes.plot(np.arange(len(middle)), middle, color=colour, linestyle=dash, lw=WIDTHS[kind])
            if len(middle) < int(of["steps"].iloc[0]):
                axes.plot(len(middle) - 1, middle[-1], "x", color=colour, ms=6, clip_on=False, zorder=4)
        plain, scaled = (_lag(gradients_statistics.zero_lag(of, f"log_largest{end}")) for end in ("", "_scaled"))
        said.append(f"{kind} {plain} and {scaled}")
        axes.axhline(np.log10(gradients_statistics.SMALLEST_NORMAL[kind]), color=FAINT, lw=0.8)
    axes.set_xlim(0, min(MOST_SHOWN, int(rows["steps"].iloc[0])))
    axes.set_ylim(-48, 8)
    decade_ticks(axes, (0, -10, -20, -30, -40))
    axes.set_xlabel("lag k, steps back from the loss")
    return f"{name}: {', '.join(said)}"


def _lag(found: Estimate) -> str:
    """Without the interval: the board has it."""
    return f"{found.value:.0f}" if found.value is not None else quantities.named("zero_lag").format(found).partition(" [")[0]


# The attenuation curve before a network learns to recall, on the way, and after.

COLOURS_TRAINING = (PALETTE[1], PALETTE[2], PALETTE[0])


def draw_training(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["probe"] == "training"] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    networks = [(str(cell), str(init)) for cell, init in rows[["cell", "init"]].drop_duplicates().itertuples(index=False)]
    with look():
        figure, grid = panels(len(networks), height=3.2)
        said = []
        for axes, (cell, init) in zip(grid[0], networks, strict=True):
            part = rows[(rows["cell"] == cell) & (rows["init"] == init)]
            _panel_training(axes, part)
            axes.set_title(f"{cell.upper()}, {drawing.init_name(init)}")
            said.append(f"{cell.upper()} {drawing.init_name(init)} {_told(part)}")
        grid[0][0].set_ylabel("gradient relative to lag 0")
    lag = int(rows["lag"].iloc[0])
    caption = (
        f"Recall of one bit over {lag} steps of noise (vertical line), Adam; curves are of longer such sequences. "
        f"Decay length (10⁻³) before and after, and accuracy: {'; '.join(said)}."
    )
    return Drawing(figure, "Gradient decay during training", caption)


def counts(rows: pd.DataFrame) -> list[int]:
    """The numbers of updates after which the curve was taken."""
    return gradients_statistics.numbers_of(rows, LOG_GRADIENT_AFTER)


def _panel_training(axes: Axes, rows: pd.DataFrame) -> None:
    handles = []
    for colour, done in zip(COLOURS_TRAINING, counts(rows), strict=False):
        of = gradients_statistics.curve(rows, LOG_GRADIENT_AFTER.name(done))
        if of is None:
            continue
        middle, half = of.mean * PER_NAT, of.half_width * PER_NAT
        axes.fill_between(of.lags, middle - half, middle + half, color=colour, alpha=0.18, lw=0)
        axes.plot(of.lags, middle, color=colour)
        handles.append(Line2D([], [], color=colour, label=f"after {done} updates" if done else "before"))
    axes.axvline(int(rows["lag"].iloc[0]), color=FAINT, lw=1)
    axes.axhline(-3, color=FAINT, lw=1)
    axes.set_xlim(0, 100)
    axes.set_ylim(-12, 3)
    decade_ticks(axes, (2, 0, -3, -6, -9, -12))
    axes.set_xlabel("lag k, steps back from the loss")
    drawing.legend_outside(axes, handles)


def _told(rows: pd.DataFrame) -> str:
    ends = [gradients_statistics.curve(rows, LOG_GRADIENT_AFTER.name(done)) for done in (counts(rows)[0], counts(rows)[-1])]
    horizon = quantities.named("horizon")
    horizons = [horizon.format(gradients_statistics.horizon(of)) if of else words.NOT_MEASURED for of in ends]
    accuracy = seeds.together(seeds.metric(rows, "accuracy"))
    right = words.format_percent(float(accuracy.mean())) if accuracy.size else words.NOT_MEASURED
    return f"{horizons[0]} → {horizons[1]}, {right} right"


SECTION = ("gradients", "Gradient decay")
TABLE = (tables.decay_table, tables.TEXT)
FIGURES = of_series({
    "decay-length": curves.draw_decay_lengths, "attenuation": curves.draw_attenuation, "hops": draw_hops,
    "spectrum": draw_spectrum, "timescales": draw_timescales, "controls": curves.draw_controls, "training": draw_training,
    "precision": draw_precision, "truncation": curves.draw_truncation, "layers": curves.draw_layers,
})  # fmt: skip
