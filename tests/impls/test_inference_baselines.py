"""ONNX Runtime's providers, OpenVINO's precisions, int8, `max-autotune`, bfloat16 on a CPU: what ran, and what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import impls
from bench.harness import plan
from bench.harness.case import Case
from bench.worker import agreement, prepare
from impls import GRUSpec, LSTMSpec, RNNSpec
from lstm_bench.commands import compare

ON_REQUEST = {"openvino", "torch_int8", "torch_compile_autotune"}
CASE = Case(LSTMSpec(8, 16, num_layers=2), 5, 3, initial_state=True)


def test_no_suite_measures_them_unless_they_are_named() -> None:
    assert ON_REQUEST == {name for name in impls.names() if impls.facts(name).on_request}
    for suite in ("quick", "cpu", "smoke", "workloads", "gpu"):
        assert not ON_REQUEST & set(plan.make(suite).backends)
    assert plan.make("quick", ["openvino", "torch_int8"]).compared() == ("openvino", "torch_int8")


def test_no_verdict_compares_int8_with_another_backend() -> None:
    with pytest.raises(compare.UnclearSides, match="torch_int8 computes in int8, less than its cases ask for"):
        compare.kind_of_both("backend:torch", "backend:torch_int8")
    assert compare.kind_of_both("backend:torch", "backend:openvino") == "backend"


# ONNX Runtime.


def test_who_ran_a_graph_is_read_in_a_profile(tmp_path: Path) -> None:
    backend = pytest.importorskip("impls.backends.onnxruntime")
    network = backend.load(CASE.spec, *CASE.data())
    session = network._session(tmp_path / "profile")
    session.run(None, {"x": network.x, **network.first})
    events = json.loads(Path(session.end_profiling()).read_text())
    assert backend.providers_of(events) == {"CPUExecutionProvider"}
    assert backend.ran("cpu", {"CPUExecutionProvider"}) in backend.RUNS
    for others in ({"CPUExecutionProvider"}, {"CPUExecutionProvider", "CUDAExecutionProvider"}, set()):
        assert backend.ran("cuda", others) not in backend.RUNS, "a part that fell back to the CPU is no run on CUDA"


def test_cuda_needs_its_provider() -> None:
    backend = pytest.importorskip("impls.backends.onnxruntime")
    if "CUDAExecutionProvider" in backend.onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has it")
    on_cuda = replace(CASE, spec=replace(CASE.spec, device="cuda"))
    reason = backend.refuses(on_cuda.spec, "forward", False)
    assert reason and "finds no CUDA device here: it has no CUDAExecutionProvider, only" in reason
    assert "pip install onnxruntime-gpu" in reason
    with pytest.raises(impls.Unavailable, match="no CUDAExecutionProvider"):
        backend.load(on_cuda.spec, *on_cuda.data())


# OpenVINO.


@pytest.fixture
def bfloat16() -> None:
    openvino = pytest.importorskip("impls.backends.openvino").openvino
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has no bfloat16")


@pytest.mark.parametrize("cell", [LSTMSpec, GRUSpec, RNNSpec])
@pytest.mark.parametrize("phase", ["forward", "step"])
def test_openvino_computes_in_bfloat16_where_the_cpu_has_it(bfloat16: None, cell: type, phase: impls.Phase) -> None:
    case = Case(cell(8, 16, dtype="bfloat16"), 5, 3, phase, initial_state=True)
    prepared = prepare.prepare(case, "openvino")
    assert prepared.provenance["precision of layers"] == "bf16" and prepared.provenance["ran"] == "RNNSeq"


def test_openvino_is_imported_without_sending_anything() -> None:
    """Its own import starts a process that sends usage data; in a process of its own, since here it may be imported already."""
    pytest.importorskip("impls.backends.openvino")
    watch = (
        "import sys; seen = []\n"
        "sys.addaudithook(lambda event, _: seen.append(event) if event.split('.')[0] in ('socket', 'subprocess') "
        "or event in ('os.fork', 'os.posix_spawn', 'os.system') else None)\n"
        "import impls; impls.get('openvino'); import time; time.sleep(0.2); print(seen, 'openvino_telemetry' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", watch], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[] False"


def test_openvino_with_lengths_has_no_bfloat16(bfloat16: None) -> None:
    reason = impls.get("openvino").refuses(replace(CASE.spec, dtype="bfloat16"), "forward", True)
    assert reason and "in float32 whatever it is asked" in reason


def test_another_precision_than_asked_for_is_a_fall_back(bfloat16: None, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = pytest.importorskip("impls.backends.openvino")
    monkeypatch.setitem(backend.HINTS, "float32", backend.openvino.Type.bf16)
    loaded = backend.load(CASE.spec, *CASE.data())
    loaded.forward()
    assert loaded.provenance()["ran"] == "RNNSeq in bf16" not in backend.RUNS


def test_openvino_on_a_cpu_without_bfloat16_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = pytest.importorskip("impls.backends.openvino")

    class Core:
        def get_property(self, device: str, name: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(backend.openvino, "Core", Core)
    assert "finds no bfloat16" in (backend.refuses(replace(CASE.spec, dtype="bfloat16"), "forward", False) or "")


# Int8: held to a tolerance of its own, which no other backend is held to.


def test_int8_has_its_error_and_its_precision_said() -> None:
    prepared = prepare.prepare(CASE, "torch_int8")
    assert prepared.provenance["precision"] == "int8" and prepared.provenance["ran"] == "aten::quantized_lstm"
    assert prepared.error is not None and 1e-4 < prepared.error < 0.05
    stream = prepare.prepare(replace(CASE, phase="step"), "torch_int8")
    assert stream.error is not None and stream.error > 1e-4, "of a stream too, whose first outputs are not compared"


def test_int8_is_no_right_answer_in_float32() -> None:
    found = agreement.answer(impls.get("torch_int8").load(CASE.spec, *CASE.data()), CASE)
    agreement.check_against(found, CASE, "int8")
    with pytest.raises(agreement.Disagreement, match="float32"):
        agreement.check_against(found, CASE)


@pytest.mark.parametrize("size", [8, 128])
def test_the_tolerance_of_int8_finds_what_is_wrong(size: int) -> None:
    """Gates in another order, a state that is not carried on, and weights in 4 bits where 8 were promised."""
    case = Case(LSTMSpec(size, size), 12, 3, initial_state=True)
    params, batch = case.data()

    def found(weights: impls.Params, given: impls.Batch = batch) -> agreement.Answer:
        return agreement.answer(impls.get("torch").load(case.spec, weights, given), case)

    agreement.check_against(found(agreement.in_int8(params)), case, "int8")
    swapped = {name: np.concatenate(np.split(value, 4)[::-1]) for name, value in params.items()}
    four_bits = {name: _in_bits(value, 4) for name, value in params.items()}
    wrong = [found(swapped), found(four_bits), found(params, replace(batch, h0=None, c0=None))]
    for answer in wrong:
        with pytest.raises(agreement.Disagreement, match="int8"):
            agreement.check_against(answer, case, "int8")


def _in_bits(value: np.ndarray, bits: int) -> np.ndarray:
    scale = np.max(np.abs(value)) / (2 ** (bits - 1) - 0.5)
    return np.round(value / scale) * scale


@pytest.mark.parametrize(("spec", "phase", "part"), [
    (LSTMSpec(3, 4), "forward_backward", "has no gradients; ask for forward or step"),
    (LSTMSpec(3, 4, bias=False), "forward", "with a bias alone"),
    (LSTMSpec(3, 4, proj_size=2), "forward", "has no projection"),
    (RNNSpec(3, 4), "forward", "runs lstm, gru and no rnn"),
    (LSTMSpec(3, 4, dtype="float64"), "forward", "computes in float32, not in float64"),
])  # fmt: skip
def test_what_int8_refuses(spec: impls.Spec, phase: impls.Phase, part: str) -> None:
    assert part in (impls.get("torch_int8").refuses(spec, phase, False) or "")


def test_a_pytorch_that_cannot_quantize_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = impls.get("torch_int8")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "which is deprecated" in (backend.refuses(LSTMSpec(3, 4), "forward", False) or "")
    with pytest.raises(impls.Unavailable, match=r"no torch\.ao\.quantization"):
        backend.load(CASE.spec, *CASE.data())


# torch.compile, and bfloat16 on a CPU.


def test_max_autotune_asks_for_its_mode_and_only_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    backend, asked = impls.get("torch_compile_autotune"), []
    assert "runs on cuda, not on cpu" in (backend.refuses(LSTMSpec(3, 4), "forward", False) or "")

    def compile(function: object, **options: object) -> object:
        asked.append(options)
        return function

    monkeypatch.setattr(torch, "compile", compile)
    module = pytest.importorskip("impls.backends.torch_compile_autotune")
    monkeypatch.setattr(module, "DEVICES", ("cpu",))
    loaded = backend.load(LSTMSpec(3, 4), *Case(LSTMSpec(3, 4), 2, 1).data())
    loaded.forward()
    assert [options["mode"] for options in asked] == ["max-autotune-no-cudagraphs"]
    said = loaded.provenance()
    assert said["mode"] == "max-autotune-no-cudagraphs" and said["ran"] == "eager", "nothing was compiled, and it says so"


def test_bfloat16_on_a_cpu_says_what_the_cpu_has(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = pytest.importorskip("impls.backends.torch")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    loaded = backend.load(replace(CASE.spec, dtype="bfloat16"), *CASE.data())
    loaded.forward()
    assert loaded.provenance()["instructions for bfloat16"] == "AMX+AVX512-BF16"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert backend.bfloat16_instructions() == "none known to PyTorch"
    exact = backend.load(CASE.spec, *CASE.data())
    exact.forward()
    assert "instructions for bfloat16" not in exact.provenance()


def test_a_pytorch_without_bfloat16_kernels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = pytest.importorskip("impls.backends.torch")

    def failing(*sizes: int, **options: object) -> None:
        raise RuntimeError("\"mkldnn_rnn\" not implemented for 'BFloat16'\nand more")

    backend._bfloat16_fails.cache_clear()
    monkeypatch.setattr(torch.nn, "LSTM", failing)
    reason = backend.refuses(LSTMSpec(3, 4, dtype="bfloat16"), "forward", False)
    backend._bfloat16_fails.cache_clear()
    assert reason and reason.startswith("PyTorch computes no LSTM in bfloat16 on this CPU (")
    assert reason.endswith("not implemented for 'BFloat16'); ask for dtype=float32"), "the first line of what PyTorch says"
    assert backend.refuses(LSTMSpec(3, 4), "forward", False) is None
