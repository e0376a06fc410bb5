"""The doctor asks each backend for what it supports, says what is absent, and is readable in 80 columns."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

import impls
from bench.machine import doctor, environment, noise
from bench.machine.doctor import Finding, case_for
from bench.machine.noise import Reading
from impls import backends
from lstm_bench.views import doctor as views_doctor
from lstm_bench.views import tables

QUIET = Reading(1.01, 1.04, 0.004, 0.01, 0.0, 0.2)
NOISY = Reading(1.01, 1.04, 0.004, 0.48, 0.0, 2.5)

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


def test_every_backend_is_asked_for_what_it_supports():
    for name in impls.names():
        for device in impls.facts(name).devices:
            case = case_for(name, device)
            assert case.spec.cell in impls.facts(name).cells and case.spec.dtype in impls.facts(name).dtypes, name
            assert case.phase in impls.facts(name).phases and case.spec.device == device
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


def test_a_backend_that_died_is_asked_afresh_on_the_next_device(written):
    first, second = written("", "import ctypes; ctypes.string_at(0) if spec.device == 'cpu' else None; return 'on CUDA'")
    assert "killed by SIGSEGV" in first.detail
    assert second.detail == "on CUDA"


def test_the_optional_packages_are_missed_before_the_gpu_is():
    """So that a machine without either says first what can be installed."""
    pytest.importorskip("torch")
    for name in ("fla", "flashrnn", "xlstm"):
        (package,) = set(impls.facts(name).packages) - {"torch"}
        if not doctor.importlib.util.find_spec(package):
            case = case_for(name, "cuda")
            assert "not installed; pip install" in str(impls.get(name).refuses(case.spec, case.phase, False))


def shown(monkeypatch: pytest.MonkeyPatch, findings: list[Finding], reading: Reading, width: int = 80, **options) -> str:
    screen = Console(width=width, highlight=False, no_color=True, record=True)
    monkeypatch.setattr(tables, "console", lambda: screen)
    monkeypatch.setattr(doctor, "examine", lambda thorough: findings)
    monkeypatch.setattr(noise, "read", lambda seconds: reading)
    monkeypatch.setattr(environment, "gpu_list", lambda: [{"name": "NVIDIA Test"}] * options.get("gpus", 1))
    monkeypatch.setattr(views_doctor, "_calibration", lambda: options.get("calibration"))
    views_doctor.doctor(False, options.get("thorough", False))
    text = screen.export_text()
    assert max(map(len, text.splitlines())) <= width and "…" not in text
    return text


@pytest.mark.parametrize("width", [80, 40])
def test_long_sentences_wrap_and_none_is_cut(monkeypatch: pytest.MonkeyPatch, width: int):
    long = " ".join(f"word{number}" for number in range(60))
    findings = [
        Finding("torch_compile", "cpu", "lstm", "float32", True, f"ran {long}"),
        Finding("jax_cudnn", "cuda", "lstm", "tensorfloat32", False, f"why {long}"),
        Finding("torch_compile", "cuda", "lstm", "tensorfloat32", False, f"why {long}"),
        Finding("fla", "cuda", "minlstm", "bfloat16", False, f"not installed {long}", "fla"),
    ]
    text = shown(monkeypatch, findings, QUIET, width)
    assert all(text.split().count(f"word{number}") == 3 for number in range(60)), "and a reason of two is said once"
    lines = [line.rstrip() for line in text.splitlines()]
    assert "   pip install 'fla-core[cuda]'" in lines, "the command to type stands on a line of its own"


def test_three_questions_are_answered_under_three_headings(monkeypatch: pytest.MonkeyPatch):
    findings = [
        Finding("numpy", "cpu", "lstm", "float32", True, "numpy 2.0"),
        Finding("broken", "cpu", "lstm", "float32", False, "the worker was killed by SIGSEGV", failed=True),
        Finding("cudnn", "cuda", "lstm", "float32", False, "torch finds no CUDA device here"),
        Finding("fla", "cuda", "minlstm", "float32", False, "not installed; pip install fla-core; needs a GPU", "fla"),
    ]
    text = shown(monkeypatch, findings, NOISY, gpus=0)
    headings = ["What runs here", "What is missing, and how to get it", "How noisy this machine is"]
    places = [text.index(heading) for heading in headings]
    runs, missing, noisy = (text[first:last] for first, last in zip(places, [*places[1:], None], strict=True))
    assert places == sorted(places) and "numpy 2.0" in runs and "   lstm-bench doctor --thorough\n" in runs
    assert "broken on cpu: failed" in missing and "SIGSEGV" in missing and missing.index("broken") < missing.index("cudnn")
    assert "an NVIDIA GPU, which cudnn on cuda needs" in missing and "   pip install 'fla-core[cuda]'\n" in missing
    assert "Noisy: other processes use 48 % of the processors." in noisy and "What to do:" in noisy
    assert "Differences from 0.40 % on" in noisy and "   lstm-bench calibrate\n" in noisy


def test_a_quiet_calibrated_machine_with_everything_is_told_so(monkeypatch: pytest.MonkeyPatch):
    findings = [Finding("numpy", "cpu", "lstm", "float32", True, "numpy, numpy 2.0")]
    text = shown(monkeypatch, findings, QUIET, thorough=True, calibration="3 % can be detected on 9 of 9 cases")
    assert "validated in" in text and "--thorough" not in text and "get it\nnothing\n" in text
    assert "Quiet." in text and "What to do" not in text and "lstm-bench calibrate" not in text
    assert "Noise calibration of suite quick: 3 % can be detected on 9 of 9 cases" in text


def test_only_a_thorough_examination_computes(written):
    (found,) = written('DEVICES = ("cpu",)', "return None")
    assert found.runs and not found.failed
    (found,) = doctor.examine(thorough=True)
    assert not found.runs and found.failed and "AssertionError" in found.detail


def test_backends_are_examined_side_by_side(misbehaving: None, monkeypatch: pytest.MonkeyPatch):
    """On all processors, and not in a row on the first of them."""
    pinned: list[tuple[int, ...]] = []
    started = doctor.WorkerProcess.__init__

    def start(self, backend, cpus, *arguments) -> None:
        pinned.append(tuple(cpus))
        started(self, backend, cpus, *arguments)

    monkeypatch.setattr(doctor.WorkerProcess, "__init__", start)
    monkeypatch.setattr(impls, "names", lambda: ["null", "numpy", "slowed", "talkative"])
    usable = doctor.system.usable()[:2]
    monkeypatch.setattr(doctor.system, "usable", lambda: usable)
    assert len(list(doctor.examine(("cpu",)))) == 4
    assert set(pinned) == {(cpu,) for cpu in usable}


def test_every_optional_backend_names_its_install_command(monkeypatch: pytest.MonkeyPatch):
    for name in ("fla", "flashrnn", "xlstm"):
        if not all(doctor.importlib.util.find_spec(package) for package in impls.facts(name).packages):
            with monkeypatch.context() as patch:
                patch.setattr(impls, "names", lambda name=name: [name])
                (finding,) = doctor.examine(("cuda",))
            assert finding.absent and finding.install and finding.install.startswith("pip install ")
