"""Figures of study `agreement`: accuracy over distance and attractors, losses without single units, gates over a sentence."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.report.drawing import FAINT, INK, PALETTE, Drawing, blank, log_values, look, panels
from analysis.statistics import quantities, seeds
from analysis.studies import agreement, of_series
from analysis.studies.agreement import SETTINGS

COLUMNS = 2
LOOKS = {0: (PALETTE[1], "s"), 1: (PALETTE[2], "D"), 2: (PALETTE[5], "^"), 3: (PALETTE[0], "o")}  # by attractors
FEATURES = {"number": ("singular", "plural"), "gender": ("feminine", "masculine")}
FEATURE_LOOKS = ((PALETTE[1], "s"), (PALETTE[0], "o"))
GATES = (("i", "input gate"), ("f", "forget gate"), ("o", "output gate"), ("c", "cell"))
TRACED_FIRST = ("gender", "next_token")  # the setting that is shown where it was measured
ATTRACTOR, SUBJECT = 2, 3  # what `trace_word` calls them


def _settings(series: pd.DataFrame, metric: str) -> Iterator[tuple[str, tuple[str, str], pd.DataFrame]]:
    """Label, key and rows of each setting that measured a metric."""
    own = series[series["study"] == "agreement"]
    for key, label in SETTINGS.items():
        rows = own[(own["language"] == key[0]) & (own["objective"] == key[1])] if len(own) else own
        if len(rows) and (rows["metric"] == metric).any():
            yield label, key, rows


def _estimates(rows: pd.DataFrame, *names: str) -> list[str]:
    return [quantities.named(name).format(quantities.named(name).estimate(rows)) for name in names]


# Accuracy by distance, a line for each number of attractors, all of the other feature; while it is learnt and at the end.

STAGES = (("accuracy_by_distance_halfway", "halfway"), ("accuracy_by_distance", "at the end"))
ASKED = {"next_token": "language model", "form": "verb's form"}  # short enough for a title


def draw_agreement(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; a line of panels a setting."""
    shown = list(_settings(series, "accuracy_by_distance"))
    if not shown:
        return None
    with look():
        figure, grid = panels(len(STAGES), len(shown), height=2.2)
        said, counts = [], set[int]()
        for line, (label, (language, objective), rows) in zip(grid, shown, strict=True):
            for axes, (metric, stage) in zip(line, STAGES, strict=True):
                found = agreement.by_attractors(rows, metric)
                for count, (distances, values) in found.items():
                    _distances(axes, distances, values, count)
                counts |= found.keys()
                axes.set_title(f"{language}, {ASKED[objective]}: {stage}")
            line[0].set_ylabel("share of right forms")
            accuracy, best = _estimates(rows, "agreement_accuracy", "agreement_best")
            said.append(f"{label}: {accuracy} of sentences of the language, at best {best}")
        for axes in grid[-1]:
            axes.set_xlabel("words from subject to verb")
        handles = [
            Line2D([], [], color=LOOKS[count][0], marker=LOOKS[count][1], label=f"{count} attractors")
            for count in sorted(counts)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=4)
    return Drawing(
        figure,
        "Agreement vs distance and attractors",
        "Attractors all have the other feature; mean over seeds with its 95 % t-interval; 1 can be had in every case, dotted: "
        f"chance. At the end: {'; '.join(said)}.",
    )


def _distances(axes: Axes, distances: np.ndarray, values: np.ndarray, count: int) -> None:
    colour, marker = LOOKS[count]
    half = seeds.half_width_drawn(values)
    axes.errorbar(distances, values.mean(0), half, color=colour, marker=marker, markersize=4.5, capsize=2, elinewidth=1)
    axes.axhline(0.5, color=FAINT, lw=1, linestyle=(0, (1.2, 1.6)))
    axes.set_xscale("log")
    log_values(axes.xaxis, [1, 2, 3, 5, 10, 20, 40] if distances.max() > 20 else [1, 2, 3, 5, 10, 20])
    axes.set_ylim(-0.03, 1.04)


# What each network loses without one of its units.


