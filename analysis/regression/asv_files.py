"""The history as asv's own result files, written through asv's own classes, for `asv publish` and `asv show`.

Samples are the replicates' times, not calls, so that asv's intervals and tests are honest. Times are not taken by asv.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from analysis import AnalysisError
from analysis.regression.history import Series
from analysis.statistics.changes import INSTALL_ASV
from results.store import Run

VERSION = "1"  # of every benchmark, by hand: asv begins a new series whenever it changes


def export(series: Sequence[Series], runs: Iterable[Run], dates: Mapping[str, int], to: Path) -> list[Path]:
    """Write machine.json, benchmarks.json and one file a commit and fingerprint below `to`; returns the last.

    dates: milliseconds since the epoch, by commit, as asv wants them.
    """
    try:
        from asv import util
        from asv.machine import Machine
        from asv.results import Results
        from asv.runner import BenchmarkResult
    except ImportError as error:
        raise AnalysisError(f"asv's files need asv; install it with: {INSTALL_ASV}") from error
    described = {run.header.machine: _machine(run) for run in runs}
    benchmarks = {name: _benchmark(name, chosen) for name, chosen in _by_study(series).items()}
    for machine, values in described.items():
        util.write_json(str(to / machine / "machine.json"), values, Machine.api_version)
    util.write_json(str(to / "benchmarks.json"), benchmarks, 2)
    written = []
    for (commit, machine, mark), points in _by_commit(series).items():
        parameters = described[machine] | {"software": mark}
        results = Results(parameters, {}, commit, dates[commit], parameters["python"], f"software-{mark}", {})
        for study, times in points.items():
            benchmark = benchmarks[f"{study}.seconds"]
            rows = [times.get(pair) for pair in product(*benchmark["params"])]
            result = BenchmarkResult(
                result=[None if row is None else statistics.median(row) for row in rows],
                samples=[None if row is None else list(row) for row in rows],
                number=[None if row is None else 1 for row in rows],
                errcode=0, stderr="", profile=None,
            )  # fmt: skip
            results.add_result(benchmark, result, record_samples=True)
        results.save(str(to))
        written.append(to / machine / f"{commit[:8]}-software-{mark}.json")
    return written


def _machine(run: Run) -> dict[str, Any]:
    """asv's keys, and those by which its page lets people filter."""
    environment = run.header.environment
    gpus, cpu = environment.get("gpus") or [{}], environment.get("cpu", {})
    return {
        "machine": run.header.machine,
        "os": str(environment.get("os", "")),
        "arch": "",
        "cpu": str(cpu.get("model", "")),
        "num_cpu": str(cpu.get("cores", "")),
        "ram": str(environment.get("memory_bytes", "")),
        "gpu": str(gpus[0].get("name", "none")),
        "driver": str(gpus[0].get("driver", "none")),
        "cuda": str(gpus[0].get("cuda", "none")),
        "python": str(environment.get("python", "")),
    }


def _benchmark(name: str, series: Sequence[Series]) -> dict[str, Any]:
    cases, backends = ({repr(getattr(one.key, part)): None for one in series} for part in ("case", "backend"))
    return {
        "name": name, "type": "time", "unit": "seconds", "version": VERSION, "code": f"# lstm-bench, study {name}",
        "params": [list(cases), list(backends)], "param_names": ["case", "backend"], "timeout": 600.0,
    }  # fmt: skip


def _by_study(series: Sequence[Series]) -> dict[str, list[Series]]:
    found: dict[str, list[Series]] = {}
    for one in series:
        found.setdefault(f"{one.key.study}.seconds", []).append(one)
    return found


Times = dict[str, dict[tuple[str, ...], tuple[float, ...]]]


def _by_commit(series: Sequence[Series]) -> dict[tuple[str, str, str], Times]:
    """For each commit, machine and fingerprint: study → (case, backend) → replicates' times."""
    found: dict[tuple[str, str, str], Times] = {}
    for one in series:
        pair = (repr(one.key.case), repr(one.key.backend))
        for point in one.points:
            times = found.setdefault((point.commit, one.machine, one.fingerprint), {})
            times.setdefault(one.key.study, {})[pair] = point.replicates
    return found
