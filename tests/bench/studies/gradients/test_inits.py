"""Each rule gives what its source says: variances, spectra, biases; and says no in full sentences."""

from __future__ import annotations

import numpy as np
import pytest

from bench.studies.gradients import inits
from impls import GRUSpec, LSTMSpec, RNNSpec, UnknownName
from impls.specs.recurrent import InvalidSpec

LSTM = LSTMSpec(32, 128)


def gates(array: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip("ifgo", np.split(array, 4), strict=True))


def test_the_default_rnns_spectral_radius_tends_to_0_577():
    radii = [max(abs(np.linalg.eigvals(inits.params(RNNSpec(8, 512), "pytorch", seed)["weight_hh_l0"]))) for seed in range(3)]
    assert np.mean(radii) == pytest.approx(1 / np.sqrt(3), rel=0.05)  # from above as H grows


def test_orthogonal_blocks_and_kerass_shared_one():
    for block in gates(inits.params(LSTM, "orthogonal", 0)["weight_hh_l0"]).values():
        assert block @ block.T == pytest.approx(np.eye(128), abs=1e-12)
    whole = inits.params(LSTM, "keras", 0)["weight_hh_l0"]
    assert whole.T @ whole == pytest.approx(np.eye(128), abs=1e-12)
    assert whole.var() == pytest.approx(1 / 512, rel=0.05)


@pytest.mark.parametrize(
    ("init", "forget", "variance_ih"),
    [
        ("keras", 1.0, 2 / (32 + 512)),
        ("flax", 0.0, 1 / 32),
        ("tensorflow1", 1.0, 2 / (32 + 128 + 512)),
        ("forget:3", 3.0, 1 / (3 * 128)),
    ],
)
def test_frameworks_differ_in_forget_bias_and_scale(init, forget, variance_ih):
    weights = inits.params(LSTM, init, 0)
    bias = gates(weights["bias_ih_l0"] + weights["bias_hh_l0"])["f"]
    assert bias == pytest.approx(np.full(128, forget))
    assert weights["weight_ih_l0"].var() == pytest.approx(variance_ih, rel=0.05)


def test_chrono_spreads_timescales_and_closes_input_gates():
    bias = gates(inits.params(LSTM, "chrono:784", 0)["bias_ih_l0"])
    assert np.array_equal(bias["f"], -bias["i"])
    assert 0 <= bias["f"].min() and bias["f"].max() <= np.log(783)


def test_jozefowicz_adds_one_and_touches_nothing_else():
    plain, raised = (inits.params(LSTM, init, 5) for init in ("pytorch", "jozefowicz"))
    changed = {name for name in plain if not np.array_equal(plain[name], raised[name])}
    assert changed == {"bias_ih_l0"}


@pytest.mark.parametrize("init", ["crono", "pytorch:2", "forget:three", ""])
def test_an_unknown_init_names_the_choices(init):
    with pytest.raises(UnknownName, match=r"no init .*choose from"):
        inits.params(LSTM, init, 0)


@pytest.mark.parametrize(("spec", "init"), [(GRUSpec(4, 4), "forget:1"), (LSTM, "irnn"), (RNNSpec(4, 4), "keras")])
def test_a_rule_that_means_nothing_for_a_cell_is_refused(spec, init):
    with pytest.raises(InvalidSpec, match="choose"):
        inits.params(spec, init, 0)


def test_chrono_needs_a_longest_time():
    with pytest.raises(InvalidSpec, match="above 2"):
        inits.params(LSTM, "chrono:2", 0)
