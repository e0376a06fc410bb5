"""Sizes are matched within what is promised, and where none is within it, that is said."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.harness.case import Case
from bench.harness.study import Scale
from bench.studies import matching, scaling
from bench.studies.matching import Match, Unmatched, by_flops, by_parameters, by_time, match
from bench.worker import prepare
from impls import LSTMSpec, LSTMStackSpec, MinLSTMSpec, Spec, SSMSpec, TransformerSpec, UnknownName

LIKE = TransformerSpec(256, 256, 4, num_heads=4)


@pytest.mark.parametrize("spec", [LSTMStackSpec(8, 8, 4), MinLSTMSpec(8, 8, 4), LSTMSpec(8, 8, 4), SSMSpec(8, 8, 4)])
def test_matched_by_parameters(spec: Spec) -> None:
    found = by_parameters(spec, LIKE)
    assert found.spec.parameter_count() == pytest.approx(LIKE.parameter_count(), rel=0.01)
    assert abs(found.mismatch) <= 0.01
    assert found.spec.input_size == found.spec.hidden_size
    case = Case(found.spec, 4, 1, factors=found.factors)
    assert case.factor("matched") == "parameters" and f"mismatch={found.mismatch:.2g}" in case.key


@pytest.mark.parametrize("context", [1, 2048])
def test_matched_by_operations(context: int) -> None:
    found = by_flops(LSTMStackSpec(8, 8, 4), LIKE, context)
    assert found.spec.flops_per_token() == pytest.approx(LIKE.flops_per_token(context=context), rel=0.01)


def test_a_matched_lstm_is_wider_by_the_root_of_1_5() -> None:
    """12d² = 8H²."""
    found = by_parameters(LSTMStackSpec(8, 8, 4), TransformerSpec(2000, 2000, 4, num_heads=20))
    assert found.spec.hidden_size / 2000 == pytest.approx(1.2247, rel=1e-3)


def test_a_transformer_tunes_its_feed_forward() -> None:
    lstm = LSTMStackSpec(100, 100, 2)
    found = by_parameters(TransformerSpec(8, 8, 2), lstm)
    assert found.spec.parameter_count() == pytest.approx(lstm.parameter_count(), rel=0.01)
    assert isinstance(found.spec, TransformerSpec) and found.spec.hidden_size % 8 == 0


def test_what_cannot_be_matched_is_said() -> None:
    with pytest.raises(
        Unmatched, match=r"no lstm has 1000 parameters within 1\.0%: the nearest, of width 11, has 1056 \(\+5\.6%\)"
    ):
        by_parameters(LSTMSpec(4, 4), _Counted())  # pyright: ignore[reportArgumentType]


class _Counted:
    def parameter_count(self) -> int:
        return 1000


def test_matched_by_time() -> None:
    """The search by a clock that always tells the same: seconds proportional to the weights."""
    found = match(MinLSTMSpec(8, 8), "time", lambda spec: spec.parameter_count() * 1e-9, 1e-3)
    assert found.found == pytest.approx(1e-3, rel=0.01) and found.factors[0] == ("matched", "time")


def test_a_real_clock_is_asked() -> None:
    """A layer that is matched to itself by time is about as wide, and not the one that the search begins at."""
    tolerance = 0.5
    case = Case(LSTMStackSpec(96, 96), 4, 16)
    found = _unless_busy(lambda: by_time(case, LSTMStackSpec(8, 8), "numpy", tolerance))
    assert found.by == "time" and abs(found.mismatch) <= tolerance and found.wanted > 0
    assert 24 <= found.spec.hidden_size <= 384


def _unless_busy(search: Callable[[], Match], attempts: int = 3) -> Match:
    """A search may end with nothing where other processes disturb the clock; several in a row do not."""
    for _ in range(attempts - 1):
        with contextlib.suppress(Unmatched):
            return search()
    return search()


def test_nothing_is_matched_by_time_where_all_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "interleaved_times", lambda each: [[1.0 + place for place in reversed(range(len(each)))]])
    monkeypatch.setattr(matching, "ratio", lambda *_: 3.0)
    with pytest.raises(Unmatched, match=r"has 1 times the seconds of the call within 5\.0%: the nearest, of width 1, has 3"):
        by_time(Case(TransformerSpec(8, 8, num_heads=2), 4, 1), LSTMStackSpec(8, 8), "numpy")


def _matched(by: str) -> Case:
    case = next(case for case in scaling.CASES["smoke"] if case.factor("sweep") == "matched")
    return replace(case, factors=(("matched", by),))


@pytest.mark.parametrize("by", ["parameters", "flops"])
def test_an_lstm_of_equal_cost_fulfils_its_contract(by: str) -> None:
    found = {each.metric: each.samples for each in scaling.measure_matched("numpy", _matched(by))}
    assert found[f"matched_{by}"][0] == pytest.approx(1, abs=0.01 if by == "parameters" else 0.05)
    assert found["matched_size"][0] > 1 and len(found["matched_time"]) == len(found["its_time"]) == scaling.MATCHED_SAMPLES
    assert found["matched_seconds"][0] > 0


def test_the_three_contracts_choose_three_lstms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time by a clock that goes by the width: the search is by_time's own."""
    wide = 90
    monkeypatch.setattr(matching, "interleaved_times", lambda each, *_: [[p.case.spec.hidden_size / wide] for p in each])
    monkeypatch.setattr(matching, "ratio", lambda own, its: own[0])
    sizes = {by: scaling.match_lstm("numpy", _matched(by)).spec.hidden_size for by in ("parameters", "flops", "time")}
    assert sizes["time"] == wide and sizes["parameters"] < sizes["flops"], "attention is operations and no parameters"
    with pytest.raises(UnknownName, match="no contract 'heart'; choose from flops, parameters, time"):
        scaling.match_lstm("numpy", _matched("heart"))


