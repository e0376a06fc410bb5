"""Figures of study `scaling`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report import words
from analysis.report.drawing import (
    ARCHITECTURE_NAMES,
    DASHES,
    FAINT,
    INK,
    LOOKS,
    MARKERS,
    PALETTE,
    PAPER,
    Drawing,
    log_units,
    log_values,
    look,
    panels,
)
from analysis.report.load import rows_of
from analysis.statistics import quantities, seeds
from analysis.statistics.quantities import select
from analysis.statistics.ratios import aggregate, of_one_launch
from analysis.statistics.seeds import Estimate
from analysis.studies import of_series
from analysis.studies import scaling as scaling_statistics
from analysis.studies.scaling import crossovers
from analysis.studies.scaling.crossovers import Series

# The crossover atlas: what a token costs over length, a panel a resource, a line an architecture, T* where two cross.

TOKENS, MEMORY = "study=scaling,sweep=tokens", "study=scaling,sweep=memory"
FLOPS = ("flops",)  # counted, not measured
# title, selection, metrics, unit, multiple of d at which attention costs as much as the rest
PANELS_ATLAS = (
    ("Training, time per token", f"{TOKENS},phase=forward_backward", ("time",), "s", 12),
    ("Prefill, time per token", f"{TOKENS},phase=forward", ("time",), "s", 12),
    ("Decode, time per token", f"{TOKENS},phase=step", ("time",), "s", 6),
    ("Training, peak memory per token", MEMORY, scaling_statistics.MEMORY, "B", 0),
    ("Training, FLOPs per token", f"{TOKENS},phase=forward_backward", FLOPS, "FLOP", 12),
    ("Training, energy per token", MEMORY, scaling_statistics.ENERGY, "J", 0),
)


def draw_atlas(series: pd.DataFrame, records: pd.DataFrame) -> Drawing | None:
    """series, records: a section's. None where the study did not run."""
    rows = select(series, "study=scaling,sweep!=newton") if "sweep" in series else series.iloc[:0]
    if select(rows, TOKENS).empty:
        return None
    said, exhausted = [], []
    with look():
        figure, grid = panels(3, 2, share_y=False)
        for axes, (title, selection, metrics, unit, multiple) in zip([*grid[0], *grid[1]], PANELS_ATLAS, strict=True):
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
    return Drawing(figure, "Crossover plots: cost vs length", _caption_atlas(said, exhausted))


def _series(rows: pd.DataFrame, metrics: tuple[str, ...]) -> Series | None:
    return scaling_statistics.per_token(rows) if metrics == FLOPS else scaling_statistics.over_length(rows, *metrics)


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
        named.append(f"{ARCHITECTURE_NAMES[str(row['cell'])]} at T = {row['steps']:g}")
    return named


def _crossing(axes: Axes, rows: pd.DataFrame, metrics: tuple[str, ...]) -> str:
    found = (
        scaling_statistics.crossover_operations(rows) if metrics == FLOPS else scaling_statistics.crossover_of(rows, metrics)
    )
    if found.value is not None and found.low is not None:
        high = found.high if found.high is not None else found.beyond
        axes.axvspan(max(found.low, axes.get_xlim()[0]), high or found.value, color=INK, alpha=0.07, lw=0)
        axes.axvline(found.value, color=INK, lw=1)
    text = f"T* {quantities.named('crossover_time').format(found)}"
    equal = scaling_statistics.attention_equals_rest(rows)
    if metrics != FLOPS or equal.value is None:
        return text
    return (
        f"{text}, though attention takes as many as the rest of the Transformer at T = {words.format_significant(equal.value)}"
    )


def _legend() -> list[Line2D]:
    marks = [
        Line2D([], [], color=colour, marker=marker, mec=PAPER, mew=0.6, label=ARCHITECTURE_NAMES[cell])
        for cell, (colour, marker) in LOOKS.items()
    ]
    marks.append(Line2D([], [], color=INK, lw=1, label="T*, 95 % interval"))
    return [*marks, Line2D([], [], color=FAINT, lw=1, linestyle=(0, (3, 2)), label="12 d; 6 d in decode")]


def _caption_atlas(said: list[str], exhausted: list[str]) -> str:
    text = "; ".join(said)
    named = words.join_list(dict.fromkeys(exhausted))
    missing = f" Out of memory, so that no crossover is looked for there, and marked by a cross: {named}." if named else ""
    return (
        f"{text[:1].upper()}{text[1:]}. T*: the length from which the LSTM costs less than the Transformer; outside what was "
        "measured it is a bound. Equal parameters within 1 %, equal tokens a call (the batch shrinks as sequences grow; decode "
        f"has one stream with T tokens behind it).{missing}"
    )


# Local exponents: with which power of length, width, depth and batch the time to train grows, step by step.

LINEAR = "length T"


