"""Noise by injected readings: a quiet machine is told nothing, a noisy one in one line, each reason by its own limit."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bench.machine import conditions, noise, system
from bench.machine.lock import device_lock
from bench.machine.noise import LIMITS, ProcessorTime, Reading
from lstm_bench import device_policy
from lstm_bench.views import run_summary
from results.record import Footer, Header, Measurement, Record
from results.store import Run

QUIET = Reading(1.01, 1.04, 0.01, 0.01, 0.0, 0.2)
SPIN = "import time\nuntil = time.time() + 60\nwhile time.time() < until: pass"


@pytest.mark.parametrize(("reading", "level", "said"), [
    (QUIET, "quiet", None),
    (Reading(1.01, 1.04), "quiet", None),
    (Reading(1.05, 1.2, 0.01, LIMITS.others_share - 0.01, LIMITS.stolen_share - 0.01), "somewhat noisy", None),
    (Reading(1.01, 1.04, 0.01, 0.48, 0.0), "noisy", "other processes use 48 % of the processors"),
    (Reading(1.01, 1.04, 0.01, 0.0, 0.05), "noisy", "other virtual machines take 5 % of the processors' time"),
    (Reading(1.01, 1.04, 0.01, 0.2, 0.05), "noisy", "use 20 % of the processors and other virtual machines take 5 %"),
    (Reading(1.12, 1.20, 0.01, 0.0, 0.0), "noisy", "the same work takes 1.20× its fastest time at p90"),
    (Reading(1.01, 8.0, 0.01, None, None), "noisy", "the same work takes 8.00× its fastest time at p90"),
])  # fmt: skip
def test_a_reading_is_judged_by_the_limits(reading: Reading, level: str, said: str | None):
    assert reading.level == level
    sentence = noise.sentence(reading)
    assert sentence is None if said is None else sentence is not None and said in sentence and "\n" not in sentence


def test_only_a_noisy_machine_is_reported_before_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    noisy = Reading(1.01, 1.04, 0.01, 0.48, 0.0)
    for reading, lines in ((QUIET, 0), (noisy, 1)):
        read: list[Reading] = []
        with device_policy.announced(read=lambda reading=reading, read=read: read.append(reading) or reading):
            for _ in range(2):
                with device_lock("cpu", tmp_path), device_lock("cpu", tmp_path, inner=True):
                    pass
        said = capsys.readouterr()
        assert said.out == "" and len(said.err.splitlines()) == lines == said.err.count("noisy machine: ") and len(read) == 1


def test_the_check_takes_well_below_a_second():
    started = time.perf_counter()
    reading = noise.read()
    assert time.perf_counter() - started < 0.8
    assert 1 <= reading.median_over_fastest <= reading.p90_over_fastest


def test_load_of_others_counts_and_of_children_does_not():
    """This process's child counts as its own; the same program started by a shell that has ended belongs to another."""
    if noise.processor_time() is None:
        pytest.skip("this system does not tell processor time")

    def share(own: bool) -> float:
        if own:
            pid, child = None, subprocess.Popen([sys.executable, "-c", SPIN])
        else:
            command = '"$0" -c "$1" >/dev/null 2>&1 & echo $!'
            started = subprocess.run(["sh", "-c", command, sys.executable, SPIN], stdout=subprocess.PIPE, text=True, check=True)
            pid, child = int(started.stdout), None
        try:
            time.sleep(0.3)
            before = noise.processor_time()
            time.sleep(1.5)
            others, _ = noise.shares_between(before, noise.processor_time())
        finally:
            if child is not None:
                child.kill()
                child.wait()
            if pid is not None:
                subprocess.run(["kill", "-9", str(pid)], check=True)
        assert others is not None
        return others * len(system.usable())

    # What else runs here changes from moment to moment, so both are tried again before they count.
    assert any(share(own=False) - share(own=True) > 0.4 for _ in range(5))


def test_shares_of_processor_time():
    before, after = ProcessorTime(100.0, 50.0, 1.0, 20.0), ProcessorTime(110.0, 54.0, 1.5, 23.0)
    assert noise.shares_between(before, after) == pytest.approx((0.25, 0.05))
    assert noise.shares_between(before, before) == (None, None) == noise.shares_between(None, after)
    assert noise.shares_between(before, after._replace(own=40.0))[0] == 0.0


def test_processor_time_is_of_the_usable_processors():
    usable = system.usable()
    lines = [f"cpu{number} 1 2 3 4 5 6 7 8 1 0" for number in usable] + [f"cpu{max(usable) + 1} 9 9 9 9 9 9 9 9 9 9"]
    found = noise.processor_time(lambda: "cpu 99 99 99 99 99 99 99 99 0 0\n" + "\n".join(lines) + "\nintr 1\n")
    if found is not None:
        hertz = 36 / found.total * len(usable)
        assert found[:3] == pytest.approx([value * len(usable) / hertz for value in (36, 9, 8)])

    def fails() -> str:
        raise FileNotFoundError

    assert noise.processor_time(fails) is None and noise.processor_time(lambda: "intr 1\n") is None


def test_a_case_keeps_what_others_took_while_it_was_measured(monkeypatch: pytest.MonkeyPatch):
    times = iter([ProcessorTime(0.0, 0.0, 0.0, 0.0), ProcessorTime(10.0, 2.0, 0.0, 4.0)])
    monkeypatch.setattr(noise, "processor_time", lambda: next(times))
    with conditions.Watch("cpu") as watch:
        pass
    assert watch.summary["others_share"] == pytest.approx(0.4)
    monkeypatch.setattr(noise, "processor_time", lambda: None)
    with conditions.Watch("cpu") as watch:
        pass
    assert "others_share" not in watch.summary


def record(seconds: float = 1.0, **shares: float) -> Record:
    measured = (Measurement("time", "s", (0.1,)),)
    return Record(
        "throughput", "case", "numpy", 0, "ok", parameters={}, measurements=measured, conditions=shares, seconds=seconds
    )


def said_after(*records: Record) -> list[str]:
    header = Header("run", "2026-01-01T00:00:00+00:00", 2, "machine", {}, {"studies": ["throughput"]})
    return [
        line
        for line in run_summary.lines(Run(Path("run.jsonl"), header, records, None), Footer("", True, 1.0, 0.5))
        if "noisy" in line
    ]


def test_after_a_run_its_conditions_say_it_too():
    assert said_after(record(), record(others_share=0.05, stolen_share=0.001)) == []
    (line,) = said_after(record(others_share=0.3), record(seconds=3.0, others_share=0.5))
    assert "other processes used 45 % of the processors" in line and "Close other programs and measure again" in line
    (line,) = said_after(record(others_share=0.01, stolen_share=0.2))
    assert "other virtual machines took 20 % of the processors' time" in line


def test_what_can_be_detected_follows_the_spread_between_pairs():
    random = np.random.default_rng(0)
    quiet, wild = ([1 + scale * abs(value) for value in random.standard_normal(800)] for scale in (0.001, 0.1))
    assert 0 < noise.detectable_of(quiet) < 0.001 < noise.detectable_of(wild) < 0.1
    assert noise.detectable_of([1.0] * 79) is None
