"""A history of 100 commits whose every change is known: steps, a drift, a dip that recovers, a change of machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from results.record import Footer, Header, Measurement, Record
from results.store import Writer, new_path

COMMITS = [f"{number:040x}" for number in range(1, 101)]
STEPS = {"step-3": (40, 0.03), "step-5": (60, 0.05), "step-10": (80, 0.10)}
MACHINE_CHANGED = 50
REPLICATES = 5


def level(case: str, number: int) -> float:
    """Seconds of a case at a commit, without noise and machine."""
    if case in STEPS:
        at, size = STEPS[case]
        return 0.01 * (1 + size * (number >= at))
    if case == "drift":
        return 0.01 * (1 + 0.04 * number / 100)
    if case == "dip":
        return 0.01 * (1 + 0.08 * (30 <= number < 36))
    return 0.01


def times(case: str, noise: float = 0.005, seed: int = 0) -> list[float]:
    random = np.random.default_rng([seed, *case.encode()])
    return [float(np.median(level(case, number) * np.exp(random.normal(0, noise, REPLICATES)))) for number in range(100)]


def write(root: Path, cases: tuple[str, ...], noise: float = 0.005, machine_changes: bool = False) -> None:
    """A run a commit. Where the machine changes, the new one takes 1.4 times as long."""
    random = np.random.default_rng(0)
    for number, commit in enumerate(COMMITS):
        moved = machine_changes and number >= MACHINE_CHANGED
        header = Header(
            run=f"{number:06}-quick", started=f"2026-01-01T{number // 60:02}:{number % 60:02}:00+00:00", protocol=1,
            machine="new-machine" if moved else "old-machine", plan={"suite": "quick"},
            environment={"git": {"commit": commit, "dirty": False}, "python": "3.12", "cpu": {"model": "Imaginary"}},
        )  # fmt: skip
        records = [_record(case, number, replicate, moved, noise, random) for case in cases for replicate in range(REPLICATES)]
        writer = Writer(new_path(root, header))
        writer.append(header, *records, Footer(header.started, True, 1.0, 1.0))
        writer.close()


def _record(case: str, number: int, replicate: int, moved: bool, noise: float, random: np.random.Generator) -> Record:
    seconds = level(case, number) * (1.4 if moved else 1) * float(np.exp(random.normal(0, noise)))
    measured = Measurement("time", "s", (seconds,))
    return Record("throughput", case, "torch", replicate, "ok", {"steps": 8}, measurements=(measured,))


def write_comparison(root: Path, base: str, new: str, case: str, factor: float, machine: str = "old-machine") -> None:
    """A finished paired comparison of two commits in which the new side takes `factor` times as long."""
    random, name = np.random.default_rng(0), f"{case}-{base[:7]}-{new[:7]}"
    for side, commit, slower in (("base", base, 1.0), ("new", new, factor)):
        header = Header(
            run=f"{name}-{side}", started="2026-02-01T00:00:00+00:00", protocol=1, machine=machine,
            plan={"suite": "quick", "studies": ["throughput"], "comparison": name, "side": side,
                  "sides_backends": [None, None]},
            environment={"git": {"commit": commit, "dirty": False}, "python": "3.12", "cpu": {"model": "Imaginary"}},
        )  # fmt: skip
        seconds = {pair: 0.01 * slower * float(np.exp(random.normal(0, 0.002))) for pair in (*range(20), *range(1000, 1010))}
        records = [
            Record("throughput", case, "torch", pair, "ok", {"steps": 8}, measurements=(Measurement("time", "s", (value,)),))
            for pair, value in seconds.items()
        ]
        writer = Writer(new_path(root, header))
        writer.append(header, *records, Footer(header.started, True, 1.0, 1.0))
        writer.close()
