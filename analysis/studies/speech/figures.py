"""Figures of study `speech`: phone errors by network; how soon a phone is said, and memory over the length of the audio."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import DASHES, PALETTE, Drawing, log_units, look, panels
from analysis.statistics import quantities, seeds
from analysis.studies import of_series, speech

LOOKS = {
    "streaming": (PALETTE[0], "o"), "bidirectional": (PALETTE[1], "s"), "convolution": (PALETTE[4], "D"),
    "transformer": (PALETTE[2], "^"),
}  # fmt: skip
LONGER = 8  # how many times as long the longer audio is


def _there(series: pd.DataFrame, metric: str) -> dict[str, pd.DataFrame]:
    """The rows of each network that measured a metric, in the order in which they are listed."""
    own = series[series["study"] == "speech"]
    found = {name: speech.of(own, name) for name in LOOKS} if len(own) else {}
    return {name: rows for name, rows in found.items() if seeds.metric(rows, metric)}


def _intervals(axes: Axes, there: dict[str, pd.DataFrame], quantity: str) -> list[str]:
    """A row a network: the mean with its interval. Returns what a caption says of them."""
    said = []
    for row, (name, rows) in enumerate(there.items()):
        colour, marker = LOOKS[name]
        found = quantities.named(quantity).estimate(rows)
        said.append(f"{speech.NAMES[name]} {quantities.named(quantity).format(found)}")
        if found.value is not None and found.low is not None:
            axes.errorbar([found.value], [row], xerr=found.value - found.low, color=colour, marker=marker, capsize=2.5, lw=1)
    axes.set_ylim(len(there) - 0.5, -0.5)
    axes.set_yticks(range(len(there)), [speech.NAMES[name] for name in there])
    return said


def draw_phone_error(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`."""
    there = _there(series, "phone_error")
    if not there:
        return None
    with look():
        figure, ((axes,),) = panels(1, height=2.4)
        said = _intervals(axes, there, "phone_error_rate")
        axes.set_xlabel("phone errors a phone")
    return Drawing(
        figure,
        "Phone errors at equal parameters",
        "Insertions, deletions and substitutions over the phones of a test; mean over seeds, 95 % t-interval. "
        f"{'; '.join(said)}.",
    )


def draw_streaming(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; panels: delay, and memory over the length of the audio."""
    there = _there(series, "output_delay")
    if not there:
        return None
    with look():
        figure, ((left, right),) = panels(2, height=2.8, share_y=False)
        said = _intervals(left, there, "output_delay")
        left.set_xlim(left=0)
        left.set_xlabel("seconds from a phone's beginning")
        handles = _memory(right, there)
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return Drawing(
        figure,
        "Streaming: delay and memory",
        "Left: mean over the phones of utterances without an error, 95 % t-interval over seeds; a network that needs the whole "
        "utterance is taken to know at once that it has ended. Right: most that is allocated beyond weights on a CPU, for an "
        f"utterance and for one {LONGER} times as long. Delay: {'; '.join(said)}.",
    )


def _memory(axes: Axes, there: dict[str, pd.DataFrame]) -> list[Line2D]:
    handles, every = [], list[float]()
    for name, rows in there.items():
        for metric, how, dash in (("whole_bytes", "whole", DASHES[0]), ("streaming_bytes", "step by step", DASHES[1])):
            found = speech.bytes_of(rows, metric)
            if found is None:
                continue
            colour, marker = LOOKS[name]
            axes.plot([1, LONGER], found, color=colour, marker=marker, linestyle=dash)
            label = f"{speech.NAMES[name]}, {how}" if name == "streaming" else speech.NAMES[name]
            handles.append(Line2D([], [], color=colour, marker=marker, linestyle=dash, label=label))
            every += found
    axes.set_yscale("log")
    log_units(axes.yaxis, "B", min(every), max(every))
    axes.set_xticks([1, LONGER], ["utterance", f"{LONGER} × as long"])
    axes.set_xlim(0, LONGER + 1)
    return handles


SECTION = ("speech", "Speech")
FIGURES = of_series({"phone_error": draw_phone_error, "streaming": draw_streaming})
