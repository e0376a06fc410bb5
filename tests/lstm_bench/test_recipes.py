"""The programs that `advise` prints: those for a CPU run and give the module's outputs, those for a GPU fit the libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from analysis.studies.workloads.advice import Way
from impls import LSTMSpec
from impls.specs.recurrent import spec_to_dict
from lstm_bench import recipes

ROOT = Path(__file__).parents[2]
PLAIN = LSTMSpec(5, 8)
SPECS = (PLAIN, LSTMSpec(5, 8, 2, bias=False, bidirectional=True), LSTMSpec(5, 8, 2, proj_size=4))
PHASES = ("forward", "forward_backward", "step")
POSSIBLE = [(spec, phase) for spec in SPECS for phase in PHASES if phase != "step" or not spec.bidirectional]
CPU = [
    (name, "bfloat16" if name == "torch" else "float32", spec, phase)
    for name in ("torch", "onnxruntime", "numpy", "torch_loop", "jax", "flax")
    for spec, phase in POSSIBLE
    if (name != "onnxruntime" or (phase != "forward_backward" and not spec.proj_size))
    and (name not in ("jax", "flax") or spec is PLAIN)  # the same program but for the sizes, and slow to compile
]
GPU = [
    (name, dtype, launch, spec, phase)
    for name, dtype, launch in product(("cuda", "cudnn", "torch"), ("float16", "tensorfloat32"), ("eager", "graph"))
    for spec, phase in POSSIBLE
] + [("jax_cudnn", "float16", "eager", PLAIN, phase) for phase in PHASES]


def call(spec: LSTMSpec, phase: str, device: str = "cpu", steps: int = 6) -> dict[str, Any]:
    return spec_to_dict(spec) | {"device": device, "steps": steps, "batch": 3, "phase": phase}


def program(backend: str, dtype: str, launch: str, given: dict[str, Any]) -> str:
    return recipes.code(Way(backend, dtype, launch, 1.0, None, None), given, torch.get_num_threads())


def ran(text: str) -> dict[str, Any]:
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(text, "recipe", "exec"), names)
    return names


def check(names: dict[str, Any], phase: str, tolerance: float) -> None:
    """Outputs, or of a stream the last, as those of the module in float64; after training there are gradients."""
    expected = names["layer"].double()(names["x"].double())[0].detach()
    y = torch.as_tensor(names["y"]).detach().double()
    torch.testing.assert_close(y, expected[-1:] if phase == "step" else expected, rtol=0, atol=tolerance)
    if phase == "forward_backward":
        gradients = names.get("gradients") or [weight.grad for weight in names["fast"].parameters()]
        assert len(gradients) >= len(list(names["layer"].parameters())) and all(value is not None for value in gradients)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@pytest.mark.parametrize(("backend", "dtype", "spec", "phase"), CPU)
def test_a_program_for_a_cpu_gives_the_outputs(backend: str, dtype: str, spec: LSTMSpec, phase: str):
    check(ran(program(backend, dtype, "eager", call(spec, phase))), phase, 0.03 if dtype == "bfloat16" else 1e-5)


def test_the_compiled_one_too():
    check(ran(program("torch_compile", "float32", "eager", call(PLAIN, "forward"))), "forward", 1e-5)


@pytest.mark.parametrize(("spec", "phase"), POSSIBLE)
def test_the_modules_program_for_a_gpu_runs_on_a_cpu_too(spec: LSTMSpec, phase: str):
    text = program("cudnn", "float32", "eager", call(spec, phase, "cuda"))
    assert "cuda" in text and "allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False" in text
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        check(ran(text.replace('"cuda"', '"cpu"')), phase, 1e-5)
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_programs_for_a_gpu_fit_the_libraries(tmp_path: Path):
    """By the types; a name that no library has is found."""
    for place, (backend, dtype, launch, spec, phase) in enumerate(GPU):
        (tmp_path / f"recipe_{place}.py").write_text(program(backend, dtype, launch, call(spec, phase, "cuda")))
    wrong = program("cuda", "float16", "eager", call(PLAIN, "step", "cuda")).replace("stream.advance(", "stream.advanse(")
    (tmp_path / "wrong.py").write_text(wrong)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT)], "reportPossiblyUnbound": False}))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "-p", str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path)
    report = json.loads(answer.stdout)
    found = [(Path(each["file"]).name, each["message"]) for each in report["generalDiagnostics"] if each["severity"] == "error"]
    assert report["summary"]["filesAnalyzed"] > 40
    assert [name for name, _ in found] == ["wrong.py"] and "advanse" in found[0][1], found[:5]


def test_imports_come_first_and_sizes_are_the_calls():
    text = program("onnxruntime", "float32", "eager", call(LSTMSpec(5, 8, 2, bias=False, bidirectional=True), "forward"))
    lines = text.splitlines()
    assert lines[0].startswith("import ") and not any(line.startswith(("import", "from")) for line in lines[6:])
    assert "torch.nn.LSTM(5, 8, num_layers=2, bias=False, bidirectional=True)" in text and "torch.randn(6, 3, 5)" in text
    own = program("torch", "bfloat16", "eager", call(LSTMSpec(5, 8, dtype="float16"), "forward"))
    assert "torch.nn.LSTM(5, 8, dtype=torch.float16)" in own and 'layer.to("cpu", torch.bfloat16)' in own
