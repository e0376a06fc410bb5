"""Figures of studies `decode` and `stream`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report import words
from analysis.report.drawing import DASHES, FAINT, INK, MARKERS, PALETTE, PAPER, Drawing, log_units, log_values, look, panels
from analysis.studies import decode as decode_statistics
from analysis.studies import of_series
from analysis.studies.decode import GIGABYTE, NAMES, Energy, Held, Stream

# The decode chart, over the context: a token's time, the bytes a second it moves, the bytes its context takes; its energy.

LOOKS = {model: (PALETTE[place], MARKERS[place], DASHES[place]) for place, model in enumerate(NAMES)}


def draw_decode(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    found = decode_statistics.streams(series)
    if not found:
        return None
    with look():
        energy = decode_statistics.energies(series)
        figure, grid = panels(3 + bool(energy), height=3.2, share_y=False)
        time, rate, state = grid[0][:3]
        curves(time, found, lambda each: each.middle, "s", "per-token decode latency")
        for each in found:
            _spans(time, each, each.seconds)
        every = np.concatenate([each.seconds.ravel() for each in found])
        time.set_ylim(every.min() / 1.3, every.max() * 1.3)
        curves(rate, found, lambda each: each.least_bytes / each.middle, "B/s", "weights and state read per second")
        curves(state, found, lambda each: each.state_bytes, "B", "state per sequence")
        weights = found[0].parameter_bytes
        state.axhline(weights, color=FAINT, lw=1, linestyle="--")
        state.annotate(
            f"weights {words.format_si(weights, 'B')}", (0, weights), xycoords=("axes fraction", "data"),
            xytext=(3, 3), textcoords="offset points", color=INK, alpha=0.75, size=8,
        )  # fmt: skip
        if energy:
            curves(grid[0][3], energy, lambda each: each.middle, "J", "energy per token")
            for each in energy:
                _spans(grid[0][3], each, each.joules)
        figure.legend(handles=[mark(each) for each in found], loc="outside upper left", ncols=len(found))
    return Drawing(figure, "Decode latency vs context length", _caption_decode(found, energy))


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


def _caption_decode(found: list[Stream], energy: list[Energy]) -> str:
    return (
        f"{_reach(found, [each.middle for each in found], 's')}. Each on the backend fastest at the longest context; bars span "
        "the replicates. Bytes a second are those a token has to move over its time: where they are few, the kernel is slow, "
        f"not the architecture. {_energy(energy)}."
    )


def _energy(energy: list[Energy]) -> str:
    if not energy:
        return "Energy per token: not measured"
    on = words.join_list(dict.fromkeys(each.backend for each in energy))
    return f"Energy per token, by {on}. {_reach(energy, [each.middle for each in energy], 'J')}"


def _reach(found: Sequence[Stream | Energy], values: list[np.ndarray], unit: str) -> str:
    """What each is at the shortest and at the longest context."""
    parts = [
        f"{NAMES[each.model]} {words.format_si(float(own[0]), unit)} → {words.format_si(float(own[-1]), unit)}"
        for each, own in zip(found, values, strict=True)
    ]
    return f"For a context of {found[0].contexts[0]:.0f} → {found[0].contexts[-1]:.0f} tokens: {'; '.join(parts)}"


# How many streams fit in a memory with the weights: over the context each has behind it, and over the memory.

MEMORIES = 2.0 ** np.arange(-3, 8) * GIGABYTE  # from an eighth of a gigabyte to what the largest GPU of today has


def draw_streams(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`. In the memory of the GPU where streams were counted, else in a gigabyte."""
    found = decode_statistics.streams(series)
    if not found:
        return None
    counted = decode_statistics.held(series)
    memory = max((each.memory for each in counted), default=GIGABYTE)
    fitting = [each for each in found if each.streams(memory).min() > 0]
    if not fitting:
        return None
    with look():
        figure, (row,) = panels(2, height=3.3, share_y=False)
        curves(row[0], fitting, lambda each: each.streams(memory), "", f"sequences in {words.format_si(memory, 'B')}")
        for each in counted:
            row[0].plot(each.context, each.streams, "o", mfc=PAPER, color=LOOKS[each.model][0], ms=8)
        _over_memory(row[1], found)
        figure.legend(handles=[mark(each) for each in found], loc="outside upper left", ncols=len(found))
    return Drawing(figure, "Max concurrent sequences by memory", _caption_streams(fitting, counted, memory))


def _over_memory(axes: Axes, found: list[Stream]) -> None:
    """Of each at its longest context, whatever memory a reader has."""
    most = 1.0
    for each in found:
        fit = np.array([each.streams(memory)[-1] for memory in MEMORIES])
        colour, marker, dash = LOOKS[each.model]
        some = fit > 0
        axes.plot(MEMORIES[some], fit[some], color=colour, marker=marker, linestyle=dash, mec=PAPER, mew=0.6)
        most = max(most, float(fit.max()))
    axes.set(xscale="log", yscale="log", xlabel="memory", title=f"sequences of {found[0].contexts[-1]:.0f} tokens")
    log_units(axes.xaxis, "B", float(MEMORIES[0]), float(MEMORIES[-1]))
    log_units(axes.yaxis, "", 0.6, most * 1.6)


def _caption_streams(found: list[Stream], counted: list[Held], memory: float) -> str:
    parts = [f"{NAMES[each.model]} {words.format_significant(float(each.streams(memory)[-1]))}" for each in found]
    told = f"In {words.format_si(memory, 'B')}, less the weights, by the bytes of their states in closed form, each "
    told += f"{found[0].contexts[-1]:.0f} tokens in: {', '.join(parts)}. "
    if not counted:
        return told + "A count on a GPU: not measured."
    forms = {each.model: each for each in found}
    seen = []
    for each in counted:
        closed = forms[each.model].fitting(each.context, each.memory) if each.model in forms else None
        of = f" of {words.format_significant(closed)}" if closed else ""
        seen.append(f"{NAMES[each.model]} {words.format_significant(each.streams)}{of} after {each.context:.0f} tokens")
    return told + f"Seen to run one step on the GPU (rings), of those the closed form allows: {'; '.join(seen)}."


SECTION = ("decoding", "Decode latency vs context length")
FIGURES = of_series({"decode": draw_decode, "streams": draw_streams})
