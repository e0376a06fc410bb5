"""Figures of study `transfer`: loss by the number of labels, and loss of a linear probe on each layer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import INK, PALETTE, Drawing, log_values, look, panels
from analysis.statistics import quantities, seeds
from analysis.studies import of_series, transfer

WAYS = (
    ("scratch_loss", "LSTM from scratch", PALETTE[1], "s"),
    ("transfer_loss", "linear on frozen features", PALETTE[0], "o"),
)
DASH = (0, (1.2, 1.2))


def _tags(series: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    own = series[series["study"] == "transfer"]
    for tag in transfer.TAGS:
        rows = own[own["tag"] == tag] if len(own) else own
        if len(rows):
            yield tag, rows


def _least(axes: Axes, rows: pd.DataFrame) -> None:
    best = transfer.least_loss(rows).value
    if best is not None:
        axes.axhline(best, color=INK, lw=1.1, linestyle=DASH)


LEAST = Line2D([], [], color=INK, lw=1.1, linestyle=DASH, label="least possible")


def _estimate(rows: pd.DataFrame, name: str) -> str:
    return quantities.named(name).format(quantities.named(name).estimate(rows))


def draw_labels(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; a panel a tag."""
    shown = list(_tags(series))
    if not shown:
        return None
    with look():
        figure, (line,) = panels(len(shown), height=2.9)
        said = []
        for axes, (tag, rows) in zip(line, shown, strict=True):
            counts = transfer.labelled(rows)
            for metric, _, colour, marker in WAYS:
                found = transfer.values(rows, metric)
                half = seeds.half_width_drawn(found)
                axes.errorbar(counts, found.mean(0), half, color=colour, marker=marker, markersize=4.5, capsize=2, elinewidth=1)
            _least(axes, rows)
            axes.set_xscale("log")
            log_values(axes.xaxis, counts)
            axes.set_title(tag)
            axes.set_xlabel("labelled sentences")
            gains = [_estimate(rows, f"transfer_gain_{place}") for place in ("fewest", "more", "most")]
            said.append(f"{tag}: {', '.join(f'{gain} with {count}' for gain, count in zip(gains, counts, strict=True))}")
        line[0].set_ylabel("loss, nat a tag")
        handles = [Line2D([], [], color=colour, marker=marker, label=label) for _, label, colour, marker in WAYS]
        figure.legend(handles=[*handles, LEAST], loc="outside upper left", ncols=3)
    return Drawing(
        figure,
        "Tagging loss vs labelled sentences",
        f"Mean over seeds, 95 % t-interval. From scratch less on frozen features: {'; '.join(said)}.",
    )


def draw_layers(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; a panel a tag."""
    shown = list(_tags(series))
    if not shown:
        return None
    with look():
        figure, (line,) = panels(len(shown), height=2.7)
        said = []
        for axes, (tag, rows) in zip(line, shown, strict=True):
            found = transfer.values(rows, "layer_loss")
            layers = np.arange(found.shape[1])
            half = seeds.half_width_drawn(found)
            axes.errorbar(layers, found.mean(0), half, color=PALETTE[0], marker="o", markersize=4.5, capsize=2)
            _least(axes, rows)
            axes.set_xticks(layers)
            axes.set_title(tag)
            axes.set_xlabel("layer (0: words)")
            said.append(f"{tag}: {_estimate(rows, 'second_less_first_layer')}")
        line[0].set_ylabel("loss, nat a tag")
        handles = [Line2D([], [], color=PALETTE[0], marker="o", label="linear probe of one layer"), LEAST]
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return Drawing(
        figure,
        "Loss of a linear probe by layer",
        f"With the most labels; mean over seeds, 95 % t-interval. The second layer's loss less the first's: {'; '.join(said)}.",
    )


SECTION = ("transfer", "Transfer from a language model")
FIGURES = of_series({"transfer": draw_labels, "probes": draw_layers})
