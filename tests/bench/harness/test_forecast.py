"""What a run will take is computed from its cases: fewer take less, and at gpu scale each study fits its nine minutes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import costs
from bench.harness import forecast, plan, study
from bench.harness.case import Case
from bench.studies import context
from bench.studies.quality.sources import VOCABULARY_HMM
from impls import LSTMSpec, LSTMStackSpec, TransformerSpec

FORETOLD = (
    "agreement", "context", "cost", "decode", "depth", "descendants", "direction", "gradients", "horizon", "memory",
    "parallel", "quality", "scaling", "speech", "stream", "transfer", "translation",
)  # fmt: skip
UNTOLD = {"throughput"}  # makes no forecast
ON_A_GPU = (*FORETOLD, "workloads")  # of which nothing is foretold on a CPU
TEXT = (("probe", "context"), ("source", "text"))


def predicted(name: str, where: tuple[str, ...] = (), scale: str = "cpu", replicates: int | None = None) -> float:
    found = forecast.seconds(plan.make(name, (), where, scale=scale, threads=2, replicates=replicates))
    assert found is not None
    return found


def test_at_gpu_scale_every_study_fits_nine_minutes():
    """`pytest -s` prints the list."""
    there = {name for name in study.names() if study.get(name).cases.get("gpu")}
    assert there == {*ON_A_GPU, *UNTOLD}, "a study with cases for a GPU and no place in this list"
    found = {name: predicted(name, scale="gpu") for name in ON_A_GPU}
    print(*(f"{name:12} {seconds:5.0f} s" for name, seconds in found.items()), sep="\n")
    assert all(60 < seconds <= 540 for seconds in found.values()), found


@pytest.mark.parametrize("name", ["gradients", "memory"])
def test_gradients_and_memory_have_cases_on_a_gpu(name: str):
    chosen = plan.make(name, scale="gpu")
    (its,) = chosen.studies
    on_gpu = [case for case in chosen.cases(its) if case.spec.device == "cuda"]
    assert chosen.device == "cuda" and len(on_gpu) >= 4
    assert {"cuda", "cudnn", "torch", "jax"} <= {each for case in on_gpu for each in forecast.asked(chosen, its, case)}


# Of runs 182516, 182611, 173700, 182414 and 182710 on an H100 (2026-11-26): backend, case, seconds of the record, and whether
# it was its worker's first.
LSTM, TRANSFORMER = LSTMStackSpec(64, 512, dtype="bfloat16", device="cuda"), TransformerSpec(
    64, 416, num_heads=8, feed_forward_size=1701, dtype="bfloat16", device="cuda"
)  # fmt: skip
SMALL, WIDE = (LSTMSpec(size, size, dtype="bfloat16", device="cuda") for size in (256, 768))
RECORDED = [
    ("cudnn", Case(LSTM, 4096, 16, "forward_backward"), 19.72, True),
    ("cudnn", Case(LSTM, 64, 1024, "forward_backward"), 2.61, False),
    ("cudnn", Case(LSTM, 256, 256, "forward_backward"), 3.11, False),
    ("cudnn", Case(LSTM, 1024, 64, "forward_backward"), 3.83, False),
    ("torch", Case(TRANSFORMER, 64, 1024, "forward_backward"), 2.03, False),
    ("torch", Case(TRANSFORMER, 4096, 16, "forward_backward"), 2.12, False),
    ("torch", Case(TRANSFORMER, 16_384, 4, "forward_backward"), 2.45, False),
    ("torch", Case(TRANSFORMER, 64, 1024, "forward_backward"), 11.36, True),
    ("cudnn", Case(WIDE, 256, 16, "forward"), 1.79, False),
    ("cudnn", Case(replace(WIDE, dtype="float16", bidirectional=True), 256, 16, "forward_backward"), 9.65, False),
    ("cuda", Case(SMALL, 256, 16, "forward"), 5.55, True),
    ("cuda", Case(SMALL, 256, 16, "forward_backward"), 1.30, False),
    ("cudnn", Case(SMALL, 256, 16, "forward"), 9.70, True),
    ("cudnn", Case(SMALL, 256, 16, "forward_backward"), 1.63, False),
    ("cuda", Case(replace(WIDE, dtype="float16"), 1024, 16, "forward"), 2.10, False),
]


def test_the_costs_of_a_gpu_are_those_that_were_recorded():
    """None is taken for less than nine tenths of what it was, nor for twice as much; all together within a third."""
    predicted, recorded = 0.0, 0.0
    for backend, case, seconds, first in RECORDED:
        found = costs.case_seconds(case, cudnn=backend == "cudnn") + first * costs.START_SECONDS_H100
        assert 0.9 * seconds <= found <= 2 * seconds, (backend, case.key, found, seconds)
        predicted, recorded = predicted + found, recorded + seconds
    assert predicted == pytest.approx(recorded, rel=1 / 3)


@pytest.mark.parametrize("name", [name for name in FORETOLD if name != "transfer"])  # whose two cases run side by side
def test_a_part_of_a_study_takes_less_than_all_of_it(name: str):
    least = min(study.get(name).cases["cpu"], key=lambda case: (study.get(name).forecast or pytest.fail("none"))(case))
    assert predicted(name, (f"case={least.key}",)) < predicted(name) / 2


def test_replicates_cost_time_in_rounds_and_none_standalone():
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
    assert predicted("transfer") == max(predicted("transfer", (f"tag={tag}",)) for tag in ("class", "topic"))


def test_cases_that_get_all_processors_are_added_up():
    timed = [case for case in study.get("parallel").cases["cpu"] if case.factor("probe") == "time"]
    seconds = sum(study.get("parallel").forecast(case) or 0 for case in timed)  # type: ignore[misc]
    assert predicted("parallel", ("probe=time",)) == pytest.approx(seconds + forecast.HARNESS_SECONDS)


def test_a_study_that_makes_no_forecast_makes_none_for_the_plan():
    assert forecast.seconds(plan.make("throughput")) is None


def test_the_sentence_counts_cases_and_names_seconds(monkeypatch):
    chosen = plan.make("context", (), ("probe=recall", "cell=lstm_stack"), scale="cpu")
    first = forecast.statement(chosen)[0]
    assert first.startswith("predicted: about ") and first.endswith(" s for 1 case")


def test_a_trainings_forecast_follows_updates_and_source():
    case = next(case for case in study.get("context").cases["cpu"] if case.factors[:2] == TEXT)
    start = costs.START_SECONDS_TRAINING["cpu"]

    def trained(**changed: object) -> float:
        factors = dict(case.factors) | {"judged": 1} | changed
        return context.forecast(replace(case, factors=tuple(factors.items()))) - start

    assert trained(updates=600) == pytest.approx(2 * trained(updates=300), rel=0.05)
    assert trained(source="hmm:100") < trained()
    assert (costs.vocabulary(case), VOCABULARY_HMM) == (256, costs.GENERATED)
