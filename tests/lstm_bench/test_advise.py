"""`--like` and `advise` on the command line: from a model's file to a run, and from a run to a program."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import lstm_bench
from bench.harness import plan
from bench.harness.case import Case
from impls import LSTMSpec, UnknownName
from lstm_bench.commands import advise, like
from lstm_bench.commands.app import app
from lstm_bench.views import advice as views
from results import store
from results.record import Header, Measurement, Record
from tests.analysis.synthetic import ENVIRONMENT


@pytest.fixture(autouse=True)
def a_lock_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Whoever else is measuring on this machine: the lock lies in the folder of temporary files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("lock")))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.pt"
    torch.save({"decoder": {"rnn": nn.LSTM(3, 4, 2).state_dict()}}, path)
    return path


def said(*arguments: object) -> str:
    answer = CliRunner().invoke(app, [str(each) for each in arguments])
    if answer.exception and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    return answer.stdout + answer.stderr


def test_a_model_is_listed_planned_and_measured(model: Path, tmp_path: Path):
    """Exactly its LSTMs, recorded with the name of its file and nothing of its folder."""
    listed = json.loads(CliRunner().invoke(app, ["list", "--like", str(model), "--steps", "5", "--json"]).stdout)
    assert [(case["workload"], case["module"], case["steps"]) for case in listed] == [("like-mine", "decoder.rnn", 5)]
    shown = said("run", "smoke", "--like", model, "--dtype", "float64", "--dry-run", "--phase", "step")
    assert "LSTM 3 → 4, 2 layers, float32" in shown and "step-float64-cpu-workload=like-mine" in shown
    assert "assumed, since the model does not say: batch 1 (--batch)" in shown
    measured = said(
        "run", "smoke", "--like", model, "--backend", "numpy", "--steps", 4, "--batch", 2, "--out", tmp_path / "out"
    )
    run = store.read(store.newest(tmp_path / "out"))
    assert str(run.path) in measured and run.path.stem.endswith("-like-mine")
    (record,) = [record for record in run.records if record.study == "workloads"]
    case = Case.from_dict(record.parameters)
    assert case.spec == LSTMSpec(3, 4, 2) and (case.steps, case.batch, case.phase) == (4, 2, "forward")
    assert record.status == "ok" and case.factor("copies") == 1 and str(tmp_path) not in run.path.read_text()


@pytest.mark.parametrize(("arguments", "message"), [
    (("run", "smoke", "--steps", 3), "--steps is of a model of yours; name that too, with --like"),
    (("list", "--phase", "step"), "--phase is of a model of yours"),
    (("advise",), "name one of a RUN, --like FILE, --like module:Class and --workload NAME; got none"),
    (("advise", "run.jsonl", "--workload", "vad"), "got RUN and --workload"),
    (("advise", "--workload", "vat"), "no workload 'vat' (did you mean 'vad'?)"),
    (("advise", "--workload", "basecall-hac", "--suite", "quik"), "did you mean 'quick'?"),
    (("advise", "--workload", "vad", "--suite", "gpu"), "vad has no call on cuda; name another --suite"),
])  # fmt: skip
def test_what_does_not_fit_is_told(arguments: tuple[object, ...], message: str):
    with pytest.raises((like.NoModel, advise.NothingToAdvise, UnknownName), match=re.escape(message)):
        said(*arguments)


def test_names_of_phases_and_data_types_are_checked(model: Path):
    for option, name, kind in (("--phase", "foward", "phase"), ("--dtype", "int8", "data type")):
        with pytest.raises(UnknownName, match=f"no {kind} '{name}'"):
            said("run", "smoke", "--like", model, option, name, "--dry-run")
    with pytest.raises(UnknownName, match="no suite 'workloads'"):
        said("run", "workloads", "--like", model, "--dry-run")


def test_advise_measures_a_model_in_other_data_types_too(model: Path, tmp_path: Path):
    asked = ["--suite", "smoke", "--replicates", "2", "--backend", "torch", "--backend", "numpy", "--steps", "3", "--json"]
    found = CliRunner().invoke(app, ["advise", "--like", str(model), "--out", str(tmp_path), *asked])
    (one,) = json.loads(found.stdout)["calls"]
    assert one["own"]["backend"] == "torch" and one["call"]["dtype"] == "float32" and one["compared"] == 3
    run = store.newest(tmp_path)
    dtypes = {(record.parameters["dtype"], record.parameters.get("own_dtype")) for record in store.read(run).records
              if record.study == "workloads"}  # fmt: skip
    assert dtypes == {("float32", None), ("bfloat16", "float32")}
    again = said("advise", run)
    assert "like-mine, decoder.rnn, LSTM 3 → 4, 2 layers, inference, T3 B1, float32 on cpu" in again
    assert "now: torch.nn.LSTM (torch in float32)" in again


def test_the_python_api_measures_a_model_too(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    asked = {"steps": 2, "phase": ["step", "forward"]}
    run = lstm_bench.run("smoke", backends="numpy", out=tmp_path, like=model, like_options=asked, show=False)
    phases = [record.parameters["phase"] for record in run.records if record.study == "workloads"]
    assert sorted(phases) == ["forward", "step"] and capsys.readouterr() == ("", "")
    with pytest.raises(like.NoModel):
        lstm_bench.run("smoke", like_options=asked)


def stored(folder: Path, times: dict[tuple[str, str, str], float], case: Case, others: float = 0.0) -> Path:
    """A run with these seconds of each backend, data type and launch mode; others: their share of the processors."""
    header = Header("120000-like-mine", "2026-11-20T12:00:00+00:00", 3, "imaginary", ENVIRONMENT,
                    {"suite": "quick", "studies": ["workloads"], "threads": 2})  # fmt: skip
    writer = store.create(folder, header)
    for replicate in range(5):
        for (backend, dtype, launch), seconds in times.items():
            same = next(each for each in advise.with_alternatives((case,)) if each.spec.dtype == dtype)
            same = Case.from_dict(same.to_dict() | {"launch": launch})
            samples = tuple(seconds * (1 + 0.001 * (replicate + place)) for place in range(4))
            measured = (Measurement("time", "s", samples), Measurement("error", "1", (3e-3 if dtype == "bfloat16" else 1e-7,)))
            writer.append(Record("workloads", same.key, backend, replicate, "ok", same.to_dict(), measurements=measured,
                                 conditions={"others_share": others}, seconds=1.0))  # fmt: skip
    writer.close()
    return writer.path


def test_the_advice_of_a_run_is_printed_with_its_program(tmp_path: Path):
    case = Case(LSTMSpec(3, 4), 6, 2, factors=(("workload", "like-mine"), ("module", "rnn"), ("copies", 1)))
    run = stored(tmp_path, {("torch", "float32", "eager"): 1e-3, ("onnxruntime", "float32", "eager"): 4e-4,
                            ("torch", "bfloat16", "eager"): 2e-4, ("numpy", "float32", "eager"): 3e-3}, case)  # fmt: skip
    text = said("advise", run)
    assert "advice: onnxruntime in float32: 2.50× [2.50, 2.50] PyTorch's own, 401 µs a call; its numbers are within" in text
    assert "if the numbers may change: torch in bfloat16: 5.00×" in text
    assert "its outputs are off by 0.003 of the largest, where float32 is off by 1e-07" in text
    assert "the intervals hold for all 3 ways together, at 95 %" in text
    names: dict[str, object] = {}
    (program,) = re.findall(r"onnxruntime in float32:\n\n(.*?)\n\n", text.replace("\n\ntorch.set", "\ntorch.set"), re.DOTALL)
    exec(program, names)  # as a reader copies it
    assert "session" in names and getattr(names["y"], "shape", None) == (6, 2, 4)


def test_no_code_is_given_for_sequences_of_different_lengths(tmp_path: Path):
    case = Case(LSTMSpec(3, 4), 6, 2, ragged=True)
    text = said("advise", stored(tmp_path, {("torch", "float32", "eager"): 1e-3, ("jax", "float32", "eager"): 4e-4}, case))
    assert "advice: jax in float32" in text and "no code is given for sequences of different lengths" in text
    assert "import torch" not in text


def test_a_system_is_tried_in_every_way_of_its_device():
    on_gpu = list(advise.with_alternatives(advise._of_table("diarize", "gpu")))
    ways = {(case.spec.dtype, case.launch) for case in on_gpu}
    assert ways == {
        (dtype, launch) for dtype in ("float32", "tensorfloat32", "float16", "bfloat16") for launch in ("eager", "graph")
    }
    assert plan.make("gpu", like=on_gpu).name == "diarize" and len({case.key for case in on_gpu}) == len(on_gpu) == 8
    half = [case for case in advise.with_alternatives(advise._of_table("diarize", "quick")) if case.spec.dtype == "bfloat16"]
    assert [case.factor("own_dtype") for case in half] == ["float32"]


def test_what_was_not_measured_is_not_advised(tmp_path: Path):
    case = Case(LSTMSpec(3, 4), 6, 2, factors=(("workload", "like-mine"), ("module", "rnn"), ("copies", 1)))
    for number, (times, sentence) in enumerate((
        ({("onnxruntime", "float32", "eager"): 4e-4}, "PyTorch's own module (torch in float32) was not measured"),
        ({("torch", "float32", "eager"): 4e-4}, "in float32 nothing measured is surely faster (no other was measured)"),
        ({("torch", "float32", "eager"): 4e-4, ("numpy", "float32", "eager"): 5e-4}, "advice: keep it; "),
    )):  # fmt: skip
        text = said("advise", stored(tmp_path / str(number), times, case))
        assert sentence in text and "import torch" not in text
    assert "noisy while measuring: other processes used 80 %" in said("advise", stored(tmp_path / "noisy", times, case, 0.8))
    assert "noisy" not in text
    with pytest.raises(advise.NothingToAdvise, match="holds no time of an LSTM"):
        said("advise", Path("results/reference/2026-11-26-h100/182447-gpu-check.jsonl"))


def test_the_stored_run_of_an_h100_is_read():
    """One replicate, so that no gain is proved: nothing is advised, and what was measured stands there."""
    found = list(views.found(Path("results/reference/2026-11-26-h100/182414-throughput.jsonl")))
    assert found and all(one.advice.best is None and one.programs == () for one in found)
    assert any(one.advice.nearest and one.advice.nearest.backend == "cuda" for one in found)