@pytest.mark.parametrize("scale", ["cpu", "gpu"])
def test_the_transformer_has_an_lstm_by_every_contract(scale: Scale) -> None:
    cases = [case for case in scaling.CASES[scale] if case.factor("sweep") == "matched"]
    assert [case.factor("matched") for case in cases][-2:] == ["flops", "time"]
    by_flops = cases[-2]
    by_parameters = replace(by_flops, factors=(("sweep", "matched"), ("matched", "parameters")))
    assert scale == "gpu" or by_parameters in cases
    found = [scaling.match_lstm("torch", case) for case in (by_parameters, by_flops)]
    within = matching.TOLERANCE[cases[0].spec.device]
    assert all(abs(each.mismatch) <= within for each in found) and found[0].spec.hidden_size < found[1].spec.hidden_size


def test_an_lstm_that_cannot_be_as_fast_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise Unmatched("no lstm_stack has 1 times the seconds")

    monkeypatch.setattr(scaling, "match_lstm", fails)
    with pytest.raises(prepare.Skip, match="no lstm_stack has 1 times the seconds"):
        list(scaling.measure_matched("numpy", _matched("time")))


def test_on_a_gpu_the_matched_lstm_runs_on_our_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is asked to run what is written down, and nothing is loaded."""
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr(prepare, "validate_backend", lambda case, backend: asked.append((case.spec.cell, backend)))
    monkeypatch.setattr(prepare, "prepare", lambda case, backend: asked.append((case.spec.cell, backend)))
    monkeypatch.setattr(prepare, "load", lambda case, backend: asked.append((case.spec.cell, backend)))
    monkeypatch.setattr(matching, "interleaved_times", lambda each, *_: [[1.0], [1.0]])
    monkeypatch.setattr(matching, "ratio", lambda own, its: 1.0)
    for by in ("flops", "time"):
        asked.clear()
        case = next(each for each in scaling.CASES["gpu"] if each.factors == (("sweep", "matched"), ("matched", by)))
        found = list(scaling.measure_matched("torch", case))
        assert ("lstm_stack", "cuda") in asked and ("transformer", "torch") in asked
        assert not {("lstm_stack", "torch"), ("transformer", "cuda")} & set(asked)
        assert next(each for each in found if each.metric == "matched_size").notes == ("LSTM by cuda",)


def test_an_lstm_that_our_kernels_refuse_is_skipped() -> None:
    case = next(case for case in scaling.CASES["gpu"] if case.factor("sweep") == "matched")
    import torch

    if torch.cuda.is_available():
        pytest.skip("says what happens without a GPU, and there is one")
    with pytest.raises(prepare.Skip, match="finds no CUDA device"):
        list(scaling.measure_matched("torch", case))
