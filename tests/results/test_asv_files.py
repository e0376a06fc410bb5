"""asv's result files read as runs: both formats, parameters, failures, machines, and intervals from stored quartiles."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.regression import history
from analysis.regression.history import Point
from analysis.regression.history_page import relative
from results import asv_files, pytest_benchmark, store
from results.pytest_benchmark import Imported
from results.store import StoreError

COLUMNS = [
    "result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25", "stats_q_75",
    "stats_number", "stats_repeat", "samples", "profile",
]  # fmt: skip
COMMITTED = 1_577_836_800_000  # 2020-01-01, as JavaScript counts


def values(commit: str = "a" * 40, machine: str = "lab", **results: list[Any]) -> dict[str, Any]:
    """A file of format 2 as asv 0.6 writes it."""
    return {
        "commit_hash": commit, "env_name": "virtualenv-py3.12-numpy", "date": COMMITTED,
        "params": {"arch": "x86_64", "cpu": "Imaginary CPU", "machine": machine, "num_cpu": "8", "os": "Linux 6.1"},
        "python": "3.12", "requirements": {"numpy": "2.1"}, "env_vars": {}, "result_columns": COLUMNS, "results": results,
        "durations": {}, "version": 2,
    }  # fmt: skip


def row(result: list[float | None] | None, params: list[list[str]], *, quartiles: tuple[list, list, list] | None = None,
        samples: list | None = None, version: str = "v1") -> list[Any]:  # fmt: skip
    q25, q75, repeat = quartiles or (None, None, None)
    full = [result, params, version, COMMITTED + 5000, 1.5, None, None, q25, q75, [1], repeat, samples]
    while full[-1] is None:
        full.pop()
    return full


def read(folder: Path, of: dict[str, Any], benchmarks: dict[str, Any] | None = None) -> Imported:
    path = folder / of["params"]["machine"] / f"{of['commit_hash'][:8]}-env.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(of))
    if benchmarks is not None:
        (folder / "benchmarks.json").write_text(json.dumps(benchmarks))
    found, text = pytest_benchmark.parsed(path)
    assert asv_files.recognises(found)
    return asv_files.read(path, found, text)


def test_parameters_failures_and_skips_are_told_apart(tmp_path: Path) -> None:
    of = values(**{
        "bench.time_sort": row([0.01, None, math.nan, 0.04], [["10", "'x'"], ["1.5", "None"]],
                               quartiles=([0.009, None, None, 0.03], [0.012, None, None, 0.05], [10, None, None, 7])),
        "bench.time_all_failed": row(None, [["1", "2"]]),
        "bench.track_size": row([7.0], []),
    })  # fmt: skip
    known = {
        "bench.time_sort": {"type": "time", "param_names": ["n", "batch"], "version": "v1"},
        "bench.time_all_failed": {"type": "time", "param_names": ["n"], "version": "v1"},
        "bench.track_size": {"type": "track", "version": "v1"}, "version": 2,
    }  # fmt: skip
    found = read(tmp_path, of, known)
    cases = {record.case: record for record in found.records}
    assert list(cases) == [
        "bench.time_sort(10, 1.5)", "bench.time_sort(10, None)", "bench.time_sort('x', 1.5)", "bench.time_sort('x', None)",
        "bench.time_all_failed(1)", "bench.time_all_failed(2)",
    ]  # fmt: skip
    assert [record.status for record in cases.values()] == ["ok", "failed", "skipped", "ok", "failed", "failed"]
    assert cases["bench.time_sort('x', None)"].parameters == {"n": "x", "batch of asv": "None"}, "a name that ours have"
    assert cases["bench.time_sort(10, 1.5)"].measurements[0].notes == ("asv stored the median of 10 samples and no sample",)
    assert len(found.left_out) == 1 and "of the type track, which is no time" in found.left_out[0]
    assert found.header.started == "2020-01-01T00:00:05+00:00" and found.header.machine == "lab-asv"


def test_a_benchmark_whose_code_changed_is_another_series(tmp_path: Path) -> None:
    known = {"b.time_x": {"type": "time", "version": "v2"}}
    old, new = (read(tmp_path, values(**{"b.time_x": row([0.1], [], version=own)}), known) for own in ("v1", "v2"))
    assert [one.records[0].case for one in (old, new)] == ["b.time_x #v1", "b.time_x"]


def test_stored_quartiles_give_the_interval_that_samples_give(tmp_path: Path) -> None:
    """Of 400 log-normal samples: 1.253 σ/√n, from asv's quartiles as from the samples that it may keep."""
    samples = np.exp(np.random.default_rng(1).normal(math.log(0.01), 0.05, 400))
    q25, median, q75 = (float(value) for value in np.quantile(samples, (0.25, 0.5, 0.75)))
    (by_quartiles,) = read(tmp_path, values(**{"time_x": row([median], [], quartiles=([q25], [q75], [400]))})).records
    (by_samples,) = read(tmp_path, values(**{"time_x": row([median], [], samples=[samples.tolist()])})).records
    assert by_samples.measurements[0].samples == tuple(samples) and not by_samples.measurements[0].notes
    for record in (by_quartiles, by_samples):
        error = asv_files.standard_error(record)
        assert error is not None and error[0] == pytest.approx(1.253 * 0.05 / 20, rel=0.1) and error[1] == 400
    (alone,) = read(tmp_path, values(**{"time_x": row([median], [])})).records
    assert asv_files.standard_error(alone) is None


