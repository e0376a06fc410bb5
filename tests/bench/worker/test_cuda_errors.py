"""A sticky CUDA error costs the case that caused it and no other: it is recognised, typed, and its worker replaced."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from bench.gpu_check.groups import GROUPS, CheckGroup
from bench.harness import gpu_check, plan, session, study
from bench.machine import system
from bench.processes.code import HERE, Code
from bench.processes.process import WorkerProcess
from bench.regression.comparison import SIDES, PairedCase, Pairs
from bench.worker import __main__ as worker
from bench.worker import agreement, cuda_errors, prepare
from bench.worker.cuda_errors import STICKY, named_in, sticky_error
from results import store
from results.record import Header, Record
from results.store import Writer

HERE_FOLDER = Path(__file__).parent
ILLEGAL_INSTRUCTION = "CUDA_ERROR_ILLEGAL_INSTRUCTION"
HOWS = ("launch", "late", "abort")

WHERE = ("cell=lstm", "phase=forward", "batch=1")  # five hidden sizes of suite `many`
FAULTY_HIDDEN = 8  # neither the first nor the last that is measured


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory) -> Path:
    """A shared library that answers to the name of NVIDIA's driver, so that the worker asks it as it would ask the real one."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("the pretended driver needs a C compiler")
    library = tmp_path_factory.mktemp("driver") / cuda_errors.DRIVER
    options = ["-shared", "-fPIC", "-O1", f"-Wl,-soname,{cuda_errors.DRIVER}", "-o", str(library)]
    subprocess.run([compiler, *options, str(HERE_FOLDER / "fake_libcuda.c")], check=True)
    return library


@pytest.fixture
def fault(monkeypatch, fake_driver):
    """Says which size or part fails in workers, and how."""

    def choose(how: str, which: int) -> None:
        monkeypatch.setenv("LSTM_BENCH_FAULT", f"{how},{which},715,{fake_driver}")

    return choose


@pytest.fixture
def unreplaced(monkeypatch) -> None:
    """The harness as it would be without the replacement of workers."""
    monkeypatch.setattr(WorkerProcess, "_retire", lambda self, reply: reply)


@pytest.fixture
def on_a_gpu(monkeypatch) -> None:
    """The suite `many` measured as on a GPU: one backend's worker at a time."""
    monkeypatch.setitem(plan.SUITES, "many", dataclasses.replace(plan.SUITES["many"], device="cuda"))


def asked(**options) -> plan.Plan:
    made = plan.make("many", ["faulting", "numpy"], WHERE, threads=1, **options)
    return dataclasses.replace(made, studies=(study.get("throughput"),))


def run(folder: Path, collector, **options) -> list[Record]:
    path, footer = session.start(asked(**options), folder, collector)
    assert footer.complete
    found = [record for record in store.read(path).records if record.study == "throughput"]
    assert len(found) >= 10
    return found


def outcomes(records: list[Record]) -> Counter[tuple[str, str, str | None]]:
    return Counter((record.backend, record.status, record.kind) for record in records)


@pytest.mark.parametrize("how", HOWS)
def test_in_a_run_exactly_the_case_that_caused_it_fails(misbehaving, fault, tmp_path, collector, how):
    fault(how, FAULTY_HIDDEN)
    records = run(tmp_path, collector)
    assert outcomes(records) == {("numpy", "ok", None): 5, ("faulting", "ok", None): 4, ("faulting", "failed", "crash"): 1}
    (failed,) = [record for record in records if record.status == "failed"]
    assert failed.parameters["hidden_size"] == FAULTY_HIDDEN and ILLEGAL_INSTRUCTION in failed.reason


def test_on_a_gpu_too_where_one_worker_measures_every_case(misbehaving, fault, on_a_gpu, tmp_path, collector):
    fault("late", FAULTY_HIDDEN)
    records = run(tmp_path, collector, replicates=2)
    assert outcomes(records) == {("numpy", "ok", None): 10, ("faulting", "ok", None): 8, ("faulting", "failed", "crash"): 1}


def test_without_the_replacement_the_cases_that_follow_fail(misbehaving, fault, unreplaced, tmp_path, collector):
    fault("launch", FAULTY_HIDDEN)
    assert outcomes(run(tmp_path, collector))["faulting", "failed", "crash"] > 1


