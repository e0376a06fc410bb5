"""The board in a terminal says what is censored: brackets are intervals there, not styles."""

from __future__ import annotations

import numpy as np

from bench.harness import study
from lstm_bench.views import tables
from results.record import Header
from results.store import Writer, new_path
from tests.analysis.learning_synthetic import record


def test_a_censored_lag_keeps_its_lower_bound(tmp_path, capsys):
    header = Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", {}, {}, claims=study.get("horizon").claims)
    path = new_path(tmp_path, header)
    writer = Writer(path)
    writer.append(header, record("lstm", "chrono:784", [np.ones(5)] * 11, 9000.0))
    writer.close()
    tables.claims([path], None, as_json=False)
    assert "LSTM chrono: memory span (L50) > 160 steps [above 15" in capsys.readouterr().out
