"""A probe that fails is recorded as unknown, never as the value that looks harmless."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest

from analysis.regression import history
from analysis.report import load
from bench.machine import conditions, environment, noise, system
from bench.machine.conditions import GpuWatch, Watch
from results.record import Footer, Header
from results.store import Run


class NVMLError(Exception):
    pass


class NoLibrary(NVMLError):
    pass


class NotLoaded(NVMLError):
    pass


PROBES = {
    "nvmlDeviceGetClockInfo": 1500, "nvmlDeviceGetPowerUsage": 300_000, "nvmlDeviceGetTemperature": 50,
    "nvmlDeviceGetCurrentClocksEventReasons": 0, "nvmlDeviceGetComputeRunningProcesses": [],
}  # fmt: skip


def fake_nvml(failing: tuple[str, ...] = (), after: int = 0, **values: object) -> SimpleNamespace:
    """NVML with one GPU; the probes that fail do so after so many good answers."""
    counted: dict[str, int] = {}

    def probe(name: str):
        def answer(*_: object):
            counted[name] = counted.get(name, 0) + 1
            if name in failing and counted[name] > after:
                raise NVMLError(f"{name} is not supported")
            return (PROBES | values)[name]

        return answer

    constants = {
        f"nvmlClocksEventReason{name}": 1 << place
        for place, name in enumerate(
            ("HwSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown", "SwThermalSlowdown", "SwPowerCap")
        )
    }
    return SimpleNamespace(
        NVMLError=NVMLError, NVML_CLOCK_SM=0, NVML_CLOCK_MEM=1, NVML_TEMPERATURE_GPU=0, **constants,
        **{name: probe(name) for name in PROBES},
    )  # fmt: skip


def watched(monkeypatch: pytest.MonkeyPatch, fake: SimpleNamespace) -> Watch:
    monkeypatch.setattr(system, "first_gpu", lambda: (fake, 0))
    monkeypatch.setattr(conditions, "SAMPLE_SECONDS", 0.005)
    with Watch("cuda") as watch:
        watch.note_turn("torch")
        time.sleep(0.05)
    return watch


def test_where_nvml_answers_nothing_is_unknown(monkeypatch: pytest.MonkeyPatch):
    summary = watched(monkeypatch, fake_nvml()).summary
    assert summary["hardware_slowdown"] is False and summary["foreign_processes"] == [] and summary["sm_clock_mhz"] == 1500
    assert "gpu_unknown" not in summary


@pytest.mark.parametrize("after", [0, 3], ids=["from the start", "later"])
@pytest.mark.parametrize(("probe", "names"), [
    ("nvmlDeviceGetCurrentClocksEventReasons", ("hardware_slowdown", "power_capped")),
    ("nvmlDeviceGetComputeRunningProcesses", ("foreign_processes",)),
])  # fmt: skip
def test_what_nvml_does_not_tell_is_unknown(monkeypatch, probe: str, names: tuple[str, ...], after: int):
    watch = watched(monkeypatch, fake_nvml((probe,), after))
    assert all(watch.summary[name] is None for name in names)
    assert f"{probe} is not supported" in watch.summary["gpu_unknown"].values()
    assert watch.summary["sm_clock_mhz"] == 1500 and watch.invalid() is None, "the other probes go on"


def test_unknown_clocks_watts_and_heat_are_no_zeros(monkeypatch: pytest.MonkeyPatch):
    failing = ("nvmlDeviceGetClockInfo", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetTemperature")
    watch = watched(monkeypatch, fake_nvml(failing))
    assert [watch.summary[name] for name in ("sm_clock_mhz", "memory_clock_mhz", "watts", "celsius")] == [None] * 4
    assert watch.of("torch")["sm_clock_mhz"] is None and watch.summary["hardware_slowdown"] is False


def test_a_seen_slowdown_counts_although_a_sample_failed(monkeypatch: pytest.MonkeyPatch):
    slowed = fake_nvml(("nvmlDeviceGetCurrentClocksEventReasons",), 2, nvmlDeviceGetCurrentClocksEventReasons=1)
    assert "slowed itself down" in str(watched(monkeypatch, slowed).invalid())


def test_foreign_and_unidentified_processes_are_told_apart(monkeypatch: pytest.MonkeyPatch):
    running = [SimpleNamespace(pid=pid) for pid in (os.getpid(), 1, 999_999_999)]
    watch = watched(monkeypatch, fake_nvml(nvmlDeviceGetComputeRunningProcesses=running))
    assert watch.summary["foreign_processes"] == [1] and watch.summary["unidentified_processes"] == [999_999_999]
    assert "another process used the GPU" in str(watch.invalid())


def test_a_process_is_asked_about_while_it_runs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(system, "first_gpu", lambda: (fake_nvml(), 0))
    answers = iter([False, AssertionError])
    monkeypatch.setattr(conditions, "_is_ours", lambda pid: next(answers))
    watch = GpuWatch()
    watch._seen([7])
    watch._seen([7])
    assert watch.processes == {7: False}, "though it has ended since"


def listing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, driver: bool, **changes: object) -> list | None:
    def ok(value: object):
        return lambda *_: value

    fake = SimpleNamespace(
        NVMLError=NVMLError, NVMLError_LibraryNotFound=NoLibrary, NVMLError_DriverNotLoaded=NotLoaded, nvmlInit=ok(None),
        nvmlDeviceGetCount=ok(1), nvmlDeviceGetHandleByIndex=ok(0), nvmlDeviceGetName=ok("NVIDIA H100"),
        nvmlDeviceGetMemoryInfo=ok(SimpleNamespace(total=80)), nvmlDeviceGetPowerManagementLimit=ok(700_000),
        nvmlSystemGetDriverVersion=ok("580"), nvmlSystemGetCudaDriverVersion=ok(13000),
    )  # fmt: skip
    vars(fake).update(changes)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", fake)
    device = tmp_path / "nvidiactl"
    if driver:
        device.touch()
    monkeypatch.setattr(environment, "DRIVER_DEVICE", device)
    return environment.gpu_list()


def raising(error: Exception):
    def fail(*_: object):
        raise error

    return fail


@pytest.mark.parametrize(("driver", "changes", "found"), [
    (False, {"nvmlInit": raising(NoLibrary())}, []), (False, {"nvmlInit": raising(NotLoaded())}, []),
    (True, {"nvmlInit": raising(NoLibrary())}, None), (True, {"nvmlInit": raising(NVMLError("version mismatch"))}, None),
    (False, {"nvmlInit": raising(NVMLError("no permission"))}, None),
    (True, {"nvmlDeviceGetCount": raising(NVMLError())}, None),
    (True, {"nvmlDeviceGetHandleByIndex": raising(NVMLError("GPU is lost"))}, None),
])  # fmt: skip
def test_gpus_that_nvml_does_not_tell_are_not_none(monkeypatch, tmp_path: Path, driver: bool, changes: dict, found):
    assert listing(monkeypatch, tmp_path, driver, **changes) == found


def test_a_value_that_a_card_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (gpu,) = listing(monkeypatch, tmp_path, True, nvmlDeviceGetPowerManagementLimit=raising(NVMLError("Not Supported"))) or ()
    assert gpu["power_limit_watts"] is None and gpu["name"] == "NVIDIA H100" and gpu["memory_bytes"] == 80


def test_a_machine_whose_gpus_are_unknown_is_not_the_one_without():
    described = {"cpu": {"model": "M", "cores": 2}, "memory_bytes": 1 << 34}
    without, unknown = (environment.machine_name(described | {"gpus": gpus}) for gpus in ([], None))
    assert without != unknown and "gpus-unknown" in unknown


def test_load_that_the_system_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "getloadavg", raising(OSError("unobtainable")))
    assert system.load_average() is None
    assert noise.processor_time(raising(PermissionError())) is None
    monkeypatch.setattr(noise, "processor_time", lambda: None)
    with Watch("cpu") as watch:
        pass
    assert watch.summary["load_average"] is None and "others_share" not in watch.summary
    assert noise.read(0.01).others_share is None


@pytest.mark.parametrize("git", [
    {"commit": None, "committed": None, "dirty": None, "reason": "git is ill"}, {"commit": "a" * 40, "dirty": None}, {},
    {"commit": "a" * 40, "dirty": None, "reason": "git status did not answer"}, {"commit": "a" * 40},
], ids=str)  # fmt: skip
def test_a_run_of_unknown_commit_is_no_point_of_history(tmp_path: Path, git: dict):
    header = Header("r", "2026-01-01T00:00:00+00:00", 1, "m", {"git": git}, {"suite": "quick", "studies": ["throughput"]})
    run = Run(tmp_path / "r.jsonl", header, (), Footer("2026-01-01T00:00:01+00:00", True, 1.0, 1.0))
    assert history.commit_of(run) is None
    assert any("not known to be" in " ".join(said) for said in load._said_of(run))


def test_the_versions_of_the_frameworks_are_recorded():
    recorded = environment.describe(1)["packages"]
    assert {"numpy", "torch", "lstm-bench"} <= recorded.keys() and recorded["numpy"] == numpy.__version__
