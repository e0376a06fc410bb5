"""Local exponents: with which power of length, width, depth and batch the time to train grows, step by step."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.report import words
from analysis.report.drawing import Drawing, log_values, look, panels
from analysis.report.style import FAINT, PAPER
from analysis.statistics import seeds, verdicts
from analysis.statistics.quantities import select
from analysis.statistics.ratios import of_one_launch
from analysis.statistics.seeds import Estimate
from analysis.studies.architectures import LOOKS, NAMES
from analysis.studies.scaling import lengths, scaling, sizes
from analysis.studies.scaling.scaling import Series

LINEAR = "length T"


def draw(series: pd.DataFrame) -> Drawing | None:
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
                exponents = scaling.exponents(curve)
                between = np.sqrt(curve.lengths[1:] * curve.lengths[:-1])
                half = seeds.half_width(exponents) if len(exponents) >= seeds.FEWEST_SEEDS else None
                axes.errorbar(
                    between, exponents.mean(0), half, color=colour, marker=marker, mec=PAPER, mew=0.6, elinewidth=0.9,
                    label=NAMES[cell],
                )  # fmt: skip
            axes.axhline(1, color=FAINT, lw=1, linestyle=(0, (3, 2)))
            axes.set(xscale="log", xlabel=label, title=f"Training over {label}")
            measured = sorted({length for curve in curves.values() for length in curve.lengths})
            axes.set_xlim(measured[0] / 1.1, measured[-1] * 1.1)  # the marks lie between, the ticks where it was measured
            log_values(axes.xaxis, measured)
            axes.tick_params(labelleft=True)
        grid[0][0].set_ylabel("d ln t / d ln of it")
        handles, names = grid[0][0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=4)
    return Drawing(figure, "With which power cost grows", _caption(rows, len(found)))


def _curves(rows: pd.DataFrame) -> dict[str, dict[str, Series]]:
    """By what changes, each architecture's seconds over it: of a sequence over its length, of a call over the rest."""
    found: dict[str, dict[str, Series]] = {LINEAR: {}} | {label: {} for label in sizes.AXES.values()}
    for cell in LOOKS:
        own = rows[rows["cell"] == cell]
        each = {LINEAR: lengths.of_sequence(select(own, "sweep=tokens"))}
        each |= {label: sizes.over(own, column) for column, label in sizes.AXES.items()}
        for label, curve in each.items():
            if curve is not None and len(curve.lengths) > 1:
                found[label][cell] = curve
    return found


def _caption(rows: pd.DataFrame, panels_drawn: int) -> str:
    said = [text for cell, name in NAMES.items() if (text := _fitted(select(rows, f"batch=1,cell={cell}"), name))]
    fitted = f" One sequence's time, fitted as a + bT + cT²: {'; '.join(said)}." if said else ""
    rest = "; over width, depth and batch T and the other two are held" if panels_drawn > 1 else ""
    return (
        "The slope of ln t between neighbouring values, mean and 95 % interval over replicates; dashed: in proportion. Over "
        f"length t is a sequence's, at equal tokens a call{rest}.{fitted}"
    )


def _fitted(rows: pd.DataFrame, name: str) -> str:
    """The coefficients and what the square makes up, or nothing where the lengths are too few."""
    times, share = lengths.of_sequence(rows), lengths.quadratic_share(rows)
    if times is None or share.value is None:
        return ""
    found = scaling.fit(times)
    each = [
        f"{letter} {_seconds(one)}" for letter, one in (("a", found.a), ("b", found.b), ("c", found.c)) if one.value is not None
    ]
    spoken = verdicts.spoken("quadratic_share", share)
    return f"{name} {words.listed(each)}, the square being {spoken} of it at T = {times.lengths.max():g}"


def _seconds(found: Estimate) -> str:
    """Mean and interval, each with its own prefix: a coefficient may be hundreds of times smaller than its upper end."""
    low, high = (words.scaled(value or 0.0, "s") for value in (found.low, found.high))
    return f"{words.scaled(found.value or 0.0, 's')} [{low}, {high}]"