def parts(folder: Path, monkeypatch, how: str) -> dict[str, Record]:
    pytest.importorskip("torch")
    monkeypatch.setenv("PYTHONPATH", str(HERE_FOLDER.parent / "gpu_check" / "faulty_group"))
    monkeypatch.setitem(GROUPS, "faulty", CheckGroup("does a kernel fail?", 1, "modelled", 60, "faulty"))
    measured = gpu_check.CheckGroups(True, None, (0,), folder, Code()).measure(["faulty"])
    return {record.case: record for record in measured}


@pytest.mark.parametrize("how", HOWS[:2])
def test_in_gpu_check_only_the_causing_check_fails(fault, tmp_path, monkeypatch, how):
    fault(how, 1)
    found = parts(tmp_path, monkeypatch, how)
    failed = found.pop("part-1")
    assert (failed.status, failed.kind) == ("failed", "crash") and ILLEGAL_INSTRUCTION in failed.reason
    assert [record.status for record in found.values()] == ["ok"] * 5


def test_without_the_replacement_the_parts_that_follow_fail(fault, unreplaced, tmp_path, monkeypatch):
    fault("launch", 1)
    found = parts(tmp_path, monkeypatch, "launch")
    assert [record.status for record in found.values()] == ["ok", *["failed"] * 5]


def paired(folder: Path, collector) -> list[Record]:
    chosen = asked()
    writers = {side: Writer(folder / f"{side}.jsonl") for side in SIDES}
    for side, writer in writers.items():
        writer.append(Header(side, "", 1, "here", {}, {}))
    made = Pairs(chosen, dict.fromkeys(SIDES, HERE), writers, collector)
    (its,) = chosen.studies
    made.measure({PairedCase(its, case, "numpy", "faulting"): (0,) for case in chosen.cases(its)})
    return [record for records in made.records.values() for record in records.values()]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_in_a_comparison_only_the_causing_case_fails(misbehaving, fault, tmp_path, collector, monkeypatch, device):
    if device == "cuda":
        monkeypatch.setitem(plan.SUITES, "many", dataclasses.replace(plan.SUITES["many"], device="cuda"))
    fault("launch", FAULTY_HIDDEN)
    records = paired(tmp_path, collector)
    assert outcomes(records) == {("numpy", "ok", None): 5, ("faulting", "ok", None): 4, ("faulting", "failed", "crash"): 1}


def test_without_the_replacement_the_pairs_that_follow_fail(misbehaving, fault, unreplaced, tmp_path, collector):
    fault("launch", FAULTY_HIDDEN)
    assert outcomes(paired(tmp_path, collector))["faulting", "failed", "crash"] > 1


def test_the_worker_kept_for_a_study_is_replaced_too(misbehaving, fault, tmp_path):
    """Its answer says `died` after a corrupted context as after a death; see tests/bench/harness/test_sharing.py."""
    fault("launch", FAULTY_HIDDEN)
    (case,) = [case for case in asked().cases(study.get("throughput")) if case.spec.hidden_size == FAULTY_HIDDEN]
    made = WorkerProcess("faulting", system.usable()[:1], tmp_path)
    try:
        reply = made.request("alone", 60, study_name="memory", case=case.to_dict())
        assert (reply["status"], reply["kind"], reply["died"]) == ("failed", "crash", True)
        assert reply[cuda_errors.CORRUPTED] == ILLEGAL_INSTRUCTION
        assert made._process.poll() is not None, "nobody can ask it again by mistake"
    finally:
        made.close()
    assert study.get("memory").measure is not None


