"""How every measured network's gradient fades, in numbers: what the figures of attenuation show, and the widths they do not."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from analysis.report import words
from analysis.report.tables import Cell, Column, Table
from analysis.statistics import quantities
from analysis.statistics.seeds import Estimate
from analysis.studies.gradients import inits

DECISIVE = 10.0  # of ΔBIC: "very strong" (Kass & Raftery 1995)
SHOWN = ("horizon", "half_life", "bic_for_exponential", "rate", "offset")
ORDER = {"rnn": 0, "gru": 1, "lstm": 2}
TEXT = (
    "Before training, a loss at the last step; means over seeds with 95 % intervals. ln A(k) ≈ offset + rate · k from lag 20 "
    "to 200. ΔBIC above 10: an exponential of lag; below −10: a power of it."
)


def table(series: pd.DataFrame) -> Table:
    """One row for each cell, initialisation, hidden size and length; empty where none was measured."""
    columns = (
        Column("Network"), Column("Initialised as"), Column("H", True), Column("T", True, "steps"), Column("Seeds", True),
        Column("Until a thousandth", True, "steps"), Column("Half-life", True, "steps"), Column("ΔBIC", True), Column("Law"),
        Column("Rate", True, "nat/step"), Column("Offset", True, "nat"), Column("Notes"),
    )  # fmt: skip
    rows = series[series["probe"] == "attenuation"] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return Table("fading", columns, ())
    found = []
    for (cell, init, hidden, steps), own in rows.groupby(["cell", "init", "hidden_size", "steps"], sort=False):
        estimates = {name: quantities.QUANTITIES[name](own) for name in SHOWN}
        faded, halved, bic, rate, offset = (_cell(name, of) for name, of in estimates.items())
        sizes = [Cell(f"{number:g}", float(number)) for number in (float(str(hidden)), float(str(steps)))]
        seeds = Cell(f"{own['seeds'].iloc[0]:g}") if "seeds" in own else Cell(words.NOT_MEASURED)
        law = Cell(_law(estimates["bic_for_exponential"]))
        notes = Cell("; ".join(dict.fromkeys(of.why for of in estimates.values() if of.why)))
        names = Cell(str(cell).upper()), Cell(inits.name(str(init)))
        order = ORDER.get(str(cell), len(ORDER)), float(str(hidden)), float(str(steps)), inits.place(str(init))
        found.append((order, (*names, *sizes, seeds, faded, halved, bic, law, rate, offset, notes)))
    return Table("fading", columns, tuple(row for _, row in sorted(found, key=lambda each: each[0])))


def _cell(name: str, of: Estimate) -> Cell:
    """What there is to know of it beside the number stands in the notes, and so does why there is none."""
    known = of.value is not None or of.beyond is not None
    text = quantities.spoken(name, replace(of, why=""), with_unit=False) if known else "–"
    return Cell(text, of.beyond if of.value is None else of.value)


def _law(bic: Estimate) -> str:
    low, high = bic.bounds or (0.0, 0.0)
    return "exponential" if low > DECISIVE else "power" if high < -DECISIVE else "undecided"