def draw_growth(series: pd.DataFrame) -> Drawing | None:
    """series: a section's. None where no architecture was timed at two values of anything."""
    rows = select(series, "study=scaling,metric=time,phase=forward_backward") if "sweep" in series else series.iloc[:0]
    rows = of_one_launch(rows)
    if rows.empty:
        return None
    found = {label: curves for label, curves in _curves(rows).items() if curves}
    if not found:
        return None
    with look():
        figure, grid = panels(len(found))
        for axes, (label, curves) in zip(grid[0], found.items(), strict=True):
            for cell, curve in curves.items():
                colour, marker = LOOKS[cell]
                exponents = crossovers.exponents(curve)
                between = np.sqrt(curve.lengths[1:] * curve.lengths[:-1])
                half = seeds.half_width(exponents) if len(exponents) >= seeds.FEWEST_SEEDS else None
                axes.errorbar(
                    between, exponents.mean(0), half, color=colour, marker=marker, mec=PAPER, mew=0.6, elinewidth=0.9,
                    label=ARCHITECTURE_NAMES[cell],
                )  # fmt: skip
            axes.axhline(1, color=FAINT, lw=1, linestyle=(0, (3, 2)))
            axes.set(xscale="log", xlabel=label, title=f"Training over {label}")
            measured = sorted({length for curve in curves.values() for length in curve.lengths})
            axes.set_xlim(measured[0] / 1.1, measured[-1] * 1.1)  # the marks lie between, the ticks where it was measured
            log_values(axes.xaxis, measured)
            axes.tick_params(labelleft=True)
        grid[0][0].set_ylabel("scaling exponent (local slope)")
        handles, names = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=4)
    return Drawing(figure, "Scaling exponents of training time", _caption_growth(rows, len(found)))


def _curves(rows: pd.DataFrame) -> dict[str, dict[str, Series]]:
    """By what changes, each architecture's seconds over it: of a sequence over its length, of a call over the rest."""
    found: dict[str, dict[str, Series]] = {LINEAR: {}} | {label: {} for label in scaling_statistics.AXES.values()}
    for cell in LOOKS:
        own = rows[rows["cell"] == cell]
        each = {LINEAR: scaling_statistics.of_sequence(select(own, "sweep=tokens"))}
        each |= {label: scaling_statistics.over(own, column) for column, label in scaling_statistics.AXES.items()}
        for label, curve in each.items():
            if curve is not None and len(curve.lengths) > 1:
                found[label][cell] = curve
    return found


def _caption_growth(rows: pd.DataFrame, panels_drawn: int) -> str:
    said = [text for cell, name in ARCHITECTURE_NAMES.items() if (text := _fitted(select(rows, f"batch=1,cell={cell}"), name))]
    fitted = f" One sequence's time, fitted as a + bT + cT²: {'; '.join(said)}." if said else ""
    rest = "; over width, depth and batch T and the other two are held" if panels_drawn > 1 else ""
    return (
        "The slope of ln t between neighbouring values, mean and 95 % interval over replicates; dashed: in proportion. Over "
        f"length t is a sequence's, at equal tokens a call{rest}.{fitted}"
    )


def _fitted(rows: pd.DataFrame, name: str) -> str:
    """The coefficients and what the square makes up, or nothing where the lengths are too few."""
    times, share = scaling_statistics.of_sequence(rows), scaling_statistics.quadratic_term_share(rows)
    if times is None or share.value is None:
        return ""
    found = crossovers.fit(times)
    each = [
        f"{letter} {_seconds(one)}" for letter, one in (("a", found.a), ("b", found.b), ("c", found.c)) if one.value is not None
    ]
    square = quantities.named("quadratic_share").format(share)
    return f"{name} {words.join_list(each)}, the square being {square} of it at T = {times.lengths.max():g}"


def _seconds(found: Estimate) -> str:
    """Mean and interval, each with its own prefix: a coefficient may be hundreds of times smaller than its upper end."""
    low, high = (words.format_si(value or 0.0, "s") for value in (found.low, found.high))
    return f"{words.format_si(found.value or 0.0, 's')} [{low}, {high}]"


# The share of the measured matrix-product ceiling that each architecture reaches, over length, width, depth and batch.

