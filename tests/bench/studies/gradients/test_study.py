"""The study goes through the usual run: the reference in a backend's place, rules in the header, nothing in `quick`."""

from __future__ import annotations

import pytest

from bench.harness import plan, session, study
from bench.harness.case import Case, InvalidCase
from bench.worker import prepare
from impls import LSTMSpec, UnknownName
from results import store


class Silent:
    """A listener that hears nothing."""

    def on_planned(self, study: str, records: int) -> None: ...
    def on_status(self, text: str) -> None: ...
    def on_records(self, records: object) -> None: ...


def test_a_run_measures_by_reference_and_stores_its_rules(tmp_path):
    chosen = plan.make("gradients", ["numpy"], ["probe=attenuation"], threads=1, scale="smoke")
    path, footer = session.start(chosen, tmp_path, Silent())
    run = store.read(path)
    (record,) = [record for record in run.records if record.study == "gradients"]
    assert footer.complete and record.status == "ok" and record.backend == study.REFERENCE, record.reason
    assert record.parameters["init"] == "pytorch" and len(record.measurements[0].samples) == 3
    assert [claim.name for claim in run.header.claims] == [claim.name for claim in study.get("gradients").claims]
    assert not [each for each in run.records if each.study == "ceilings"]  # nothing is timed that they would be held against


def test_quick_has_none_of_it_and_alone_it_runs_at_cpu_scale():
    assert plan.make("quick").cases(study.get("gradients")) == ()
    assert plan.make("gradients").suite == "cpu" and plan.make("memory").suite == "quick"


def test_only_gradients_of_inputs_are_asked_of_backends():
    tasks = list(plan.make("gradients", ["torch", "numpy"]).standalone())
    asked = {(str(task.case.factor("probe")), task.backends) for task in tasks}
    assert asked == {
        ("attenuation", ("reference",)), ("carousel", ("reference",)), ("lyapunov", ("reference",)),
        ("inputs", ("reference", "torch", "numpy")), ("inputs", ("reference",)),
        ("precision", ("reference",)), ("controls", ("reference",)), ("training", ("reference",)),
    }  # fmt: skip


def test_a_backend_without_gradients_is_refused_with_its_reason():
    case = next(case for case in study.get("gradients").cases["cpu"] if case.factor("probe") == "inputs")
    pytest.importorskip("onnxruntime")
    with pytest.raises(prepare.Skip, match="infers and does not train"):
        prepare.validate_backend(case, "onnxruntime")


def test_factors_stand_in_the_key_and_survive_the_record():
    case = Case(LSTMSpec(3, 4), 5, 2, factors=(("init", "forget:1"), ("seeds", 3)))
    assert case.key.endswith("-init=forget:1-seeds=3") and Case.from_dict(case.to_dict()) == case
    with pytest.raises(UnknownName, match="no factor 'lag'; choose from init, seeds"):
        case.factor("lag")
    with pytest.raises(InvalidCase, match="may not be called 'steps'"):
        Case(LSTMSpec(3, 4), 5, 2, factors=(("steps", 3),))
