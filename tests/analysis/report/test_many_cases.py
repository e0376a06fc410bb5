"""What `show`, `report` and `export` cost as results grow: work linear in the cases, memory that does not follow the file."""

from __future__ import annotations

import cProfile
import pstats
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from analysis.report import page as report
from analysis.report import summary
from analysis.report.export import export
from results.record import Header, Measurement, Record
from results.store import Writer

FEW = 40
SIZES = {"cell": "lstm", "phase": "forward", "device": "cpu", "dtype": "float32", "steps": 16, "batch": 1}


def a_run(root: Path, cases: int, samples: int = 6) -> Path:
    """Two backends each case."""
    writer = Writer(root / f"{cases}.jsonl")
    writer.append(Header("120000-many", "2026-01-01T12:00:00+00:00", 1, "m", {}, {"suite": "quick", "studies": ["throughput"]}))
    values = tuple(1e-3 * (1 + 0.01 * number) for number in range(samples))
    measured = (Measurement("time", "s", values, (samples // 2, samples - samples // 2)),)
    writer.append(*(
        Record("throughput", f"lstm-h{size}", backend, 0, "ok", SIZES | {"hidden_size": size}, measurements=measured)
        for size in range(8, 8 + cases) for backend in ("torch", "numpy")
    ))  # fmt: skip
    writer.close()
    return writer.path


def calls(act: Callable[[], object]) -> int:
    """How many functions are called, which load on the machine does not change."""
    profile = cProfile.Profile()
    profile.runcall(act)
    return pstats.Stats(profile).total_calls  # type: ignore[attr-defined]


@pytest.mark.parametrize("command", ["show", "report"])
def test_work_grows_with_the_cases_and_no_faster(tmp_path: Path, command: str) -> None:
    def act(path: Path) -> Callable[[], object]:
        return lambda: summary.rows([path]) if command == "show" else report.build([path], tmp_path / "report")

    act(a_run(tmp_path, 4))()  # what is imported and compiled counts for none
    one, two, four = (calls(act(a_run(tmp_path, count))) for count in (FEW, 2 * FEW, 4 * FEW))
    assert 1.5 * (two - one) < four - two < 2.5 * (two - one), (one, two, four)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_memory_of_an_export_does_not_follow_the_file(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.report.export.ROWS_AT_ONCE", 1000)
    export([a_run(tmp_path, 1)], tmp_path / f"first.{suffix}")  # what is imported counts for neither
    peaks, sizes = [], []
    for cases in (5, 40):
        run = a_run(tmp_path, cases, samples=2000)
        sizes.append(run.stat().st_size)
        held = pa.total_allocated_bytes()
        tracemalloc.start()
        export([run], tmp_path / f"{cases}.{suffix}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert pa.total_allocated_bytes() - held < 1 << 20
    grown = peaks[1] - peaks[0]  # by the names of the tasks, by which repeated ones are found
    assert grown < 0.1 * (sizes[1] - sizes[0]), (peaks, sizes)


def test_a_run_without_records_is_shown_and_reported(tmp_path: Path) -> None:
    path = a_run(tmp_path, 0)
    assert summary.rows([path]) == [] and report.build([path], tmp_path / "report").html.exists()