PANELS_UTILISATION = (  # the column that changes, its words
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
    seconds = [aggregate(samples, "median") for samples in rows["samples"]]
    rows = rows.assign(share=rows["count_flops"] / seconds / ceiling)
    return rows[rows["share"] > 0], ceiling


def over(rows: pd.DataFrame, column: str, cell: str) -> pd.Series:
    """Median share over replicates of one architecture at each value of a column, the others held."""
    own = rows[rows["cell"] == cell]
    part = (
        own[own["sweep"] == "tokens"]
        if column == "steps"
        else scaling_statistics.along(own[own["sweep"] == "sizes"], _axis(column))
    )
    return part.groupby(column)["share"].median() if len(part) else pd.Series(dtype=float)


def _axis(column: str) -> str:
    return next(axis for axis, group in scaling_statistics.GROUPS.items() if group == column)


def draw_utilisation(series: pd.DataFrame) -> Drawing | None:
    """series: a section's. None without the study or without ceilings in its data type."""
    if "sweep" not in series:
        return None
    rows, ceiling = shares(series)
    drawn = {
        (column, label): found
        for column, label in PANELS_UTILISATION
        if (found := {cell: one for cell in LOOKS if len(one := over(rows, column, cell)) > 1})
    }
    if not drawn:
        return None
    with look():
        figure, grid = panels(len(drawn))
        for axes, ((_, label), found) in zip(grid[0], drawn.items(), strict=True):
            for cell, share in found.items():
                colour, marker = LOOKS[cell]
                axes.plot(share.index, share, color=colour, marker=marker, mec=PAPER, mew=0.6, label=ARCHITECTURE_NAMES[cell])
            axes.set(xscale="log", yscale="log", xlabel=label)
            axes.set_title(f"Training over {label}")
            log_values(axes.xaxis, [value for share in found.values() for value in share.index])
            log_values(axes.yaxis, [10.0**power for power in range(-5, 1)])
            axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
            axes.tick_params(labelleft=True)
            axes.set_ylim(rows["share"].min() / 1.5, 1.2)
        grid[0][0].set_ylabel("% of peak (matrix product)")
        handles, names = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=4)
    best = rows_of(rows.nlargest(1, "share"))[0]
    dtype = str(best["dtype"])
    return Drawing(
        figure,
        "% of peak by architecture",
        f"FLOP/s by the closed forms over {words.format_si(ceiling, 'FLOP/s')}, the peak (best matrix product measured "
        f"here in {dtype}). "
        f"The highest: {ARCHITECTURE_NAMES[str(best['cell'])]} with {words.format_percent(float(best['share']))}. "
        "Elementwise work and scans count no operations, so a scan's share says how little of it is products.",
    )


# Rounds of Newton's method against the largest Lyapunov exponent: what it costs to evaluate an LSTM all at once.


def draw_newton(series: pd.DataFrame) -> Drawing | None:
    """series: a section's; one mark a seed."""
    rows = select(series, "study=scaling,sweep=newton") if "sweep" in series else series.iloc[:0]
    if rows.empty or not (rows["metric"] == "rounds").any():
        return None
    lengths = sorted(rows["steps"].unique())
    with look():
        figure, grid = panels(len(lengths))
        for axes, steps in zip(grid[0], lengths, strict=True):
            for place, (init, part) in enumerate(rows[rows["steps"] == steps].groupby("init", sort=False)):
                found = part.set_index("metric")["samples"]
                axes.plot(
                    found["lyapunov"], found["rounds"], MARKERS[place % 8], color=PALETTE[place % 8], mec=PAPER, mew=0.6,
                    label=str(init),
                )  # fmt: skip
            axes.axvline(0, color=FAINT, lw=1, linestyle=DASHES[2])
            axes.set(xlabel="largest Lyapunov exponent, nat/step", yscale="log", title=f"T = {steps:g}")
            axes.tick_params(labelleft=True)
            axes.set_yticks([1, 2, 5, 10, 20, 50, 100], ["1", "2", "5", "10", "20", "50", "100"])
            axes.minorticks_off()
        grid[0][0].set_ylabel("rounds until |s − F(s)| < 10⁻¹²")
        handles, names = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=5)
    worst = max(float(samples.max()) for samples in rows.loc[rows["metric"] == "difference", "samples"])
    return Drawing(
        figure,
        "Newton rounds of a parallel LSTM",
        "Each round is one parallel scan of 2H × 2H maps over all steps; one mark per seed, by initialisation. The states "
        f"differ from those of stepping by at most {words.format_number(worst, 2)}. {_said_of_newton(rows)}",
    )


def _said_of_newton(rows: pd.DataFrame) -> str:
    """Rounds beside exponents at the longest, and whether the two rank alike."""
    found = scaling_statistics.newton_starts(rows)
    each = words.join_list(
        f"{words.format_number(start.rounds)} at {words.format_number(start.exponent, 2)} ({start.init})" for start in found
    )
    steps = f"{scaling_statistics.longest(rows)['steps'].iloc[0]:g}"
    rho = scaling_statistics.newton_rank_correlation(rows)
    ranked = rho.why if rho.value is None else f"ρ {quantities.named('newton_rank_correlation').format(rho)}"
    return f"Mean rounds and λ₁ in nat/step at T = {steps}: {each}. Rank correlation of rounds with −|λ₁|: {ranked}."


SECTION = ("scaling", "Scaling of time and memory")
FIGURES = {"atlas": draw_atlas} | of_series({"growth": draw_growth, "utilisation": draw_utilisation, "newton": draw_newton})
