"""The init audit: the same LSTM as each framework initialises it, and how far its gradient reaches."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from analysis.report.load import Section, identity, weight
from analysis.report.tables import Cell, Column, Table
from analysis.statistics import quantities
from analysis.statistics.seeds import Estimate
from analysis.studies.gradients import inits

# Rule, and the documentation or paper that states it; as `bench.studies.gradients.inits` reimplements them.
EXACTLY = ("as PyTorch, forget bias exactly this", "Gers, Schmidhuber & Cummins 2000: a positive one")
RULES = {
    "pytorch": ("all weights and both biases U(±1/√H)", "PyTorch, torch.nn.LSTM, Variables"),
    "jozefowicz": ("as PyTorch, forget bias + 1", "Jozefowicz, Zaremba & Sutskever 2015"),
    "keras": (
        "inputs Glorot uniform, one orthogonal matrix for all gates, forget bias 1",
        "Keras, layers.LSTM: glorot_uniform, orthogonal, unit_forget_bias=True",
    ),
    "tensorflow1": (
        "one Glorot uniform kernel for inputs and state, forget bias 1",
        "TensorFlow 1.15, nn.rnn_cell.BasicLSTMCell: forget_bias=1.0",
    ),
    "flax": (
        "inputs LeCun normal, an orthogonal matrix a gate, no forget bias",
        "Flax, linen.LSTMCell: lecun_normal, orthogonal, zeros",
    ),
    "forget:0": (EXACTLY[0], "none: to compare with"),
    "forget:1": EXACTLY, "forget:2": EXACTLY, "forget:3": EXACTLY, "forget:5": EXACTLY,
    "orthogonal": ("as PyTorch, recurrent matrices orthogonal gate by gate, no bias", "Saxe, McClelland & Ganguli 2014"),
    "gaussian:1.5": ("as PyTorch, recurrent weights N(0, 1.5²/H)", "Sompolinsky, Crisanti & Sommers 1988, for an RNN"),
    "chrono:784": ("forget bias ln U(1, 783), input bias its negative", "Tallec & Ollivier 2018, equation 16"),
}  # fmt: skip
DECAY_THRESHOLD, CAROUSEL = "probe=attenuation,cell=lstm,steps<=1024", "probe=carousel,cell=lstm"
LEARNT = "probe=learning,task=recall,truncation=0,cell=lstm"


def of_machine(sections: Sequence[Section]) -> Table:
    """Gradients and learning side by side, each from the newest run that has it, no smoke run where there is another."""
    runs = [run for section in sections for run in section.runs]
    newest_first = sorted(runs, key=lambda run: (weight(run.header), run.header.started), reverse=True)
    parts = []
    for selection in (DECAY_THRESHOLD, CAROUSEL, LEARNT):
        rows = [quantities.select(section.series, selection) for section in sections if "probe" in section.series]
        keys = [identity(run.header) for run in newest_first]
        named = [key for key in keys if any((part["run_key"] == key).any() for part in rows)]
        parts += [part[part["run_key"] == named[0]] for part in rows] if named else []
    return table(pd.concat(parts)) if parts else Table("audit", (), ())


def table(series: pd.DataFrame) -> Table:
    """One row an initialisation of the LSTM; empty where none was measured.

    Each number at the hidden size at which most initialisations were measured; its column says which.
    """
    widths = {of: _usual_width(quantities.select(series, of)) for of in (DECAY_THRESHOLD, CAROUSEL, LEARNT)}
    known = {init for of in (DECAY_THRESHOLD, LEARNT) for init in quantities.select(series, of).get("init", ())}
    faded, carousel, learnt = (f"H = {width}" if width else "" for width in widths.values())
    faded_steps, learnt_steps = (f"steps, {hint}" if hint else "" for hint in (faded, learnt))
    columns = (
        Column("LSTM initialised as"), Column("Rule"), Column("As stated by"), Column("Until a thousandth", True, faded_steps),
        Column("L50", True, learnt_steps), Column("Half-life", True, faded_steps),
        Column("Still in the cell", True, f"share at lag 10, {carousel}" if carousel else ""),
    )  # fmt: skip
    found = []
    for init in (init for init in RULES if init in known):
        at = {of: f"{of},init={init},hidden_size={width}" for of, width in widths.items()}
        horizon, half_life = (
            _cell(name, quantities.estimate(name, series, at[DECAY_THRESHOLD])) for name in ("horizon", "half_life")
        )
        lag = _cell("learnable_lag", quantities.estimate("learnable_lag", series, at[LEARNT]))
        stayed = _cell("hop_share_at_10", quantities.estimate("hop_share_at_10", series, at[CAROUSEL]))
        rule, source = RULES[init]
        found.append((Cell(inits.name(init)), Cell(rule), Cell(source), horizon, lag, half_life, stayed))
    return Table("audit", columns, tuple(found))


def _usual_width(rows: pd.DataFrame) -> int:
    """0 where nothing was measured."""
    return int(rows.groupby("hidden_size")["init"].nunique().sort_values(kind="stable").index[-1]) if len(rows) else 0


def _cell(name: str, found: Estimate) -> Cell:
    """The column has the unit."""
    return Cell(quantities.spoken(name, found, with_unit=False), found.beyond if found.value is None else found.value)
