"""The doctor asks each backend for what it supports, says what is absent, and is readable in 80 columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

import impls
from bench import doctor
from bench.doctor import Finding, Quietness, case_for
from impls import backends
from lstm_bench import views

DIES = """
RUNS = ("numpy",)
{facts}

def refuses(spec, phase, ragged):
    {body}

def load(spec, params, batch):
    raise AssertionError
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes a backend of these static facts and this refusal, and no other backend is examined."""
    monkeypatch.setenv("LSTM_BENCH_BACKENDS", str(tmp_path))
    monkeypatch.setattr(backends, "__path__", [*backends.__path__, str(tmp_path)])
    monkeypatch.setattr(impls, "names", lambda: ["written"])

    def write(facts: str, body: str) -> list[Finding]:
        (tmp_path / "written.py").write_text(DIES.format(facts=facts, body=body))
        return list(doctor.examine())

    return write


def test_every_backend_is_asked_for_what_its_file_says_it_supports():
    for name in impls.names():
        for device in impls.devices(name):
            case = case_for(name, device)
            assert case.spec.cell in impls.cells(name) and case.spec.dtype in impls.dtypes(name), name
            assert case.phase in impls.phases(name) and case.spec.device == device
    assert case_for("flashrnn", "cuda").spec.dtype == "bfloat16"
    assert case_for("fla", "cuda").spec.cell == "minlstm"
    assert case_for("torch", "cpu").spec.dtype == "float32" and case_for("torch", "cpu").spec.cell == "lstm"


def test_a_device_that_a_backend_is_not_made_for_is_not_asked(written):
    (finding,) = written('DEVICES = ("cpu",)\nDTYPES = ("bfloat16", "float16")', "return f'{spec.dtype} {spec.device}'")
    assert finding == Finding("written", "cpu", "lstm", "bfloat16", False, "bfloat16 cpu")


def test_what_needs_a_package_that_is_absent_says_which(written):
    facts = 'FRAMEWORK = ("torch",)\nPACKAGE = "surely_not_installed"\nDEVICES = ("cpu",)'
    (finding,) = written(facts, "return 'it is not installed; pip install it'")
    assert finding.absent == "surely_not_installed" and not finding.runs
    (finding,) = written('DEVICES = ("cpu",)\nPACKAGE = "numpy"', "return 'some other reason'")
    assert finding.absent is None


def test_a_backend_that_dies_on_one_device_is_asked_afresh_on_the_next(written):
    first, second = written("", "import ctypes; ctypes.string_at(0) if spec.device == 'cpu' else None; return 'on CUDA'")
    assert "killed by SIGSEGV" in first.detail
    assert second.detail == "on CUDA"


def test_the_optional_packages_are_missed_before_the_gpu_is():
    """So that a machine without either says first what can be installed."""
    pytest.importorskip("torch")
    for name in ("fla", "flashrnn", "xlstm"):
        (package,) = set(impls.packages(name)) - {"torch"}
        if not doctor.importlib.util.find_spec(package):
            case = case_for(name, "cuda")
            assert "not installed; pip install" in str(impls.get(name).refuses(case.spec, case.phase, False))


def test_long_sentences_wrap_and_none_is_cut(monkeypatch: pytest.MonkeyPatch):
    long = " ".join(f"word{number}" for number in range(60))
    findings = [
        Finding("torch_compile", "cpu", "lstm", "float32", True, f"ran {long}"),
        Finding("jax_cudnn", "cuda", "lstm", "tensorfloat32", False, f"why {long}"),
        Finding("torch_compile", "cuda", "lstm", "tensorfloat32", False, f"why {long}"),
        Finding("flashrnn", "cuda", "lstm", "bfloat16", False, f"pip install {long}", "flashrnn"),
    ]
    screen = Console(width=80, highlight=False, no_color=True, record=True)
    monkeypatch.setattr(views, "console", lambda: screen)
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    monkeypatch.setattr(doctor, "quietness", lambda: Quietness(1.0, 1.0, 0.0))
    views.doctor(False)
    text = screen.export_text()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert all(text.split().count(f"word{number}") == 3 for number in range(60)), "and a reason of two is said once"
    assert "how to install it" in text and text.index("does not run here") < text.index("not installed")
