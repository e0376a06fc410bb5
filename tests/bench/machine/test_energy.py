"""Energy of calls from a tree of RAPL's counters with known microjoules, from NVML, and the reasons where neither tells."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.harness.case import Case
from bench.machine import energy, system
from bench.machine.energy import Meter, Zone
from bench.processes.response import Observed, Subject, WorkerResponse, build_record, parse_reply
from bench.worker import __main__ as worker_module
from impls import LSTMSpec
from results.record import NO_ENERGY

SPAN = 65_532_610_987  # microjoules, as a kernel gives it


def rapl(root: Path, *microjoules: int) -> Path:
    """Zones of packages, the first with one of its cores below it, which is not added a second time."""
    for number, value in enumerate(microjoules):
        zone = root / f"intel-rapl:{number}"
        for folder, name in ((zone, f"package-{number}"), (root / "intel-rapl:0:0", "core")):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "name").write_text(f"{name}\n")
            (folder / "energy_uj").write_text(f"{value}\n")
            (folder / "max_energy_range_uj").write_text(f"{SPAN}\n")
    return root


def measured(root: Path, *after: int, calls: int = 4, seconds: float = 0.05) -> Meter:
    found = Meter(energy.packages(root), energy.RAPL_SECONDS)
    found.start()
    rapl(root, *after)
    found.stop(calls, seconds)
    return found


def test_joules_of_all_packages_are_shared_by_the_calls(tmp_path: Path) -> None:
    found = measured(rapl(tmp_path, 1_000_000, 5_000_000), 3_000_000, 7_000_000)
    assert found.samples == [pytest.approx((2 + 2) / 4)] and not found.reason


def test_a_counter_that_started_again_is_counted_on(tmp_path: Path) -> None:
    found = measured(rapl(tmp_path, SPAN - 1_500_000), 500_000)
    assert found.samples == [pytest.approx(2 / 4)]


def test_a_turn_too_short_for_the_counter_is_not_measured(tmp_path: Path) -> None:
    found = measured(rapl(tmp_path, 0), 9, seconds=0.019)
    assert found.samples == [] and found.reason == "a turn of 19 ms is too short for a counter that changes every 1 ms"


def test_a_window_begins_and_ends_with_a_change() -> None:
    """2 J a call, in a counter that changes with every third call: the calls before the first change are not counted."""
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    found = Meter((Zone(lambda: 6.0 * (calls // 3)),), update_seconds=1e-3)
    call()
    found.window(call, 1)
    assert found.samples == [pytest.approx(2.0)]
    still = Meter((Zone(lambda: 1.0),), update_seconds=1e-3)
    still.window(call, 1)
    assert still.samples == [] and "did not change" in still.reason


def test_why_a_processor_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path / "none")
    assert energy.meter("cpu").reason == f"this machine has no RAPL counter of a processor below {tmp_path / 'none'}"
    monkeypatch.setattr(energy, "POWERCAP", rapl(tmp_path / "locked", 5))
    as_it_is = Path.read_text

    def read_text(path: Path, *rest: str, **options: str) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return as_it_is(path, *rest, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert "may not be read; allow it with: sudo chmod" in energy.meter("cpu").reason


def test_a_gpu_counts_in_millijoules_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    def failing(handle: object) -> int:
        raise NVMLError("Not Supported")

    readings = iter([1000, 1000, 4000])
    fake = SimpleNamespace(NVMLError=NVMLError, nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(readings))
    monkeypatch.setattr(system, "first_gpu", lambda: (fake, None))
    found = energy.meter("cuda")
    found.start()
    found.stop(10, 2.0)
    assert found.samples == [pytest.approx(0.3)]
    fake.nvmlDeviceGetTotalEnergyConsumption = failing
    assert energy.meter("cuda").reason == "NVML counts no energy of this GPU: Not Supported"


def collected(monkeypatch: pytest.MonkeyPatch, meter: Meter) -> dict[str, object]:
    """What a worker answers after two turns of a model in use."""
    monkeypatch.setattr(energy, "meter", lambda device: meter)
    monkeypatch.setattr(worker_module, "flush_denormals", lambda: False)  # of this process, whose later tests need them
    worker = worker_module.Worker("numpy", 1)
    worker.prepare(Case(LSTMSpec(4, 4), 2, 1, factors=(("workload", "vad"),)).to_dict(), True)
    worker.warm_up(0.0)
    for _ in range(2):
        worker.turn(0.002)
    reply: dict[str, object] = {"status": "ok", **worker.collect()}
    return reply


def test_a_record_has_the_joules_or_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = 0

    def read() -> float:
        nonlocal reading
        reading += 1
        return float(reading)

    reply = collected(monkeypatch, Meter((Zone(read),), update_seconds=1e-5))
    response = WorkerResponse.from_reply(reply)
    time, joules = response.measurements
    assert (joules.metric, joules.unit, len(joules.samples)) == ("energy", "J", 2) and 0 < joules.samples[0] <= 1
    assert response.no_energy is None and time.metric == "time"
    untold = WorkerResponse.from_reply(collected(monkeypatch, Meter(reason="no counter")))
    subject = Subject("workloads", "a case", "numpy", 0, {})
    record = build_record(subject, untold, Observed({}, 0.0, 0.0))
    assert record.conditions[NO_ENERGY] == "no counter" and [one.metric for one in record.measurements] == ["time"]
    assert parse_reply(b'{"status": "ok", "energy_not_measured": "x"}')[NO_ENERGY] == "x"