def test_machines_and_environments_are_separate_series(tmp_path: Path) -> None:
    commits = [f"{number:040x}" for number in range(12)]
    for machine in ("lab", "laptop"):
        for number, commit in enumerate(commits):
            seconds = 0.01 if number < 6 or machine == "laptop" else 0.012
            spread = ([0.98 * seconds], [1.02 * seconds], [25])
            of = values(commit, machine, **{"time_x": row([seconds], [], quartiles=spread)})
            of |= {"python": "3.13"} if number >= 9 and machine == "laptop" else {}
            assert pytest_benchmark.write(read(tmp_path / "asv", of), tmp_path / "history") is not None
    series = history.series(history.read(tmp_path / "history"), commits)
    assert sorted((one.machine, len(one.points)) for one in series) == [("lab-asv", 12), ("laptop-asv", 3), ("laptop-asv", 9)]
    lab = next(one for one in series if one.machine == "lab-asv")
    assert [(change.index, change.slower) for change in lab.changes()] == [(6, True)]
    assert not any(one.changes() for one in series if one is not lab)
    value, low, high = relative(lab)[6]
    assert low is not None and high is not None and 1.18 < low < value < high < 1.22
    assert Point("c", (0.1,)).standard_error is None and Point("c", (0.1, 0.2), (0.01, 9)).degrees == 1


def test_format_1_is_read_as_format_2(tmp_path: Path) -> None:
    """Files of the years before 2021: a bare number, a table with parameters, and what failed."""
    stats = [{"ci_99": [0.1, 0.3], "q_25": 0.19, "q_75": 0.21, "repeat": 10, "number": 3}, None]
    old = values() | {
        "version": 1, "benchmark_version": {"time_b": "v1"}, "started_at": {"time_b": COMMITTED},
        "results": {"time_a": 0.1, "time_b": {"params": [["1", "2"]], "result": [0.2, None], "stats": stats}, "time_c": None},
    }  # fmt: skip
    del old["result_columns"], old["env_name"]
    found = read(tmp_path, old, {name: {"type": "time", "version": "v1"} for name in ("time_a", "time_b", "time_c")})
    assert [(record.case, record.status) for record in found.records] == [
        ("time_a", "ok"), ("time_b(1)", "ok"), ("time_b(2)", "failed"), ("time_c", "failed"),
    ]  # fmt: skip
    error = asv_files.standard_error(found.records[1])
    assert error is not None and error[1] == 10


@pytest.mark.parametrize(("changes", "message"), [
    ({"version": 3}, "is of asv's format 3; formats 1 and 2 are read here"),
    ({"commit_hash": "abc"}, "names no commit but 'abc'"),
    ({"date": "yesterday"}, "is no file of asv"),
    ({"results": {"time_x": [[0.1, 0.2], [["1"]]]}}, "2 results for 1 combinations of parameters"),
    ({"results": {"time_x": [[-1.0], []]}}, "time_x has a time of -1.0 s"),
    ({"results": {"track_x": [[1.0], []]}}, "of the type other, which is no time"),
    ({"results": {}}, "it holds no result"),
])  # fmt: skip
def test_what_cannot_be_right_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StoreError, match=message):
        read(tmp_path, values() | changes)


def test_what_asv_itself_writes_is_read(tmp_path: Path) -> None:
    """Through asv's own classes, as `history --to-asv` does."""
    results, runner = pytest.importorskip("asv.results"), pytest.importorskip("asv.runner")
    benchmark = {"name": "b.time_x", "version": "v1", "params": [["1", "2"]]}
    own = values()
    made = results.Results(own["params"], {"numpy": ""}, "b" * 40, COMMITTED, "3.12", "env", {})
    made.add_result(benchmark, runner.BenchmarkResult(
        result=[0.11, math.nan], samples=[[0.1, 0.11, 0.12], None], number=[2, None], errcode=0, stderr="", profile=None,
    ))  # fmt: skip
    made.save(str(tmp_path))
    (path,) = tmp_path.rglob("bbbbbbbb-env.json")
    found, text = pytest_benchmark.parsed(path)
    kept = asv_files.read(path, found, text)
    assert (
        store.read(pytest_benchmark.write(kept, tmp_path / "history") or path).header.environment["git"]["commit"] == "b" * 40
    )
    assert kept.records[1].status == "skipped"
