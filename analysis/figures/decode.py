"""The decode chart: the time of a token, the bytes a second it moves, and the bytes its context takes, over the context."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis import decode, words
from analysis.decode import NAMES, Stream
from analysis.figures.drawing import Drawing, log_units, log_values, look, panels
from analysis.style import DASHES, FAINT, INK, MARKERS, PALETTE, PAPER

LOOKS = {model: (PALETTE[place], MARKERS[place], DASHES[place]) for place, model in enumerate(NAMES)}


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    found = decode.streams(series)
    if not found:
        return None
    with look():
        figure, grid = panels(3, height=3.2, share_y=False)
        time, rate, state = grid[0]
        curves(time, found, lambda each: each.middle, "s", "time of a token")
        for each in found:
            colour = LOOKS[each.model][0]
            time.vlines(each.contexts, each.seconds.min(0), each.seconds.max(0), color=colour, lw=1.2, alpha=0.6)
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
        figure.legend(handles=[mark(each) for each in found], loc="outside upper left", ncols=len(found))
    return Drawing(figure, "One more token after so many", _caption(found))


def curves(axes: Axes, found: list[Stream], value: Callable[[Stream], np.ndarray], unit: str, title: str) -> None:
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


def _caption(found: list[Stream]) -> str:
    parts = []
    for each in found:
        first, last = (words.scaled(float(each.middle[place]), "s") for place in (0, -1))
        parts.append(f"{NAMES[each.model]} {first} → {last}")
    reach = f"{found[0].contexts[0]:.0f} → {found[0].contexts[-1]:.0f}"
    return (
        f"For a context of {reach} tokens: {'; '.join(parts)}. Each on the backend fastest at the longest context; bars span "
        "the replicates. Bytes a second are those a token has to move over its time: where they are few, the kernel is slow, "
        "not the architecture. Energy a token: not measured."
    )
