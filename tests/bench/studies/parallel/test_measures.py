"""What the study `parallel` records: rounds with their counts, errors against stepping, and seconds of three ways."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from analysis.statistics import quantities
from bench.harness import plan
from bench.harness.case import Case
from bench.studies.parallel import CASES, CLAIMS, KINDS, STUDY, counts, measure, measures, newton
from bench.worker import prepare
from results.record import Measurement


def smoke(probe: str, kind: str, **factors: object) -> Case:
    case = next(
        case for case in CASES["smoke"]
        if case.factor("probe") == probe and (case.factor("weights"), case.factor("jacobian")) == KINDS[kind]
    )  # fmt: skip
    return replace(case, factors=tuple((dict(case.factors) | factors).items()))  # type: ignore[arg-type]


def measured(case: Case) -> dict[str, Measurement]:
    return {each.metric: each for each in measure("reference", case)}


@pytest.mark.parametrize("kind", KINDS)
def test_rounds_are_recorded_with_what_they_cost(kind: str) -> None:
    case = smoke("rounds", kind)
    found = measured(case)
    assert next(iter(found)) == "rounds" and max(found["difference"].samples) < 1e-10 and not found["rounds"].notes
    stepped = counts.stepped(4, 16, kind == "diagonal")
    for seed, rounds in enumerate(found["rounds"].samples):
        spent = counts.newton(4, 16, int(rounds), kind == "diagonal", KINDS[kind][1])
        assert found["work_ratio"].samples[seed] == spent.work / stepped.work
        assert found["newton_path"].samples[seed] == spent.path
        assert found["path_ratio"].samples[seed] == stepped.path / spent.path
        assert found["memory_ratio"].samples[seed] == spent.values / stepped.values
    shorter = min(found["path_ratio"].samples) > 1
    assert ("processors" in found) == shorter


def test_what_did_not_converge_is_noted_and_stands_at_the_limit() -> None:
    found = measured(replace(smoke("rounds", "blocks", init="forget:5", gain=8.0), steps=400))
    assert (
        max(found["rounds"].samples) == newton.MOST_ROUNDS and "had not converged after 100 rounds" in found["rounds"].notes[0]
    )
    assert found["work_ratio"].notes == found["rounds"].notes and "processors" not in found


@pytest.mark.parametrize("kind", KINDS)
def test_states_and_gradients_agree_with_stepping(kind: str) -> None:
    found = measured(smoke("agreement", kind))
    assert max(found["state_error"].samples) < 1e-10 and max(found["state_error_float32"].samples) < 1e-4
    assert ("gradient_error" in found) == (kind in ("full", "diagonal"))
    if "gradient_error" in found:
        assert max(found["gradient_error"].samples) < 1e-10 and max(found["gradient_error_float32"].samples) < 1e-4


@pytest.mark.parametrize("phase", ["forward", "forward_backward"])
def test_seconds_of_all_ways_are_recorded(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measures.SEQUENTIAL, "cpu", ("cudnn", "torch"))
    found = measured(replace(smoke("time", "diagonal"), phase=phase))
    assert all(min(each.samples) > 0 and len(each.samples) == 3 for each in found.values())
    assert ("loop_time" in found) == (phase == "forward") and {"newton_time", "rounds"} <= found.keys()
    notes = found["sequential_time"].notes
    assert "cudnn was not tried" in notes[0] and notes[1].startswith("by torch; torch ")


def test_without_a_sequential_backend_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measures.SEQUENTIAL, "cpu", ("cudnn",))
    with pytest.raises(prepare.Skip, match="no sequential backend"):
        measured(smoke("time", "diagonal"))


def test_answers_that_differ_are_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measures.SEQUENTIAL, "cpu", ("torch",))
    solve = newton.solve

    def wrong(*given: object) -> newton.Solution:
        found = solve(*given)  # type: ignore[arg-type]
        return replace(found, states=found.states + 0.01)

    monkeypatch.setattr(newton, "solve", wrong)
    with pytest.raises(prepare.Rejected, match=r"differ from those of torch by 0\.01"):
        measured(smoke("time", "diagonal"))


def test_a_diagonal_network_is_the_one_that_backends_get() -> None:
    own = measures.network(smoke("time", "diagonal", gain=2.0), 1)
    blocks = np.split(own.params["weight_hh_l0"], 4)
    assert np.array_equal(np.concatenate([np.diag(block) for block in blocks]), own.recurrent.numpy())
    assert all(np.count_nonzero(block) == 4 for block in blocks) and 1 < own.recurrent.abs().max() < 2
    plain, doubled = (measures.network(smoke("rounds", "full", gain=gain), 1).recurrent for gain in (1.0, 2.0))
    assert torch.equal(2 * plain, doubled)


def test_what_is_timed_gets_all_processors() -> None:
    chosen = plan.make("parallel", scale="cpu")
    alone = {task.case.factor("probe") for task in chosen.standalone() if task.study.needs_all_processors(task.case)}
    assert alone == {"time"} and not any(STUDY.needs_all_processors(case) for case in CASES["cpu"][:9])


def test_claims_have_their_cases_and_forecasts_fit() -> None:
    assert STUDY.forecast is not None
    cases = [*CASES["cpu"], *CASES["gpu"]]
    for claim in CLAIMS:
        assert all(test.quantity in quantities.quantities() for test in claim.tests), claim.name
        for _, selection in claim.settings:
            named = [part.split("=", 1) for part in selection.split(",") if "<" not in part and "!" not in part]
            wanted = {name: value.split("|") for name, value in named if name != "study"}
            assert any(all(str(case.to_dict()[name]) in values for name, values in wanted.items()) for case in cases), selection
    seconds = {scale: [STUDY.forecast(case) or 0 for case in CASES[scale]] for scale in ("smoke", "cpu", "gpu")}
    assert sum(seconds["smoke"]) < 6 and sum(seconds["cpu"]) < 90 and 60 < sum(seconds["gpu"]) < 540
