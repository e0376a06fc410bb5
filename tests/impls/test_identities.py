"""Claim j: what descends from the LSTM is an LSTM with parts removed, to less than a millionth; and the board says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.statistics import quantities
from bench.harness.case import Case
from bench.studies.identities import CASES, CLAIMS, residuals
from impls import LSTMSpec


@pytest.mark.parametrize("name", residuals.IDENTITIES)
def test_it_holds_and_can_fail(name: str) -> None:
    case = Case(LSTMSpec(5, 8), 50, 3, factors=(("identity", name), ("seeds", 3)))
    found = {item.metric: item.samples for item in residuals.measure(case)}
    assert len(found["identity_error"]) == 3 and max(found["identity_error"]) < 1e-6
    assert min(found["identity_contrast"]) > 1e-2


@pytest.mark.parametrize(
    ("error", "contrast", "outcome"), [(1e-12, 0.5, "supported"), (1e-5, 0.5, "refuted"), (1e-12, 1e-3, "refuted")]
)
def test_the_claim_is_judged_by_both(error: float, contrast: float, outcome: str) -> None:
    own = {"study": "identities", "identity": "slstm", "steps": 200, "blocks": ()}
    made = pd.DataFrame([
        own | {"metric": "identity_error", "samples": np.array([1e-15, error])},
        own | {"metric": "identity_contrast", "samples": np.array([0.9, contrast])},
    ])  # fmt: skip
    claim = next(claim for claim in CLAIMS if claim.name == "j-slstm")
    assert quantities.judge(claim, made).findings[0].outcome == outcome


def test_each_is_on_the_board() -> None:
    assert {str(case.factor("identity")) for case in CASES["cpu"]} == set(residuals.IDENTITIES)
    assert len(CLAIMS) == len(residuals.IDENTITIES) and all(claim.name.startswith("j-") for claim in CLAIMS)
