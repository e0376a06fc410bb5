"""Peak memory on a GPU by NVML: of this process where NVML lists it, else of the device, and the measurement says which.

No GPU: NVML is a fake one, and the case's network holds what the test says.
"""

from __future__ import annotations

import os
import sys
import time
from types import SimpleNamespace

import pytest

from bench import costs
from bench.harness.case import Case
from bench.machine import system
from bench.worker import memory, prepare
from impls import LSTMSpec

CASE = Case(LSTMSpec(8, 8, device="cuda"), 4, 2, "forward_backward")
CONTEXT, FOREIGN, OWN = 500 << 20, 3 << 30, 1 << 30


class FakeNVML:
    """A GPU on which another process holds `foreign` bytes, and this one its context and `held` bytes more."""

    NVMLError = type("NVMLError", (Exception,), {})

    def __init__(self, listed: bool = True, tells: bool = True, answers: bool = True) -> None:
        self.listed, self.tells, self.answers = listed, tells, answers
        self.held, self.foreign = 0, FOREIGN

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, gpu: int) -> list[SimpleNamespace]:
        if not self.answers:
            raise self.NVMLError("refuted")
        own = SimpleNamespace(pid=os.getpid() if self.listed else 7, usedGpuMemory=CONTEXT + self.held if self.tells else None)
        return [SimpleNamespace(pid=1, usedGpuMemory=self.foreign), own]

    def nvmlDeviceGetMemoryInfo(self, gpu: int) -> SimpleNamespace:
        return SimpleNamespace(used=self.foreign + CONTEXT + self.held, free=80 << 30)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch):
    """Puts a fake NVML in place; loading and calling then holds `OWN` bytes, and for 40 ms of a call twice as many."""

    def put(nvml: FakeNVML, foreign_grows: int = 0) -> None:
        def call() -> None:
            nvml.held = 2 * OWN
            time.sleep(0.04)
            nvml.held = OWN
            nvml.foreign = FOREIGN + foreign_grows

        def load(case: Case, backend: str, data: object) -> SimpleNamespace:
            nvml.held = OWN
            return SimpleNamespace(call=call, wait=lambda: None)

        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        monkeypatch.setattr(prepare, "load", load)
        monkeypatch.setattr(prepare, "verify", lambda prepared, in_full: prepared)
        monkeypatch.setattr(costs, "require", lambda case: None)

    return put


def device_peak() -> tuple[float, str]:
    (found,) = (each for each in memory.measure_memory("cuda", CASE) if each.metric == "device_peak")
    (note,) = found.notes
    return found.samples[0], note


def test_a_process_that_nvml_lists_is_asked_for_its_own(loaded) -> None:
    """What another process takes meanwhile is not counted, nor the context."""
    loaded(FakeNVML(), foreign_grows=5 << 30)
    assert device_peak() == (2 * OWN, memory.OF_PROCESS)


@pytest.mark.parametrize("nvml", [FakeNVML(listed=False), FakeNVML(tells=False), FakeNVML(answers=False)])
def test_an_unlisted_process_has_the_whole_devices_memory(loaded, nvml: FakeNVML) -> None:
    loaded(nvml)
    assert device_peak() == (2 * OWN, memory.OF_DEVICE)


def test_of_the_whole_device_another_process_counts(loaded) -> None:
    """Why it is the second choice."""
    loaded(FakeNVML(listed=False), foreign_grows=5 << 30)
    found, note = device_peak()
    assert found > 2 * OWN and note == memory.OF_DEVICE


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_a_frameworks_context_is_up_before_the_first_look(loaded, framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it would count as the case's, or NVML would not list the process when that is asked."""
    nvml = FakeNVML(listed=False)
    loaded(nvml)

    def start(*_: object, **__: object) -> None:
        nvml.listed = True

    nothing = SimpleNamespace(
        is_available=lambda: True, init=lambda: None, empty_cache=lambda: None, reset_peak_memory_stats=lambda: None,
        max_memory_allocated=lambda: 0, max_memory_reserved=lambda: 0,
    )  # fmt: skip
    fakes = {
        "torch": SimpleNamespace(cuda=nothing, zeros=start),
        "jax": SimpleNamespace(device_put=start, block_until_ready=id),
    }
    for name in ("torch", "jax"):
        if name == framework:
            monkeypatch.setitem(sys.modules, name, fakes[name])
        else:
            monkeypatch.delitem(sys.modules, name, raising=False)
    assert device_peak() == (2 * OWN, memory.OF_PROCESS)


def test_a_gauge_keeps_to_what_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference of the process's bytes and the device's would mean nothing."""
    nvml = FakeNVML()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    gauge = memory.Gauge()
    assert gauge.read() == CONTEXT
    nvml.listed = False
    with pytest.raises(system.NoNVML, match="does not tell any more"):
        gauge.read()
