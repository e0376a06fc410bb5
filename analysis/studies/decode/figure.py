"""The decode chart, over the context: a token's time, the bytes a second it moves, the bytes its context takes; its energy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report import words
from analysis.report.drawing import Drawing, log_units, log_values, look, panels
from analysis.report.style import DASHES, FAINT, INK, MARKERS, PALETTE, PAPER
from analysis.studies.decode import decode
from analysis.studies.decode.decode import NAMES, Energy, Stream

LOOKS = {model: (PALETTE[place], MARKERS[place], DASHES[place]) for place, model in enumerate(NAMES)}


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    found = decode.streams(series)
    if not found:
        return None
    with look():
        energy = decode.energies(series)
        figure, grid = panels(3 + bool(energy), height=3.2, share_y=False)
        time, rate, state = grid[0][:3]
        curves(time, found, lambda each: each.middle, "s", "time of a token")
        for each in found:
            _spans(time, each, each.seconds)
        every = np.concatenate([each.seconds.ravel() for each in found])
        time.set_ylim(every.min() / 1.3, every.max() * 1.3)
        curves(rate, found, lambda each: each.least_bytes / each.middle, "B/s", "weights and state read a second")
        curves(state, found, lambda each: each.state_bytes, "B", "state of one stream")
        weights = found[0].parameter_bytes
        state.axhline(weights, color=FAINT, lw=1, linestyle="--")
        state.annotate(
            f"weights {words.scaled(weights, 'B')}", (0, weights), xycoords=("axes fraction", "data"),
            xytext=(3, 3), textcoords="offset points", color=INK, alpha=0.75, size=8,
        )  # fmt: skip
        if energy:
            curves(grid[0][3], energy, lambda each: each.middle, "J", "energy of a token")
            for each in energy:
                _spans(grid[0][3], each, each.joules)
        figure.legend(handles=[mark(each) for each in found], loc="outside upper left", ncols=len(found))
    return Drawing(figure, "One more token after so many", _caption(found, energy))


Curve = TypeVar("Curve", Stream, Energy)


def _spans(axes: Axes, each: Stream | Energy, values: np.ndarray) -> None:
    """A bar from the least replicate to the most."""
    axes.vlines(each.contexts, values.min(0), values.max(0), color=LOOKS[each.model][0], lw=1.2, alpha=0.6)


def curves(axes: Axes, found: Sequence[Curve], value: Callable[[Curve], np.ndarray], unit: str, title: str) -> None:
    """A line a model over the context, both axes logarithmic."""
    values = [value(each) for each in found]
    for each, own in zip(found, values, strict=True):
        colour, marker, dash = LOOKS[each.model]
        axes.plot(each.contexts, own, color=colour, marker=marker, linestyle=dash, mec=PAPER, mew=0.6)
    axes.set(xscale="log", yscale="log", title=title, xlabel="context, tokens")
    every = np.concatenate(values)
    log_values(axes.xaxis, np.concatenate([each.contexts for each in found]))
    axes.set_ylim(every.min() / 1.6, every.max() * 1.6)
    log_units(axes.yaxis, unit, float(every.min() / 1.6), float(every.max() * 1.6))


def mark(each: Stream) -> Line2D:
    colour, marker, dash = LOOKS[each.model]
    label = f"{NAMES[each.model]} ({each.backend})"
    return Line2D([], [], color=colour, marker=marker, linestyle=dash, mec=PAPER, mew=0.6, label=label)


def _caption(found: list[Stream], energy: list[Energy]) -> str:
    return (
        f"{_reach(found, [each.middle for each in found], 's')}. Each on the backend fastest at the longest context; bars span "
        "the replicates. Bytes a second are those a token has to move over its time: where they are few, the kernel is slow, "
        f"not the architecture. {_energy(energy)}."
    )


def _energy(energy: list[Energy]) -> str:
    if not energy:
        return "Energy a token: not measured"
    on = words.listed(dict.fromkeys(each.backend for each in energy))
    return f"Energy a token, by {on}. {_reach(energy, [each.middle for each in energy], 'J')}"


def _reach(found: Sequence[Stream | Energy], values: list[np.ndarray], unit: str) -> str:
    """What each is at the shortest and at the longest context."""
    parts = [
        f"{NAMES[each.model]} {words.scaled(float(own[0]), unit)} → {words.scaled(float(own[-1]), unit)}"
        for each, own in zip(found, values, strict=True)
    ]
    return f"For a context of {found[0].contexts[0]:.0f} → {found[0].contexts[-1]:.0f} tokens: {'; '.join(parts)}"
