"""Tables of the gradients study: of the report, and the measured ones of docs/studies/gradients.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from analysis.report import drawing, words
from analysis.report.load import Section, identity, weight
from analysis.report.tables import Cell, Column, Table
from analysis.statistics import quantities, seeds
from analysis.statistics.seeds import NOT_MEASURED, Estimate, missing
from analysis.studies import gradients as gradients_statistics
from analysis.studies.gradients import zero_lag
from analysis.studies.pages import Measured, estimated, markdown_table
from results.metrics import HOP_SHARE, LOG_GRADIENT_AFTER

# The decay of every measured network's gradient, in numbers, with the widths that the figures leave out.

DECISIVE = 10.0  # of ΔBIC: "very strong" (Kass & Raftery 1995)
SHOWN = ("horizon", "half_life", "bic_for_exponential", "rate", "offset")
ORDER = {"rnn": 0, "gru": 1, "lstm": 2}
TEXT = (
    "Before training, a loss at the last step; means over seeds with 95 % intervals. ln A(k) ≈ offset + rate · k from lag 20 "
    "to 200. ΔBIC above 10: an exponential of lag; below −10: a power of it."
)


def decay_table(series: pd.DataFrame) -> Table:
    """One row for each cell, initialisation, hidden size and length; empty where none was measured."""
    columns = (
        Column("Network"), Column("Initialisation"), Column("H", True), Column("T", True, "steps"), Column("Seeds", True),
        Column("Decay length (10⁻³)", True, "steps"), Column("Half-life", True, "steps"), Column("ΔBIC", True), Column("Law"),
        Column("Rate", True, "nat/step"), Column("Offset", True, "nat"), Column("Notes"),
    )  # fmt: skip
    rows = series[series["probe"] == "attenuation"] if "probe" in series else series.iloc[:0]
    if rows.empty:
        return Table("fading", columns, ())
    found = []
    for (cell, init, hidden, steps), own in rows.groupby(["cell", "init", "hidden_size", "steps"], sort=False):
        estimates = {name: quantities.named(name).estimate(own) for name in SHOWN}
        faded, halved, bic, rate, offset = (_decay_cell(name, of) for name, of in estimates.items())
        sizes = [Cell(f"{number:g}", float(number)) for number in (float(str(hidden)), float(str(steps)))]
        seeds = Cell(f"{own['seeds'].iloc[0]:g}") if "seeds" in own else Cell(words.NOT_MEASURED)
        law = Cell(_law(estimates["bic_for_exponential"]))
        notes = Cell("; ".join(dict.fromkeys(of.why for of in estimates.values() if of.why)))
        names = Cell(str(cell).upper()), Cell(drawing.init_name(str(init)))
        order = ORDER.get(str(cell), len(ORDER)), float(str(hidden)), float(str(steps)), drawing.init_order(str(init))
        found.append((order, (*names, *sizes, seeds, faded, halved, bic, law, rate, offset, notes)))
    return Table("fading", columns, tuple(row for _, row in sorted(found, key=lambda each: each[0])))


def _decay_cell(name: str, of: Estimate) -> Cell:
    """What there is to know of it beside the number stands in the notes, and so does why there is none."""
    known = of.value is not None or of.beyond is not None
    text = quantities.named(name).format(replace(of, why=""), with_unit=False) if known else "–"
    return Cell(text, of.beyond if of.value is None else of.value)


def _law(bic: Estimate) -> str:
    low, high = bic.bounds or (0.0, 0.0)
    return "exponential" if low > DECISIVE else "power" if high < -DECISIVE else "inconclusive"


# LSTM initialisations of frameworks and papers, with the decay length and memory span of each.

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
ATTENUATION, CAROUSEL = "probe=attenuation,cell=lstm,steps<=1024", "probe=carousel,cell=lstm"
LEARNT = "probe=learning,task=recall,truncation=0,cell=lstm"


def of_machine(sections: Sequence[Section]) -> Table:
    """Gradients and learning side by side, each from the newest run that has it, no smoke run where there is another."""
    runs = [run for section in sections for run in section.runs]
    newest_first = sorted(runs, key=lambda run: (weight(run.header), run.header.started), reverse=True)
    parts = []
    for selection in (ATTENUATION, CAROUSEL, LEARNT):
        rows = [quantities.select(section.series, selection) for section in sections if "probe" in section.series]
        keys = [identity(run.header) for run in newest_first]
        named = [key for key in keys if any((part["run_key"] == key).any() for part in rows)]
        parts += [part[part["run_key"] == named[0]] for part in rows] if named else []
    return audit_table(pd.concat(parts)) if parts else Table("audit", (), ())


def audit_table(series: pd.DataFrame) -> Table:
    """One row an initialisation of the LSTM; empty where none was measured.

    Each number at the hidden size at which most initialisations were measured; its column says which.
    """
    widths = {of: _usual_width(quantities.select(series, of)) for of in (ATTENUATION, CAROUSEL, LEARNT)}
    known = {init for of in (ATTENUATION, LEARNT) for init in quantities.select(series, of).get("init", ())}
    faded, carousel, learnt = (f"H = {width}" if width else "" for width in widths.values())
    faded_steps, learnt_steps = (f"steps, {hint}" if hint else "" for hint in (faded, learnt))
    columns = (
        Column("Initialisation"), Column("Rule"), Column("Source"), Column("Decay length (10⁻³)", True, faded_steps),
        Column("Memory span (L50)", True, learnt_steps), Column("Half-life", True, faded_steps),
        Column("Stays in the cell", True, f"share at lag 10, {carousel}" if carousel else ""),
    )  # fmt: skip
    found = []
    for init in (init for init in RULES if init in known):
        at = {of: f"{of},init={init},hidden_size={width}" for of, width in widths.items()}
        horizon, half_life = (
            _audit_cell(name, quantities.estimate(name, series, at[ATTENUATION])) for name in ("horizon", "half_life")
        )
        lag = _audit_cell("learnable_lag", quantities.estimate("learnable_lag", series, at[LEARNT]))
        stayed = _audit_cell("hop_share_at_10", quantities.estimate("hop_share_at_10", series, at[CAROUSEL]))
        rule, source = RULES[init]
        found.append((Cell(drawing.init_name(init)), Cell(rule), Cell(source), horizon, lag, half_life, stayed))
    return Table("audit", columns, tuple(found))


def _usual_width(rows: pd.DataFrame) -> int:
    """0 where nothing was measured."""
    return int(rows.groupby("hidden_size")["init"].nunique().sort_values(kind="stable").index[-1]) if len(rows) else 0


def _audit_cell(name: str, found: Estimate) -> Cell:
    """The column has the unit."""
    return Cell(quantities.named(name).format(found, with_unit=False), found.beyond if found.value is None else found.value)


# The measured tables of docs/studies/gradients.md.

RNNS = {"as PyTorch": "pytorch", "orthogonal": "orthogonal", "IRNN": "irnn", "Gaussian, gain 1.5": "gaussian:1.5"}
LSTMS = {"as PyTorch": "pytorch", "bias 1": "forget:1", "bias 3": "forget:3", "bias 5": "forget:5", "chrono": "chrono:784"}
TRAINED = {"RNN as PyTorch": ("rnn", "pytorch"), "LSTM as PyTorch": ("lstm", "pytorch"), "LSTM bias 3": ("lstm", "forget:3")}
SHARE_RIGHT = 0.97  # as study `horizon` calls a lag learnt


def _wide(cell: str, init: str) -> str:
    """IRNN was measured at H = 64 alone, where its width plays no part: its recurrent weight is the identity."""
    size = 64 if init == "irnn" else 256
    return f"probe=attenuation,cell={cell},init={init},hidden_size={size},steps<=1024"


def _of_curve(selection: str, what: Callable[[gradients_statistics.Curve], Estimate], metric: str = "log_gradient") -> Measured:
    def measured(series: pd.DataFrame) -> Estimate:
        found = gradients_statistics.curve(quantities.select(series, selection), metric, relative=metric == "log_gradient")
        return NOT_MEASURED if found is None else what(found)

    return measured


def _at(lag: int, of_curve: gradients_statistics.Curve) -> Estimate:
    values = of_curve.at(lag)
    return missing(f"fewer than {lag} steps") if values is None else seeds.mean(values)


def _direct_share(selection: str, lag: int) -> Measured:
    """log10 of the size of ∏f ⊙ dL/dc_T over that of dL/dc, mean over seeds."""

    def measured(series: pd.DataFrame) -> Estimate:
        rows = quantities.select(series, selection)
        own, full = (gradients_statistics.curve(rows, name, relative=False) for name in ("log_cell_only", "log_cell"))
        at = [None if each is None else each.at(lag) for each in (own, full)]
        if at[0] is None or at[1] is None:
            return NOT_MEASURED
        return seeds.mean((at[0] - at[1]) / np.log(10))

    return measured


def _first(metric: str, selection: str) -> Measured:
    return lambda series: seeds.first(quantities.select(series, selection), metric)


def rnn(series: pd.DataFrame) -> str:
    """H = 256."""
    return markdown_table(
        series,
        ["vanilla RNN", *RNNS],
        [
            ("decay length (10⁻³), steps", [estimated("horizon", _wide("rnn", init)) for init in RNNS.values()]),
            ("at H = 64", [estimated("horizon", _wide("rnn", init).replace("256", "64")) for init in RNNS.values()]),
            ("rate, nat/step", [estimated("rate", _wide("rnn", init)) for init in RNNS.values()]),
        ],
    )


def lstm(series: pd.DataFrame) -> str:
    """H = 256; what is below the shares of paths through h: H = 64."""

    def each(make: Callable[[str], Measured]) -> list[Measured]:
        return [make(init) for init in LSTMS.values()]

    rows = [
        ("decay length (10⁻³), steps", each(lambda init: estimated("horizon", _wide("lstm", init)))),
        ("decay length (10⁻¹), steps", each(
            lambda init: _of_curve(_wide("lstm", init), partial(gradients_statistics.horizon, threshold=0.1))
        )),
        ("rate, nat/step", each(lambda init: estimated("rate", _wide("lstm", init)))),
    ]  # fmt: skip
    for lag in (10, 50, 200):
        rows.append((f"lg ‖∏f⊙g‖/‖g‖, lag {lag}", each(lambda init, lag=lag: _direct_share(_wide("lstm", init), lag))))
    rows.append(("cosine of the two, lag 50", each(
        lambda init: _of_curve(_wide("lstm", init), partial(_at, 50), "cell_cosine")
    )))  # fmt: skip
    for lag in (10, 25):
        rows.append((f"never left the cell, lag {lag}", each(lambda init, lag=lag: _share_of(init, lag))))
    for label, metric in (("λ₁, nat/step", "lyapunov"), ("λ₁ of the h block alone", "lyapunov_hidden_block")):
        rows.append((label, each(lambda init, metric=metric: _exponent_of(init, metric))))
    return markdown_table(series, ["LSTM", *LSTMS], rows)


def _share_of(init: str, lag: int) -> Measured:
    return _first(HOP_SHARE.name(lag), f"probe=carousel,cell=lstm,init={init},hidden_size=64")


def _exponent_of(init: str, metric: str) -> Measured:
    return _first(metric, f"probe=lyapunov,cell=lstm,init={init},hidden_size=64")


def precision(series: pd.DataFrame) -> str:
    """From which lag on the gradient is denormal, and exactly zero, as it is and with the loss times 2¹⁶."""
    networks = {
        "RNN as PyTorch": ("rnn", "pytorch"),
        "LSTM as PyTorch": ("lstm", "pytorch"),
        "LSTM bias 1": ("lstm", "forget:1"),
    }
    rows = []
    for label, (cell, init) in networks.items():
        for dtype in ("float16", "bfloat16", "float32"):
            at = f"probe=precision,cell={cell},init={init},dtype={dtype}"
            rows.append((f"{label}, {dtype}", [estimated("denormal_lag", at), estimated("zero_lag", at), _scaled(at)]))
    return markdown_table(series, ["network", "denormal from lag", "zero from lag", "zero, loss times 2¹⁶"], rows)


def _scaled(selection: str) -> Measured:
    return lambda series: zero_lag(quantities.select(series, selection), "log_largest_scaled")


def controls(series: pd.DataFrame) -> str:
    networks = {
        "residual, normed": "residual_normed", "residual": "residual", "shortcut times 0.9": "residual_0.9",
        "shortcut halved": "residual_halved", "no shortcut": "plain",
    }  # fmt: skip
    rows: list[tuple[str, list[Measured | None]]] = [
        (
            label,
            [
                estimated(name, f"probe=controls,network={network}")
                for name in ("passed_over_100", "rate", "rate_over_shortcut")
            ],
        )
        for label, network in networks.items()
    ]
    rows.append(
        ("Transformer, by position", [estimated("input_passed_over_100", "probe=controls,network=transformer"), None, None])
    )
    return markdown_table(series, ["network", "A(100)/A(1)", "rate, nat/layer", "rate less ln s"], rows)


def training(series: pd.DataFrame) -> str:
    rows, learnt = [], []
    for label, (cell, init) in TRAINED.items():
        at = f"probe=training,cell={cell},init={init}"
        own = quantities.select(series, at)
        looks = gradients_statistics.numbers_of(own, LOG_GRADIENT_AFTER)
        line = [_horizon_after(at, looks[0]), _horizon_after(at, looks[-1])] if looks else [None, None]
        rows.append((label, line))
        learnt.append(_learnt(own))
    lines = markdown_table(series, ["network", "decay length (10⁻³) before", "after"], rows).split("\n")
    ends = ["right at the trained lag (97 %)", "---", *learnt]
    return "\n".join(f"{line} {end} |" for line, end in zip(lines, ends, strict=True))


def _learnt(rows: pd.DataFrame) -> str:
    found = seeds.metric(rows, "accuracy")
    return f"{sum(float(own[0]) >= SHARE_RIGHT for own in found)} of {len(found)} seeds" if found else "not measured"


def _horizon_after(selection: str, updates: int) -> Measured:
    def measured(series: pd.DataFrame) -> Estimate:
        found = gradients_statistics.curve(quantities.select(series, selection), LOG_GRADIENT_AFTER.name(updates))
        return NOT_MEASURED if found is None else gradients_statistics.horizon(found)

    return measured


def agreement(series: pd.DataFrame) -> str:
    """The largest differences from the float64 sweep, by backend; one that did not run has none."""
    rows = quantities.select(series, "probe=inputs,dtype=float32,cell=lstm")
    backends = sorted(set(rows["backend"]) - {quantities.REFERENCE})
    found = []
    for backend in backends:
        own = rows[rows["backend"].isin([quantities.REFERENCE, backend])]
        said = [
            words.format_estimate(quantities.named(name).estimate(own)) for name in ("input_disagreement", "state_disagreement")
        ]
        found.append(f"| {backend} | {' | '.join(said)} |")
    return "\n".join(["| backend | ln‖dL/dx‖ | ln‖dL/dh‖, ln‖dL/dc‖ |", "| --- | --- | --- |", *found])


TABLES = {"rnn": rnn, "lstm": lstm, "precision": precision, "controls": controls, "training": training, "agreement": agreement}
