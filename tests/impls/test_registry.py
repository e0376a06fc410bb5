"""The folder is the registry: names, nearest matches, missing frameworks, and the sentences in which backends refuse."""

from __future__ import annotations

import builtins
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import get_args

import pytest
import torch

import impls
from bench.harness.case import PHASES, Case
from impls import GRUSpec, LSTMSpec, RNNSpec
from impls.specs.recurrent import CELLS, DType

NAMES = impls.names()


def test_names_are_the_files() -> None:
    expected = {"cudnn", "flax", "jax", "jax_cudnn", "null", "numpy", "onnxruntime", "torch", "torch_compile"}
    expected |= {"torch_loop"}
    assert expected <= set(NAMES)
    assert sorted(NAMES) == NAMES
    assert not any(name.startswith("_") for name in NAMES)


def test_listing_imports_no_framework() -> None:
    script = (
        "import sys, impls; assert 'torch' in impls.names(); "
        "print(sorted({'torch', 'jax', 'flax', 'onnx', 'onnxruntime', 'ml_dtypes'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_an_unknown_backend_names_the_nearest() -> None:
    with pytest.raises(impls.UnknownName, match=r"no backend 'trch' \(did you mean 'torch'\?\); choose from .*torch"):
        impls.get("trch")


def test_a_missing_framework_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without_onnxruntime(name: str, *rest, **options):
        if name == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without_onnxruntime)
    monkeypatch.delitem(sys.modules, "impls.backends.onnxruntime", raising=False)
    with pytest.raises(impls.Unavailable, match=r"onnxruntime needs the package onnxruntime.*pip install onnxruntime"):
        impls.get("onnxruntime")


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_known_without_importing_and_are_those_it_runs(name: str) -> None:
    backend = available(name)
    said = [
        backend.refuses(cell(3, 4, device=impls.facts(name).devices[0]), "forward", False) or "" for cell in (RNNSpec, GRUSpec)
    ]
    assert [f"no {cell}" in text for cell, text in zip(("rnn", "gru"), said, strict=True)] == [
        cell not in impls.facts(name).cells for cell in ("rnn", "gru")
    ]


def test_facts_are_read_from_the_file_and_default_to_everything(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        '"""My own. And more."""\nraise ImportError\nFRAMEWORK = ("torch",)\nPACKAGE = "mine"\nDISTRIBUTION = "my-own[gpu]"\n'
        'DEVICES = ("cuda",)\nDTYPES = {"float32": 1}\n'
    )
    (tmp_path / "bare.py").write_text("CELLS = tuple(known)\nRUNS = ()\n")
    (tmp_path / "plain.py").write_text("RUNS = ()\n")
    with impls.searched([tmp_path]):
        mine, plain = impls.facts("mine"), impls.facts("plain")
        with pytest.raises(ValueError):
            impls.facts("bare")  # its cells are no literal
    assert (mine.summary, mine.devices, mine.dtypes, mine.framework) == ("My own. And more.", ("cuda",), ("float32",), "torch")
    assert mine.packages == ("torch", "mine")
    assert [mine.install_command(package) for package in mine.packages] == ["pip install torch", "pip install 'my-own[gpu]'"]
    assert plain == impls.BackendFacts(
        "plain", "", ("cpu", "cuda"), tuple(CELLS), get_args(DType), PHASES, ("eager",), "plain", (), None
    )


def test_the_table_holds_the_facts_of_every_backend() -> None:
    table = impls.table()
    assert list(table) == NAMES and all(facts == impls.facts(name) for name, facts in table.items())
    assert "graph" in table["cudnn"].launches and table["cuda"].cells == ("lstm", "lstm_stack")


@pytest.mark.parametrize("name", NAMES)
def test_refusals_are_sentences_with_a_remedy(name: str) -> None:
    backend = available(name)
    networks = [
        cell(3, 4, dtype=dtype, device=device, bidirectional=bidirectional, bias=bias)
        for cell, dtype, device, bidirectional, bias in product(
            (LSTMSpec, GRUSpec, RNNSpec), get_args(DType), ("cpu", "cuda"),
            (False, True), (False, True),
        )
    ]  # fmt: skip
    for spec, phase, ragged in product([*networks, LSTMSpec(3, 4, proj_size=2)], PHASES, (False, True)):
        reason = backend.refuses(spec, phase, ragged)
        if reason is not None:
            assert len(reason.split()) > 6, reason
            assert any(remedy in reason for remedy in ("ask for", "use the backend", "install", "the backends")), reason


@pytest.mark.parametrize(
    ("name", "spec", "phase", "ragged", "part"),
    [
        ("onnxruntime", LSTMSpec(3, 4), "forward_backward", False, "infers and does not train"),
        ("torch", LSTMSpec(3, 4, dtype="tensorfloat32"), "forward", False, "TF32 is how a GPU's tensor cores multiply"),
        ("jax", LSTMSpec(3, 4, dtype="tensorfloat32"), "forward", False, "ask for device=cuda, or for dtype=float32"),
        ("onnxruntime", LSTMSpec(3, 4, dtype="float64"), "forward", False, "computes in float32, not in float64"),
        ("flax", LSTMSpec(3, 4, bias=False), "forward", False, "always has a bias"),
        ("flax", LSTMSpec(3, 4, proj_size=2), "forward", False, "has no projection"),
        ("torch_loop", GRUSpec(3, 4), "forward", False, "runs lstm and no gru"),
        ("cudnn", LSTMSpec(3, 4), "forward", False, "runs on cuda, not on cpu"),
        ("jax_cudnn", LSTMSpec(3, 4), "forward", False, "runs on cuda, not on cpu"),
        ("torch", LSTMSpec(3, 4, bidirectional=True), "step", False, "cannot stream"),
        ("numpy", LSTMSpec(3, 4), "step", True, "lengths mean nothing to a single streaming step"),
    ],
)
def test_what_is_refused(name: str, spec: impls.Spec, phase: impls.Phase, ragged: bool, part: str) -> None:
    assert part in (available(name).refuses(spec, phase, ragged) or "")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("name", ["torch", "torch_loop", "torch_compile", "cudnn", "jax", "jax_cudnn", "flax"])
def test_without_a_cuda_device(name: str) -> None:
    backend = available(name)
    case = Case(LSTMSpec(3, 4, device="cuda"), 5, 2)
    assert "finds no CUDA device here" in (backend.refuses(case.spec, "forward", False) or "")
    with pytest.raises(impls.Unavailable, match="finds no CUDA device here; run on a machine with an NVIDIA GPU"):
        backend.load(case.spec, *case.data())


def available(name: str) -> impls.Backend:
    try:
        return impls.get(name)
    except impls.Unavailable as error:
        pytest.skip(str(error))
