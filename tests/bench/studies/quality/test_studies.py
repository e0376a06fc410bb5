"""The studies go through the usual run; their checkpoints lie beside it and are gone when it is done."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.harness import plan, session, study
from bench.harness.case import Case, InvalidCase
from bench.studies.context import windows as context_windows
from bench.studies.quality import losses
from bench.studies.quality import sources as quality_sources
from bench.studies.quality.sources import HiddenMarkov
from bench.studies.quality.training import Diverged
from impls.specs.residual import LSTMStackSpec
from results import store
from results.store import StoreError


def smoke(name: str, cell: str) -> Case:
    return next(case for case in study.get(name).cases["smoke"] if case.spec.cell == cell)


def measured(found) -> dict[str, tuple[float, ...]]:
    return {each.metric: each.samples for each in found}


def test_a_run_of_quality_leaves_a_record_and_no_checkpoint(tmp_path, collector):
    chosen = plan.make("quality", [], ["cell=lstm_stack"], threads=1, scale="smoke")
    path, footer = session.start(chosen, tmp_path, collector)
    (record,) = [record for record in store.read(path).records if record.study == "quality"]
    assert footer.complete and record.status == "ok", record.reason
    found = {each.metric: each for each in record.measurements}
    assert len(found["loss_by_index"].blocks) == 3 and found["source_bytes"].notes[0].startswith("sha256 ")
    assert record.parameters["matched"] == "parameters" and abs(record.parameters["mismatch"]) <= 0.01
    assert not path.with_suffix(".checkpoints").exists()


def test_a_case_resumes_from_what_its_trainings_left(tmp_path, monkeypatch):
    case = smoke("quality", "transformer")
    monkeypatch.setattr(study, "_paths", study.RunPaths(checkpoints=tmp_path))
    source = losses.sources.of_case(case, case.steps + 1)
    for rate in losses.rates(case):
        own = losses.training(case, source, rate, 0)
        own.run(losses.kept(case, own), until=3)
    assert len(list(tmp_path.glob("*.pt"))) == 2
    resumed = measured(losses.measure(case))
    assert not list(tmp_path.glob("*.pt"))
    monkeypatch.setattr(study, "_paths", study.NO_PATHS)
    whole = measured(losses.measure(case))
    assert {name: values for name, values in resumed.items() if name != "curve_seconds"} == {
        name: values for name, values in whole.items() if name != "curve_seconds"
    }


def test_a_rate_that_diverges_is_named_and_left_out(monkeypatch):
    case, source = smoke("quality", "lstm_stack"), HiddenMarkov(5)
    update = losses.Training.update

    def fails(self: losses.Training) -> None:
        if self.settings.learning_rate == 0.01:
            raise Diverged("the loss is nan at update 0 with seed 0 and learning rate 0.01; ask for a lower rate")
        update(self)

    monkeypatch.setattr(losses.Training, "update", fails)
    own, said = losses.best_rate(case, source)
    assert own.settings.learning_rate == 0.003 and said[0].samples == (0.003,) and "learning rate 0.01" in said[0].notes[0]


def test_contexts_are_as_long_as_said_and_the_optimum_is_right():
    found = measured(context_windows.measure_windows(smoke("context", "lstm_stack")))
    assert found["context"] == (1, 2, 4, 8, 16) and len(found["target_loss"]) == 3 * 5 * 8
    assert len(found["optimum_context_loss"]) == 5 and all(value >= 0 for value in found["optimum_influence"])
    by_context = np.reshape(found["optimum_target_loss"], (5, -1))
    np.testing.assert_allclose(by_context.mean(1), found["optimum_context_loss"], atol=1e-4)  # all eight targets are kept


def test_influence_is_of_the_token_that_was_changed():
    windows, other = np.zeros((6, 2), int), np.array([1, 2])
    assert context_windows.changed(windows, other, 1)[-2].tolist() == [1, 2] and context_windows.changed(windows, other, 5)[
        0
    ].tolist() == [
        1,
        2,
    ]
    assert not context_windows.changed(windows, other, 3)[-1].any() and not windows.any()


def test_influence_is_the_divergence_from_the_unchanged_window():
    """By hand, lag by lag: the prediction of the unchanged window is taken once."""
    source, model = HiddenMarkov(20), losses.training(smoke("context", "transformer"), HiddenMarkov(20), 1e-3, 0).model
    windows = source.windows(np.random.default_rng(0), 10, 6)
    other = context_windows.resampled(source, windows)
    found = context_windows.influence(model, windows, other, [1, 4])
    with torch.no_grad():
        for value, lag in zip(found, (1, 4), strict=True):
            p, q = (
                torch.softmax(model(torch.from_numpy(each[:-1]))[-1].double(), -1)
                for each in (windows, context_windows.changed(windows, other, lag))
            )
            assert value == pytest.approx(float((p * (p / q).log()).sum(-1).mean()), rel=1e-9)


def test_a_short_lag_is_learnt_and_none_without_training():
    spec = LSTMStackSpec(24, 24)
    factors = {"seeds": 1, "updates": 150, "rate": 1e-2}
    assert context_windows.learns(Case(spec, 9, 32, factors=tuple(factors.items())), 2, 0)
    assert not context_windows.learns(Case(spec, 9, 32, factors=tuple((factors | {"updates": 4}).items())), 2, 0)


def test_rates_must_be_numbers():
    case = Case(LSTMStackSpec(8, 8), 4, 2, factors=(("rates", "fast"),))
    with pytest.raises(InvalidCase, match="joined by /"):
        losses.rates(case)


def test_a_corpus_is_part_of_the_plan_by_its_hash_alone(tmp_path, monkeypatch):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"all work and no play " * 400)
    name = quality_sources.corpus_name(path)
    chosen = plan.make("quality", scale="cpu", corpus=name)
    sources = {(case.factor("source"), dict(case.factors).get("corpus")) for case in chosen.cases(chosen.studies[0])}
    assert ("text", name) in sources and ("hmm:100", None) in sources and str(path) not in str(chosen.to_dict())


def test_a_resumed_run_wants_the_corpus_it_was_begun_with(tmp_path, collector):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"all work and no play " * 400)
    asked = plan.make("quality", [], ["source=text", "cell=lstm_stack"], scale="cpu", corpus=quality_sources.corpus_name(path))

    class Impatient(type(collector)):
        def on_planned(self, study: str, records: int) -> None:
            raise KeyboardInterrupt

    writer_root = tmp_path / "runs"
    with pytest.raises(KeyboardInterrupt):
        session.start(asked, writer_root, Impatient(), corpus=path)
    with pytest.raises(StoreError, match=r"was begun with the corpus .*this is no corpus; name the same file with --corpus"):
        session.resume(writer_root, collector)


def test_a_corpus_too_short_is_refused_before_the_run(tmp_path, collector):
    """By the longest window that is asked for: the shorter ones would fit."""
    path = tmp_path / "mine.txt"
    longest = 1 + max(case.steps for case in study.get("context").cases["cpu"] if plan.TEXT in case.factors)
    path.write_bytes(b"x" * (quality_sources.HELD_OUT_EVERY * longest - 1))
    asked = plan.make("context", [], ["source=text"], scale="cpu", corpus=quality_sources.corpus_name(path))
    with pytest.raises(
        quality_sources.InvalidCorpus, match=f"too few for one window of {longest}; name a file of at least {10 * longest}"
    ):
        session.start(asked, tmp_path / "runs", collector, corpus=path)
    assert not (tmp_path / "runs").exists()
    path.write_bytes(b"x" * quality_sources.HELD_OUT_EVERY * longest)
    session.require_corpus(asked, path)


@pytest.mark.parametrize(("name", "where"), [("scaling", []), ("quality", ["source=copy:32"])])
def test_a_corpus_that_no_case_reads_is_refused(tmp_path, collector, name, where):
    path = tmp_path / "mine.txt"
    path.write_bytes(b"all work and no play " * 400)
    asked = plan.make(name, [], where, scale="cpu", corpus=quality_sources.corpus_name(path))
    with pytest.raises(
        quality_sources.InvalidCorpus, match=r"reads text, so that the corpus .* would not be read; leave out --corpus"
    ):
        session.start(asked, tmp_path / "runs", collector, corpus=path)
    assert not (tmp_path / "runs").exists()
