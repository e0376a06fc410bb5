"""How many streams fit in a memory with the weights: over the context each has behind it, and over the memory."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.report import words
from analysis.report.drawing import Drawing, log_units, look, panels
from analysis.report.style import PAPER
from analysis.studies.decode import decode
from analysis.studies.decode.decode import GIGABYTE, NAMES, Held, Stream
from analysis.studies.decode.figure import LOOKS, curves, mark

MEMORIES = 2.0 ** np.arange(-3, 8) * GIGABYTE  # from an eighth of a gigabyte to what the largest GPU of today has


def draw(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`. In the memory of the GPU where streams were counted, else in a gigabyte."""
    found = decode.streams(series)
    if not found:
        return None
    counted = decode.held(series)
    memory = max((each.memory for each in counted), default=GIGABYTE)
    fitting = [each for each in found if each.streams(memory).min() > 0]
    if not fitting:
        return None
    with look():
        figure, (row,) = panels(2, height=3.3, share_y=False)
        curves(row[0], fitting, lambda each: each.streams(memory), "", f"streams in {words.scaled(memory, 'B')}")
        for each in counted:
            row[0].plot(each.context, each.streams, "o", mfc=PAPER, color=LOOKS[each.model][0], ms=8)
        _over_memory(row[1], found)
        figure.legend(handles=[mark(each) for each in found], loc="outside upper left", ncols=len(found))
    return Drawing(figure, "Streams that fit in a memory with the weights", _caption(fitting, counted, memory))


def _over_memory(axes: Axes, found: list[Stream]) -> None:
    """Of each at its longest context, whatever memory a reader has."""
    most = 1.0
    for each in found:
        fit = np.array([each.streams(memory)[-1] for memory in MEMORIES])
        colour, marker, dash = LOOKS[each.model]
        some = fit > 0
        axes.plot(MEMORIES[some], fit[some], color=colour, marker=marker, linestyle=dash, mec=PAPER, mew=0.6)
        most = max(most, float(fit.max()))
    axes.set(xscale="log", yscale="log", xlabel="memory", title=f"streams {found[0].contexts[-1]:.0f} tokens in")
    log_units(axes.xaxis, "B", float(MEMORIES[0]), float(MEMORIES[-1]))
    log_units(axes.yaxis, "", 0.6, most * 1.6)


def _caption(found: list[Stream], counted: list[Held], memory: float) -> str:
    parts = [f"{NAMES[each.model]} {words.digits(float(each.streams(memory)[-1]))}" for each in found]
    told = f"In {words.scaled(memory, 'B')}, less the weights, by the bytes of their states in closed form, each "
    told += f"{found[0].contexts[-1]:.0f} tokens in: {', '.join(parts)}. "
    if not counted:
        return told + "A count on a GPU: not measured."
    forms = {each.model: each for each in found}
    seen = []
    for each in counted:
        closed = forms[each.model].fitting(each.context, each.memory) if each.model in forms else None
        of = f" of {words.digits(closed)}" if closed else ""
        seen.append(f"{NAMES[each.model]} {words.digits(each.streams)}{of} after {each.context:.0f} tokens")
    return told + f"Seen to run one step on the GPU (rings), of those the closed form allows: {'; '.join(seen)}."
