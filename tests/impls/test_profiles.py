"""Profiler passes kept within a run: made once for a backend and case, read by later processes, and nothing else is."""

from __future__ import annotations

import torch

from bench.harness.case import Case
from bench.worker import agreement, prepare
from impls import LSTMSpec, frameworks
from impls.frameworks.torch import graph

CASE = Case(LSTMSpec(4, 5), 6, 2)


def test_a_profiler_pass_is_made_once_in_a_run(tmp_path):
    made = []

    def look() -> list[str]:
        made.append("pass")
        return [f"kernel {len(made)}"]

    def twice(folder: str | None, name: str) -> list[list[str]]:
        with frameworks.kept_profiles(folder, name):
            return [frameworks.profiled_names(look), frameworks.profiled_names(look)]

    first = twice(str(tmp_path), "torch a")
    assert twice(str(tmp_path), "torch a") == first == [["kernel 1"], ["kernel 2"]]
    assert len(made) == 2
    assert twice(str(tmp_path), "torch b") == [["kernel 3"], ["kernel 4"]], "another case"
    assert twice(None, "torch a") == [["kernel 5"], ["kernel 6"]], "outside of a run"


def test_a_look_that_failed_keeps_nothing(tmp_path):
    try:
        with frameworks.kept_profiles(str(tmp_path), "torch a"):
            frameworks.profiled_names(lambda: ["half"])
            raise RuntimeError("the second pass failed")
    except RuntimeError:
        pass
    with frameworks.kept_profiles(str(tmp_path), "torch a"):
        assert frameworks.profiled_names(lambda: ["whole"]) == ["whole"]


def test_a_second_worker_reads_what_ran_from_the_first_ones_pass(tmp_path, monkeypatch):
    monkeypatch.setenv(agreement.REFERENCES, str(tmp_path))
    first = prepare.prepare(CASE, "torch").provenance
    monkeypatch.setattr(graph, "_seen", lambda call, device: ["aten::_cudnn_rnn"])
    assert prepare.prepare(CASE, "torch").provenance == first
    monkeypatch.delenv(agreement.REFERENCES)
    try:
        prepare.prepare(CASE, "torch")
    except prepare.Rejected as reason:
        assert "torch fell back: 'cudnn' ran" in str(reason)
    else:
        raise AssertionError("without the pass that is kept, the other kernel is seen")
    assert torch.backends.cudnn.enabled
