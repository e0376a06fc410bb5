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
LEARNT = "probe=learning,task=recall,truncation=0,cell=lstm"


def table(series: pd.DataFrame) -> Table:
    """One row an initialisation of the LSTM; empty where none was measured.

    What is of gradients, at the hidden size that has most initialisations; the learnable lag of study `horizon`'s networks.
    """
    columns = (
        Column("LSTM initialised as"), Column("Rule"), Column("Steps to a thousandth", True), Column("Half-life", True),
        Column("Rate", True), Column("Never left the cell at lag 10", True), Column("Learnable lag L50", True),
    )  # fmt: skip
    faded, learnt = (quantities.select(series, of) for of in ("probe=attenuation,cell=lstm", LEARNT))
    if faded.empty and learnt.empty:
        return Table("audit", columns, ())
    hidden = 0
    if len(faded):
        hidden = int(faded.groupby("hidden_size")["init"].nunique().sort_values(kind="stable").index.to_numpy()[-1])
    found = []
    for init in (init for init in ORDER if init in {*faded.get("init", ()), *learnt.get("init", ())}):
        at = f"cell=lstm,init={init},hidden_size={hidden},steps<=1024"
        cells = [_cell(name, quantities.estimate(name, series, f"probe=attenuation,{at}")) for name in SHOWN]
        cells.append(_cell("hop_share_at_10", quantities.estimate("hop_share_at_10", series, f"probe=carousel,{at}")))
        cells.append(_cell("learnable_lag", quantities.estimate("learnable_lag", series, f"{LEARNT},init={init}")))
        rule = RULES.get(init, "as PyTorch, forget bias exactly this")
        found.append((Cell(inits.name(init)), Cell(rule), *cells))
    return Table("audit", columns, tuple(found))


def _cell(name: str, found: Estimate) -> Cell:
    return Cell(verdicts.spoken(name, found), found.beyond if found.value is None else found.value)
