"""The init audit: the same LSTM as each framework initialises it, and how far its gradient reaches."""

from __future__ import annotations

import pandas as pd

from analysis import quantities, verdicts
from analysis.figures import inits
from analysis.seeds import Estimate
from analysis.tables import Cell, Column, Table

ORDER = ("pytorch", "jozefowicz", "keras", "tensorflow1", "flax", "forget:1", "forget:2", "forget:3", "forget:5", "chrono:784")
RULES = {
    "pytorch": "all weights and both biases U(±1/√H)",
    "jozefowicz": "as PyTorch, forget bias + 1",
    "keras": "inputs Glorot, one orthogonal matrix for all gates, forget bias 1",
    "tensorflow1": "one Glorot kernel for inputs and state, forget bias 1",
    "flax": "inputs LeCun, an orthogonal matrix a gate, no forget bias",
    "chrono:784": "forget bias ln U(1, 783), input bias its negative",
}
SHOWN = ("horizon", "half_life", "rate")


def table(series: pd.DataFrame) -> Table:
    """One row an initialisation of the LSTM, at the hidden size that has most of them; empty where none was measured."""
    columns = (
        Column("LSTM initialised as"), Column("Rule"), Column("Steps to a thousandth", True), Column("Half-life", True),
        Column("Rate", True), Column("Never left the cell at lag 10", True),
    )  # fmt: skip
    rows = quantities.select(series, "probe=attenuation,cell=lstm")
    if rows.empty:
        return Table("audit", columns, ())
    hidden = int(rows.groupby("hidden_size")["init"].nunique().sort_values(kind="stable").index.to_numpy()[-1])
    found = []
    for init in (init for init in ORDER if (rows["init"] == init).any()):
        at = f"cell=lstm,init={init},hidden_size={hidden},steps<=1024"
        cells = [_cell(name, quantities.estimate(name, series, f"probe=attenuation,{at}")) for name in SHOWN]
        cells.append(_cell("hop_share_at_10", quantities.estimate("hop_share_at_10", series, f"probe=carousel,{at}")))
        rule = RULES.get(init, "as PyTorch, forget bias exactly this")
        found.append((Cell(inits.name(init)), Cell(rule), *cells))
    return Table("audit", columns, tuple(found))


def _cell(name: str, found: Estimate) -> Cell:
    return Cell(verdicts.spoken(name, found), found.beyond if found.value is None else found.value)