def test_the_context_is_asked_only_where_the_process_has_one(fake_driver):
    assert cuda_errors.context_error() is None or os.path.exists("/dev/nvidia0")
    driver = (
        "import ctypes, sys; from bench.worker import cuda_errors\n"
        "driver = ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)\n"
        "print(cuda_errors.context_error())\n"  # aborts if it were synchronised: no context is active
        "driver.fake_launch(0, 0); print(cuda_errors.context_error())\n"
        "driver.fake_launch(700, 1); print(cuda_errors.context_error())\n"
        "driver.fake_launch(0, 0); print(cuda_errors.corrupted(ValueError('CUDA error: misaligned address')))\n"
        "print(cuda_errors.corrupted(None))\n"
    )
    said = subprocess.run([HERE.python, "-c", driver, fake_driver], capture_output=True, text=True, check=True)
    illegal = "CUDA_ERROR_ILLEGAL_ADDRESS"
    assert said.stdout.split() == ["None", "None", illegal, "CUDA_ERROR_MISALIGNED_ADDRESS", illegal]


def from_another(error: BaseException, cause: BaseException) -> BaseException:
    try:
        raise error from cause
    except BaseException as raised:
        return raised


class AcceleratorError(RuntimeError):
    """As PyTorch has it: the runtime's number beside the text."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.error_code = code


def test_every_frameworks_sticky_errors_are_recognised():
    for number, (driver, runtime, text) in STICKY.items():
        for error in (
            RuntimeError(f"cuLaunchKernelEx failed: {driver}"),
            RuntimeError(f"CUDA error: {text}\nCUDA kernel errors might be asynchronously reported at some other API call"),
            RuntimeError(f"Triton Error [CUDA]: {text}"),
            RuntimeError(f"INTERNAL: Could not synchronize CUDA stream: {driver}: {text}"),
            RuntimeError(f"CUDA failure {number}: {text} ; GPU=0 ; hostname=a"),
            RuntimeError(f"{runtime}: {text}"),
            AcceleratorError("what PyTorch will say one day", number),
            from_another(ValueError("it did not work"), RuntimeError(f"CUDA error: {text}")),
            ExceptionGroup("several", [KeyError("a"), RuntimeError(f"CUDA error: {text}")]),
        ):
            assert sticky_error(error) == driver, error


def test_our_own_driver_error_is_recognised():
    driver = pytest.importorskip("impls.cuda.runtime.driver", exc_type=ImportError)
    assert sticky_error(driver.DriverError("cuLaunchKernelEx", ILLEGAL_INSTRUCTION)) == ILLEGAL_INSTRUCTION


@pytest.mark.parametrize("message", [
    "CUDA out of memory. Tried to allocate 2.00 GiB", "cuLaunchKernelEx failed: CUDA_ERROR_INVALID_CLUSTER_SIZE",
    "CUDA error: invalid argument", "misaligned address", "CUDA_ERROR_ASSERTION", "outputs is off by 0.25", "",
])  # fmt: skip
def test_what_a_process_survives_is_no_sticky_error(message):
    assert sticky_error(RuntimeError(message)) is None and named_in(message) is None
    assert sticky_error(AcceleratorError(message, 1)) is None


def test_the_harnesss_own_words_are_no_error_of_the_process():
    """The sanitizer's report names the error of the process that it watched."""

    def rejects() -> dict[str, object]:
        raise prepare.Rejected("compute-sanitizer says: CUDA_ERROR_ILLEGAL_ADDRESS")

    def disagrees() -> dict[str, object]:
        raise agreement.Disagreement("off") from RuntimeError("CUDA error: misaligned address")

    assert worker._answer(rejects, {})[0]["kind"] == "wrong"
    reply, _ = worker._answer(disagrees, {})
    assert reply["kind"] == "crash" and reply["reason"] == "CUDA_ERROR_MISALIGNED_ADDRESS: off"


def test_the_list_is_that_of_cudas_own_documentation():
    documented = pytest.importorskip("cuda.bindings.driver", reason="pip install cuda-bindings").CUresult
    runtime = pytest.importorskip("cuda.bindings.runtime")
    ends = ("process must be terminated", "context cannot be used")
    said = {item.value for item in documented if any(end in " ".join((item.__doc__ or "").split()) for end in ends)}
    assert len(said) >= 13
    assert set(STICKY) == said | {214, 220}
    for number, (driver, name, text) in STICKY.items():
        assert documented(number).name == driver
        found = [
            call(runtime.cudaError_t(number))[1].decode() for call in (runtime.cudaGetErrorName, runtime.cudaGetErrorString)
        ]
        assert found == [name, text]