def draw_units(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; a panel a setting, a column a network."""
    shown = [each for each in _settings(series, "unit_loss_far") if len(agreement.of_chosen(each[2], "near"))]
    if not shown:
        return None
    with look():
        figure, grid = panels(COLUMNS, -(-len(shown) // COLUMNS))
        spots = [axes for line in grid for axes in line]
        said = []
        for axes, (label, _, rows) in zip(spots, shown, strict=False):
            _units(axes, rows)
            axes.set_title(label)
            axes.set_xlabel("network")
            far, near, share = _estimates(rows, "unit_loss_far", "unit_loss_near", "networks_with_unit")
            said.append(f"{label}: far {far}, near {near}, share of networks beyond the null {share}")
        for line in grid:
            line[0].set_ylabel("accuracy lost")
        blank(spots[len(shown) :])
        handles = [
            Line2D([], [], color=PALETTE[0], marker="o", linestyle="", label="chosen unit, far, three attractors"),
            Line2D([], [], color=PALETTE[1], marker="s", linestyle="", label="the same unit, near"),
            Line2D([], [], color=FAINT, marker="D", linestyle="", label="largest of the others, far"),
            Line2D([], [], color=INK, marker="_", linestyle="", label="null, 5 %"),
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    return Drawing(
        figure,
        "Accuracy lost without one unit",
        "Each unit is held at its mean. The chosen one loses most on sentences other than those shown; null: the largest loss "
        f"over all units, were they interchangeable. Lost without the chosen unit: {'; '.join(said)}.",
    )


def _units(axes: Axes, rows: pd.DataFrame) -> None:
    others = agreement.losses(rows, "far").copy()
    np.put_along_axis(others, agreement.losses(rows, "choosing").argmax(1)[:, None], -np.inf, 1)
    places = np.arange(1, len(others) + 1)
    axes.plot(places, others.max(1), color=FAINT, marker="D", markersize=4, linestyle="")
    null, far, near = seeds.of_first(rows, "null_loss_far"), *(agreement.of_chosen(rows, name) for name in ("far", "near"))
    axes.plot(places, null, color=INK, marker="_", markersize=11, linestyle="")
    axes.plot(places, near, color=PALETTE[1], marker="s", markersize=4, linestyle="")
    axes.plot(places, far, color=PALETTE[0], marker="o", markersize=5, linestyle="")
    axes.set_xticks(places[:: max(1, len(places) // 5)])
    axes.set_ylim(-0.15, 1.05)


# The gates of one unit over sentences whose words stand in the same places.


def draw_gates(series: pd.DataFrame) -> Drawing | None:
    """series: rows of a section's `series`; a panel a gate, and one of the cell; of the first setting there is."""
    shown = sorted(_settings(series, "trace"), key=lambda each: each[1] != TRACED_FIRST)
    if not shown:
        return None
    label, (language, _), rows = shown[0]
    by_feature, words = seeds.together(seeds.metric(rows, "trace")), seeds.metric(rows, "trace_word")[0]
    seed, unit = (int(value) for value in seeds.metric(rows, "trace_seed_unit")[0])
    with look():
        figure, grid = panels(COLUMNS, 2, share_y=False)
        for place, (axes, (_, name)) in enumerate(zip((axes for line in grid for axes in line), GATES, strict=True)):
            for values, (colour, marker) in zip(by_feature, FEATURE_LOOKS, strict=True):
                own = values.reshape(len(GATES), -1)[place]
                axes.plot(range(1, len(own) + 1), own, color=colour, marker=marker, markersize=3.5)
            for kind, dash in ((SUBJECT, (0, ())), (ATTRACTOR, (0, (1.2, 1.6)))):
                for at in np.flatnonzero(words == kind):
                    axes.axvline(float(at) + 1, color=FAINT, lw=1, linestyle=dash)
            axes.set_title(name)
            if place < len(GATES) - 1:
                axes.set_ylim(-0.03, 1.04)
            axes.set_xticks(range(5, len(words) + 1, 5))
            axes.set_xlabel("word of the sentence")
        handles = [
            Line2D([], [], color=colour, marker=marker, label=f"{feature} subject")
            for feature, (colour, marker) in zip(FEATURES[language], FEATURE_LOOKS, strict=True)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=2)
    contrast, kept = _estimates(rows, "input_gate_contrast", "forget_gate_between")
    return Drawing(
        figure,
        "Gates of one unit over a sentence",
        f"Unit {unit + 1} of network {seed + 1}, the one that stores most ({label}); mean over sentences. Solid line: the "
        "subject, dotted: attractors of the other feature. Over networks with such a unit: input gate at the subject less at "
        f"attractors {contrast}, forget gate between subject and verb {kept}.",
    )


SECTION = ("agreement", "Agreement and single units")
FIGURES = of_series({"agreement": draw_agreement, "units": draw_units, "gates": draw_gates})
