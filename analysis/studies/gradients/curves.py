"""Figures of gradients over the lag: cells, controls, layers, truncation, training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report import drawing, words
from analysis.report.drawing import (
    DASHES,
    FAINT,
    INK,
    PALETTE,
    PAPER,
    PER_NAT,
    Dash,
    Drawing,
    decade_ticks,
    log_units,
    look,
    panels,
)
from analysis.statistics import quantities, seeds
from analysis.statistics.seeds import Estimate
from analysis.studies import gradients as gradients_statistics

# The gradient's size against lag, a panel a kind of cell, a line an initialisation with its band over seeds.

LAST_LAG_ATTENUATION = 150
LOWEST, HIGHEST = -12.0, 3.0  # decades
TEN_STEPS = 10
THEORY = float(np.log10(1 / np.sqrt(3)))  # spectral radius of U(±1/√H) as H grows: a circular law of variance 1/(3H)
CELLS = {"rnn": "Vanilla RNN", "gru": "GRU", "lstm": "LSTM"}
AUDITED = ("keras", "flax", "tensorflow1", "jozefowicz")  # in the table of the init audit instead


def draw_attenuation(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; the hidden size with the most initialisations is drawn."""
    rows = _of_attenuation(series)
    cells = [cell for cell in CELLS if (rows["cell"] == cell).any()]
    if not cells:
        return None
    with look():
        figure, grid = panels(len(cells), height=3.9)
        for axes, cell in zip(grid[0], cells, strict=True):
            _panel_attenuation(axes, cell, rows[rows["cell"] == cell])
        grid[0][0].set_ylabel("gradient relative to lag 0")
    return Drawing(figure, "Gradient decay with lag", _caption_attenuation(rows, int(rows["hidden_size"].iloc[0])))


def _of_attenuation(series: pd.DataFrame) -> pd.DataFrame:
    """The networks that are drawn; none where nothing was measured."""
    rows = series[series["probe"] == "attenuation"] if "probe" in series else series.iloc[:0]
    rows = rows[~rows["init"].isin(AUDITED)] if len(rows) else rows
    if rows.empty:
        return rows.assign(cell="")
    hidden = rows.groupby("hidden_size")["init"].nunique().sort_values(kind="stable").index.to_numpy()[-1]
    return rows[rows["hidden_size"] == hidden]


