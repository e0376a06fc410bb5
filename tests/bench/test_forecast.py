"""What a run will take is computed from its cases: fewer take less, and at gpu scale each study fits its nine minutes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import forecast, plan, study
from bench.language import duration
from bench.language.hmm import VOCABULARY
from bench.studies import context

FORETOLD = ("context", "cost", "decode", "gradients", "horizon", "quality", "scaling", "stream")
TEXT = (("probe", "context"), ("source", "text"))


def predicted(name: str, where: tuple[str, ...] = (), scale: str = "cpu", replicates: int | None = None) -> float:
    found = forecast.seconds(plan.make(name, (), where, scale=scale, threads=2, replicates=replicates))
    assert found is not None
    return found


@pytest.mark.parametrize("name", FORETOLD)
def test_at_gpu_scale_every_study_fits_nine_minutes(name: str):
    assert 60 < predicted(name, scale="gpu") <= 540


@pytest.mark.parametrize("name", FORETOLD)
def test_a_part_of_a_study_takes_less_than_all_of_it(name: str):
    least = min(study.get(name).cases["cpu"], key=lambda case: (study.get(name).forecast or pytest.fail("none"))(case))
    assert predicted(name, (f"case={least.key}",)) < predicted(name) / 2


def test_more_replicates_take_longer_where_turns_are_taken_and_no_longer_where_a_case_is_measured_once():
    once, thrice = (predicted("decode", replicates=count) for count in (1, 3))
    assert thrice > 2 * once
    assert predicted("quality", replicates=3) == predicted("quality", replicates=1)


def test_a_backend_that_refuses_unasked_takes_no_time():
    both, one = (forecast.seconds(plan.make("decode", names, scale="cpu")) for names in (["torch", "cudnn"], ["torch"]))
    assert both == one and one < predicted("decode")


def test_cases_side_by_side_take_as_long_as_the_longest_of_them():
    one = predicted("quality", ("source=text", "size=large", "cell=transformer"))
    both = predicted("quality", ("source=text", "size=large"))
    assert both == one


def test_a_study_that_makes_no_forecast_makes_none_for_the_plan():
    assert forecast.seconds(plan.make("throughput")) is None


def test_the_sentence_counts_cases_and_speaks_of_seconds_where_there_are_few(monkeypatch):
    chosen = plan.make("context", (), ("probe=recall", "cell=lstm_stack"), scale="cpu")
    first = forecast.statement(chosen)[0]
    assert first.startswith("predicted: about ") and first.endswith(" s for 1 case")


def test_what_is_foretold_of_a_training_follows_its_updates_and_its_source():
    case = next(case for case in study.get("context").cases["cpu"] if case.factors[:2] == TEXT)
    start = duration.START_SECONDS["cpu"]

    def trained(**changed: object) -> float:
        factors = dict(case.factors) | {"judged": 1} | changed
        return context.forecast(replace(case, factors=tuple(factors.items()))) - start

    assert trained(updates=600) == pytest.approx(2 * trained(updates=300), rel=0.05)
    assert trained(source="hmm:100") < trained()
    assert (duration.vocabulary(case), VOCABULARY) == (256, duration.GENERATED)
