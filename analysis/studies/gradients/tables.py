"""The measured tables of docs/studies/gradients.md."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

from analysis.statistics import quantities, seeds
from analysis.statistics.seeds import Estimate, missing
from analysis.studies.gradients import statistics as gradients_statistics
from analysis.studies.gradients.statistics import zero_lag
from analysis.studies.pages import Measured, estimated, markdown_table

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
        return quantities.NOT_MEASURED if found is None else what(found)

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
            return quantities.NOT_MEASURED
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
    return _first(f"hop_share_{lag}", f"probe=carousel,cell=lstm,init={init},hidden_size=64")


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
        looks = sorted({int(name.rpartition("_")[2]) for name in own["metric"] if name.startswith("log_gradient_after_")})
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
        found = gradients_statistics.curve(quantities.select(series, selection), f"log_gradient_after_{updates}")
        return quantities.NOT_MEASURED if found is None else gradients_statistics.horizon(found)

    return measured


def agreement(series: pd.DataFrame) -> str:
    """The largest differences from the float64 sweep, by backend; one that did not run has none."""
    rows = quantities.select(series, "probe=inputs,dtype=float32,cell=lstm")
    backends = sorted(set(rows["backend"]) - {quantities.REFERENCE})
    found = []
    for backend in backends:
        own = rows[rows["backend"].isin([quantities.REFERENCE, backend])]
        said = [
            quantities.spoken("", quantities.QUANTITIES[name](own)) for name in ("input_disagreement", "state_disagreement")
        ]
        found.append(f"| {backend} | {' | '.join(said)} |")
    return "\n".join(["| backend | ln‖dL/dx‖ | ln‖dL/dh‖, ln‖dL/dc‖ |", "| --- | --- | --- |", *found])


TABLES = {"rnn": rnn, "lstm": lstm, "precision": precision, "controls": controls, "training": training, "agreement": agreement}