def draw_decay_lengths(series: pd.DataFrame) -> Drawing | None:
    """A row an initialisation: the lag at which the gradient is a thousandth, of the networks of `draw_attenuation`."""
    rows = _of_attenuation(series)
    cells = [cell for cell in CELLS if (rows["cell"] == cell).any()]
    if not cells:
        return None
    quantity = quantities.named("horizon")
    found = {
        cell: [
            (str(init), quantity.estimate(part))
            for init, part in sorted(
                rows[rows["cell"] == cell].groupby("init"), key=lambda one: drawing.init_order(str(one[0]))
            )
        ]
        for cell in cells
    }
    every = [of for rows_of_cell in found.values() for _, of in rows_of_cell]
    ends = [value for of in every for value in (of.value, of.beyond, of.low, of.high) if value]
    if not ends:
        return None
    with look():
        figure, grid = panels(len(cells), 1, 0.9 + 0.28 * max(map(len, found.values())), share_y=False)
        for axes, cell in zip(grid[0], cells, strict=True):
            for place, (init, of) in enumerate(found[cell]):
                _row_decay_length(axes, place, drawing.init_style(init, place)[0], of)
                text = quantity.format(replace(of, why=""), with_unit=False).partition(" [")[0]
                axes.text(1.02, place, text, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
            axes.set_yticks(range(len(found[cell])), [drawing.init_name(init) for init, _ in found[cell]])
            axes.set(ylim=(len(found[cell]) - 0.4, -0.6), title=CELLS[cell], xlabel=f"{quantity.label}, steps", xscale="log")
            axes.set_xlim(min(ends) / 1.5, max(ends) * 1.5)
            log_units(axes.xaxis, "", min(ends), max(ends))
            axes.grid(False, axis="y")
            axes.tick_params(axis="y", length=0)
    caption = "The lag at which the gradient is a thousandth of that at lag 0, with its 95 % interval over seeds; "
    return Drawing(
        figure, "Decay length of the gradient", caption + "an arrowhead: it lies beyond the lags that were measured."
    )


def _row_decay_length(axes: Axes, place: int, colour: str, of: Estimate) -> None:
    value = of.value if of.value is not None else of.beyond
    if value is None:
        axes.text(0.03, place, words.NOT_MEASURED, transform=axes.get_yaxis_transform(), va="center", fontsize=8, alpha=0.7)
        return
    if of.low:
        axes.plot([of.low, of.high or value], [place, place], color=colour, lw=1.6)
    axes.plot(value, place, "o" if of.value is not None else ">", color=colour, ms=6.5, mec=PAPER, mew=0.6, zorder=3)


def curves_attenuation(rows: pd.DataFrame) -> dict[str, tuple[gradients_statistics.Curve, gradients_statistics.Curve | None]]:
    """init → its curve, and for an LSTM that of the cell path alone; the longest case of each."""
    found = {}
    for init, part in rows.groupby("init", sort=False):
        part = part[part["steps"] == part["steps"].max()]
        own = gradients_statistics.curve(part)
        if own is not None:
            found[str(init)] = own, gradients_statistics.curve(part, "log_cell_only")
    return found


def _panel_attenuation(axes: Axes, cell: str, rows: pd.DataFrame) -> None:
    handles = []
    for place, (init, (own, alone)) in enumerate(curves_attenuation(rows).items()):
        colour, dash = drawing.init_style(init, place)
        middle, half = own.mean * PER_NAT, own.half_width * PER_NAT
        axes.fill_between(own.lags, middle - half, middle + half, color=colour, alpha=0.18, lw=0)
        axes.plot(own.lags, middle, color=colour, linestyle=dash)
        for lag in (
            lag for lag in own.underflow_lags if lag <= LAST_LAG_ATTENUATION
        ):  # from the first of them on the mean has no number
            axes.plot([lag], [0.02], "x", color=colour, transform=axes.get_xaxis_transform(), clip_on=False)
        if alone is not None:
            axes.plot(alone.lags, alone.mean * PER_NAT, color=colour, lw=0.9, linestyle=(0, (1.2, 1.6)))
        handles.append(drawing.mark_init(init, place))
    axes.axvline(TEN_STEPS, color=FAINT, lw=1)
    axes.axhline(-3, color=FAINT, lw=1)
    if cell == "rnn":
        lags = np.array([0, LAST_LAG_ATTENUATION])
        axes.plot(lags, THEORY * lags, color=INK, lw=0.9, linestyle=(0, (4, 3)))
        handles.append(Line2D([], [], color=INK, lw=0.9, linestyle=(0, (4, 3)), label="0.577ᵏ, linear theory"))
    elif cell == "lstm":
        handles.append(Line2D([], [], color=INK, lw=0.9, linestyle=(0, (1.2, 1.6)), label="∏f: the cell path alone"))
    axes.set_xlim(0, LAST_LAG_ATTENUATION)
    axes.set_ylim(LOWEST, HIGHEST)
    decade_ticks(axes, (2, 0, -3, -6, -9, -12))
    axes.set_xlabel("lag k, steps back from the loss")
    axes.set_title(CELLS[cell])
    drawing.legend_outside(axes, handles)


def _caption_attenuation(rows: pd.DataFrame, hidden: int) -> str:
    said, died = [], False
    for cell, title in CELLS.items():
        found = curves_attenuation(rows[rows["cell"] == cell])
        died |= any(lag <= LAST_LAG_ATTENUATION for own, _ in found.values() for lag in own.underflow_lags)
        horizons = {
            init: quantities.named("horizon").format(gradients_statistics.horizon(own)) for init, (own, _) in found.items()
        }
        parts = [f"{drawing.init_name(init)} {horizon}" for init, horizon in horizons.items()]
        said += [f"{title}: {', '.join(parts)}"] if parts else []
    return (
        f"H = {hidden}, a loss at the last step; mean of ln‖gradient‖ over sequences and seeds, 95 % t-band over seeds. "
        f"Decay length (10⁻³): {'. '.join(said)}. Grey: ten steps, 10⁻³."
        + " A cross: from there on a seed’s gradient is exactly zero."
        * died
    )


# Deep networks and a Transformer on the axes of the attenuation curves.

NAMES = {
    "plain": "no shortcut", "residual_halved": "shortcut halved", "residual_0.9": "shortcut times 0.9", "residual": "residual",
    "residual_normed": "residual, normed",
    "transformer": "Transformer",
}  # fmt: skip
COLOURS_CONTROLS = dict(zip(NAMES, (PALETTE[0], PALETTE[2], PALETTE[5], PALETTE[1], PALETTE[4], PALETTE[3]), strict=True))
RECURRENT = (("rnn", "pytorch"), ("lstm", "pytorch"), ("lstm", "forget:3"))
GREY_DASHES = ((0, ()), (0, (5, 1.5)), (0, (1.2, 1.2)))


def draw_controls(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    rows = series[series["probe"] == "controls"] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    deep, flat = rows[rows["network"] != "transformer"], rows[rows["network"] == "transformer"]
    beside = series[(series["probe"] == "attenuation") & (series["hidden_size"] == int(rows["hidden_size"].iloc[0]))]
    shown = [part for part in (deep, flat) if not part.empty]
    with look():
        figure, grid = panels(len(shown), height=3.5)
        for axes, part in zip(grid[0], shown, strict=True):
            through_depth = part is deep
            _panel_controls(axes, part, beside, "log_gradient" if through_depth else "log_input")
            axes.set_title("Layers: the lag is the depth" if through_depth else "Positions: dL/dx by lag")
            axes.set_xlabel("layers below the loss" if through_depth else "lag k, steps back from the loss")
        grid[0][0].set_ylabel("gradient relative to lag 1")
    return Drawing(figure, "Gradient decay in networks without recurrence", _caption_controls(rows))


def _panel_controls(axes: Axes, rows: pd.DataFrame, beside: pd.DataFrame, metric: str) -> None:
    handles = []
    for place, (cell, init) in enumerate(RECURRENT):
        part = beside[(beside["cell"] == cell) & (beside["init"] == init)]
        if not part.empty and _line(axes, part[part["steps"] == part["steps"].max()], metric, FAINT, GREY_DASHES[place]):
            label = f"{cell.upper()} {drawing.init_name(init)}"
            handles.append(Line2D([], [], color=FAINT, linestyle=GREY_DASHES[place], label=label))
    for network, part in rows.groupby("network", sort=False):
        colour = COLOURS_CONTROLS.get(str(network), PALETTE[6])
        if _line(axes, part, metric, colour, "-"):
            handles.append(Line2D([], [], color=colour, label=NAMES.get(str(network), str(network))))
    axes.set_xlim(0, 150)
    axes.set_ylim(-12, 3)
    decade_ticks(axes, (2, 0, -3, -6, -9, -12))
    drawing.legend_outside(axes, handles)


def _line(axes: Axes, rows: pd.DataFrame, metric: str, colour: str, dash: object) -> bool:
    found = gradients_statistics.curve(rows, metric)
    if found is None or len(found.lags) < 2:
        return False
    # Lag 0 is the loss's own place, where a Transformer keeps most of the gradient.
    first = found.logs[:, 1:2]
    of = gradients_statistics.Curve(found.lags[1:], found.logs[:, 1:] - first, found.steps)
    middle, half = of.mean * PER_NAT, of.half_width * PER_NAT
    axes.fill_between(of.lags, middle - half, middle + half, color=colour, alpha=0.18, lw=0)
    axes.plot(of.lags, middle, color=colour, linestyle=dash)  # pyright: ignore[reportArgumentType]
    return True


def _caption_controls(rows: pd.DataFrame) -> str:
    said = []
    for network, part in rows.groupby("network", sort=False):
        name = "input_passed_over_100" if network == "transformer" else "passed_over_100"
        said.append(
            f"{NAMES.get(str(network), str(network))} {quantities.named(name).format(quantities.named(name).estimate(part))}"
        )
    return (
        f"Width {int(rows['hidden_size'].iloc[0])}, before training; 95 % t-bands over seeds. A(100)/A(1): {', '.join(said)}."
    )


# Stacked and bidirectional networks: the gradient of the inputs by lag beside that of one layer, a panel a cell.

TITLES = {"lstm": "LSTM", "gru": "GRU", "rnn": "Vanilla RNN"}
# Colour tells the initialisation, dash the network.
NETWORKS: dict[str, Dash] = {
    "one layer": DASHES[0], "two layers": DASHES[1], "bidirectional": DASHES[2], "two layers, bidirectional": DASHES[3],
}  # fmt: skip
LAST_LAG_LAYERS = 100
Curves = dict[tuple[str, str], gradients_statistics.Curve]  # by init and network


def draw_layers(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; the networks of the probe `inputs` in double precision."""
    rows = series[(series["probe"] == "inputs") & (series["dtype"] == "float64")] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return None
    found = {cell: of for cell in TITLES if (of := curves_layers(rows[rows["cell"] == cell]))}
    if not any(len(of) > 1 for of in found.values()):
        return None
    with look():
        figure, grid = panels(len(found), height=3.9)
        for axes, (cell, of) in zip(grid[0], found.items(), strict=True):
            _panel_layers(axes, of)
            axes.set_title(TITLES[cell])
        grid[0][0].set_ylabel("dL/dx relative to lag 0")
    hidden = int(rows["hidden_size"].iloc[0])
    return Drawing(figure, "Stacked and bidirectional networks", _caption_layers(found, hidden))


def curves_layers(rows: pd.DataFrame) -> Curves:
    """Of one cell's rows."""
    found = {}
    for (init, layers, both), part in rows.groupby(["init", "num_layers", "bidirectional"], sort=False):
        of = gradients_statistics.curve(part, "log_input")
        if of is not None:
            found[str(init), network(int(float(str(layers))), bool(both))] = of
    return dict(sorted(found.items(), key=lambda each: (drawing.init_order(each[0][0]), *_order(each[0][1]))))


def network(layers: int, bidirectional: bool) -> str:
    stack = {1: "one layer", 2: "two layers"}.get(layers, f"{layers} layers")
    if not bidirectional:
        return stack
    return "bidirectional" if layers == 1 else f"{stack}, bidirectional"


def _order(name: str) -> tuple[int, str]:
    names = list(NETWORKS)
    return (names.index(name) if name in names else len(names)), name


def _panel_layers(axes: Axes, found: Curves) -> None:
    places = {init: place for place, init in enumerate(dict.fromkeys(init for init, _ in found))}
    for (init, name), of in found.items():
        colour, _ = drawing.init_style(init, places[init])
        middle, half = of.mean * PER_NAT, of.half_width * PER_NAT
        axes.fill_between(of.lags, middle - half, middle + half, color=colour, alpha=0.12, lw=0)
        axes.plot(of.lags, middle, color=colour, linestyle=NETWORKS.get(name, DASHES[3]))
    axes.axhline(-3, color=FAINT, lw=1)
    axes.set_xlim(0, LAST_LAG_LAYERS)
    axes.set_ylim(-12, 1)
    decade_ticks(axes, (0, -3, -6, -9, -12))
    axes.set_xlabel("lag k, steps back from the loss")
    colours = [
        Line2D([], [], color=drawing.init_style(init, place)[0], label=drawing.init_name(init))
        for init, place in places.items()
    ]
    dashes = [
        Line2D([], [], color=INK, lw=1, linestyle=NETWORKS.get(name, DASHES[3]), label=name)
        for name in sorted({name for _, name in found}, key=_order)
    ]
    drawing.legend_outside(axes, [*colours, *dashes])


def _caption_layers(found: dict[str, Curves], hidden: int) -> str:
    said = []
    for cell, of in found.items():
        horizons = [
            f"{drawing.init_name(init)}, {name} {quantities.named('horizon').format(gradients_statistics.horizon(own))}"
            for (init, name), own in of.items()
        ]
        said.append(f"{TITLES[cell]}: {'; '.join(horizons)}")
    return (
        f"H = {hidden}, backward pass of the float64 reference, a loss at the last step; 95 % t-bands over seeds. "
        f"Decay length (10⁻³): {'. '.join(said)}. The direction that runs back has read one step at the last output, "
        "so its part is at lag 0 alone."
    )


# What each lag adds to the gradient of the weights, and what is left of its direction where backpropagation is cut off.

CUT = 10  # steps, at which the caption reads the cosine


def draw_truncation(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; the hidden size with the most initialisations is drawn."""
    rows = series[series["probe"] == "attenuation"] if "probe" in series else series.iloc[:0]
    rows = rows[~rows["init"].isin(AUDITED)] if len(rows) else rows
    if not (rows["metric"] == "truncated_cosine").any():
        return None
    hidden = int(rows.groupby("hidden_size")["init"].nunique().sort_values(kind="stable").index.to_numpy()[-1])
    rows = rows[rows["hidden_size"] == hidden]
    rows = rows[rows["steps"] == int(rows["steps"].mode().iloc[0])]
    cells = [cell for cell in CELLS if (rows["cell"] == cell).any()]
    if not cells:
        return None
    with look():
        figure, grid = panels(len(cells), 2, height=2.9, share_y=False)
        for place, cell in enumerate(cells):
            own = rows[rows["cell"] == cell]
            _shares(grid[0][place], own)
            _cosines(grid[1][place], own)
            grid[0][place].set_title(CELLS[cell])
        grid[0][0].set_ylabel("‖contribution of the lag to dL/dW_hh‖")
        grid[1][0].set_ylabel("cosine with the full dL/dW_hh")
    return Drawing(figure, "Error of truncated backpropagation", _caption_truncation(rows, cells, hidden))


def cosines(rows: pd.DataFrame) -> tuple[list[float], list[float]]:
    """Steps kept, and the mean over seeds of the cosine there; rows of one case."""
    cut = rows.loc[rows["metric"] == "truncation", "samples"]
    found = seeds.together(seeds.metric(rows, "truncated_cosine"))
    if cut.empty or not found.size:
        return [], []
    return list(cut.iloc[0][: found.shape[1]]), list(found.mean(0))


def at_horizon(rows: pd.DataFrame) -> tuple[float, float] | None:
    """n(10⁻³) of the whole state's gradient and the cosine of a cut there, read along the line between the cuts that were
    tried; None where either is not known. rows of one case."""
    of, (kept, values) = gradients_statistics.curve(rows), cosines(rows)
    reach = None if of is None else gradients_statistics.horizon(of).value
    if reach is None or not kept or not kept[0] <= reach <= kept[-1]:
        return None
    return reach, float(np.interp(np.log(reach), np.log(kept), values))


def _shares(axes: Axes, rows: pd.DataFrame) -> None:
    for place, (init, part) in enumerate(rows.groupby("init", sort=False)):
        of = gradients_statistics.curve(part, "log_weight")
        if of is not None:
            colour, dash = drawing.init_style(str(init), place)
            axes.plot(of.lags, of.mean * PER_NAT, color=colour, linestyle=dash)
    axes.set_xlim(0, 150)
    axes.set_ylim(-12, 3)
    decade_ticks(axes, (2, 0, -3, -6, -9, -12))
    axes.set_xlabel("lag k, steps back from the loss")


def _cosines(axes: Axes, rows: pd.DataFrame) -> None:
    handles = []
    for place, (init, part) in enumerate(rows.groupby("init", sort=False)):
        kept, values = cosines(part)
        if kept:
            colour, dash = drawing.init_style(str(init), place)
            axes.plot(kept, values, color=colour, linestyle=dash)
            if dot := at_horizon(part):
                axes.plot(*dot, "o", color=colour, mec=PAPER, mew=0.8, ms=6, zorder=4)
            handles.append(drawing.mark_init(str(init), place))
    axes.axhline(1, color=FAINT, lw=1)
    axes.set_xscale("log")
    axes.set_xticks([1, 3, 10, 30, 100, 300], ["1", "3", "10", "30", "100", "300"])
    axes.set_xticks([], minor=True)
    axes.set_ylim(-0.05, 1.08)
    axes.tick_params(labelleft=True)
    axes.set_xlabel("steps kept, k")
    drawing.legend_outside(axes, handles)


def _caption_truncation(rows: pd.DataFrame, cells: list[str], hidden: int) -> str:
    said, reached, cut = [], [], float(CUT)
    for cell in cells:
        parts = []
        for init, part in rows[rows["cell"] == cell].groupby("init", sort=False):
            kept, values = cosines(part)
            near = min(range(len(kept)), key=lambda place: abs(kept[place] - CUT), default=None)
            if near is not None:
                parts.append(f"{drawing.init_name(str(init))} {words.format_significant(values[near], 2)}")
                reached += [dot[1]] if (dot := at_horizon(part)) else []
                cut = kept[near]
        said.append(f"{CELLS[cell]}: {', '.join(parts)}")
    bias = (
        f" Dots: the decay length (10⁻³); truncated there, the cosine is {words.format_significant(min(reached), 2)} to "
        f"{words.format_significant(max(reached), 2)}."
        if reached
        else ""
    )
    return (
        f"H = {hidden}, a loss at the last step. Above: size of what lag k adds to dL/dW_hh, over lag 0. Below: cosine "
        f"between dL/dW_hh of the last steps and of all, mean over seeds. After {cut:.0f} steps: {'. '.join(said)}.{bias}"
    )
