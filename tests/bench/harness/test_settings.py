"""No rule asks for what its study does not measure: every setting of every claim picks a case at the scale it is for."""

from __future__ import annotations

import pandas as pd
import pytest

import impls
from analysis.statistics import quantities
from bench.harness import study

STUDIES = ("gradients", "horizon", "cost")
SETTINGS = [(name, claim, *each) for name in STUDIES for claim in study.get(name).claims for each in claim.settings]


def measured(name: str, scale: str) -> pd.DataFrame:
    """A row for each record that a run of the scale would have, were every backend there."""
    chosen = study.get(name)
    on = chosen.select_backends or (lambda _, backends: tuple(backends))
    backends = [each for each in impls.names() if each != "null"]
    rows = [
        {"study": name, "backend": backend}
        | case.to_dict()
        | {f"count_{count}": value for count, value in case.counts().items()}
        for case in chosen.cases[scale]
        for backend in on(case, backends)
    ]
    return pd.DataFrame(rows)


def scales(selection: str) -> list[str]:
    """A setting that names a device is for that device's scale, another for both."""
    parts = selection.split(",")
    return [
        scale
        for scale, device in (("cpu", "cpu"), ("gpu", "cuda"))
        if not any(p.startswith("device=") and p != f"device={device}" for p in parts)
    ]


FRAMES = {(name, scale): measured(name, scale) for name in STUDIES for scale in ("cpu", "gpu")}


@pytest.mark.parametrize(("name", "claim", "label", "selection"), SETTINGS, ids=[f"{s[1].name}: {s[2]}" for s in SETTINGS])
def test_every_setting_picks_a_case_at_the_scale_it_is_for(name, claim, label, selection):
    assert scales(selection)
    for scale in scales(selection):
        picked = quantities.select(FRAMES[name, scale], selection)
        assert len(picked), f"{selection} picks nothing at {scale}"
        for part in selection.split(","):
            if part.startswith("backend="):
                assert set(part.removeprefix("backend=").split("|")) == set(picked["backend"])
        over_rnn = {each.quantity for each in claim.tests} & {"time_over_rnn", "flops_over_rnn", "parameters_over_rnn"}
        if over_rnn:
            assert {"lstm", "rnn"} <= set(picked["cell"])


def test_what_a_gpu_measures_is_not_judged_as_a_cpus():
    for claim in study.get("cost").claims:
        if {test.quantity for test in claim.tests} == {"time_over_rnn"}:
            devices = {part for _, selection in claim.settings for part in selection.split(",") if part.startswith("device=")}
            assert devices in ({"device=cpu"}, {"device=cuda"})


def test_alternatives_are_read_and_need_an_equals_sign():
    frame = pd.DataFrame({"backend": ["reference", "torch", "jax"], "steps": [1, 2, 3]})
    assert list(quantities.select(frame, "backend=reference|jax")["steps"]) == [1, 3]
    with pytest.raises(quantities.AnalysisError, match="alternatives need an equals sign; got 'backend!=torch"):
        quantities.select(frame, "backend!=torch|jax")
