"""What computes in less than was asked is shown with its error and is ranked with nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from analysis.report import findings, groups, load, summary, tables
from bench.harness.case import Case
from bench.processes.response import Observed, Subject, WorkerResponse, build_record
from impls import LSTMSpec
from lstm_bench.views import progress
from results import store
from results.record import Footer, Header, Measurement, Record
from tests.analysis.synthetic import ENVIRONMENT

CASES = tuple(Case(LSTMSpec(size, size), 4, 1) for size in (8, 16))


def record(case: Case, backend: str, seconds: float, replicate: int, error: float, precision: str | None = None) -> Record:
    samples = tuple(seconds * np.random.default_rng(replicate).normal(1, 0.001, 9))
    provenance = {"ran": backend} | ({"precision": precision} if precision else {})
    response = WorkerResponse("ok", measurements=(Measurement("time", "s", samples, blocks=(9,)),), provenance=provenance,
                              error=error)  # fmt: skip
    subject = Subject.of_case("throughput", case, backend, replicate)
    return build_record(subject, response, Observed({}, 0.0, 0.0), error=replicate == 0)


def section(folder: Path) -> load.Section:
    records = [
        record(case, backend, seconds, replicate, error, precision)
        for case in CASES for replicate in range(3)
        for backend, seconds, error, precision in (
            ("torch", 2e-3, 2e-7, None), ("jax", 1e-3, 3e-7, None), ("torch_int8", 5e-4, 0.0127, "int8"),
        )
    ]  # fmt: skip
    plan = {"suite": "quick", "studies": ["throughput"], "backends": ["torch", "jax", "torch_int8"], "replicates": 3}
    writer = store.Writer(folder / "2026-11-20" / "imaginary" / "run.jsonl")
    writer.append(Header("run", "2026-11-20T12:00:00+00:00", 2, "imaginary", ENVIRONMENT, plan), *records,
                  Footer("2026-11-20T12:01:00+00:00", True, 60.0, 30.0))  # fmt: skip
    writer.close()
    (found,) = load.load([writer.path])
    return found


def test_the_fastest_is_one_that_computes_what_was_asked(tmp_path: Path) -> None:
    """int8 takes half the time of the fastest exact backend, and is in no ranking, no ratio and no table of cases."""
    own = section(tmp_path)
    found = findings.find_out(own, "torch", "median")
    (ranking,) = found.rankings.values()
    assert list(ranking.ratios) == ["jax", "torch"] and set(found.cases["backend"]) == {"jax", "torch"}
    assert {metric for metric in own.series.loc[own.series["backend"] == "torch_int8", "metric"]} == {
        "reduced_time", "reduced_error",
    }  # fmt: skip


def test_its_time_and_error_stand_beside_those_of_the_others(tmp_path: Path) -> None:
    own = section(tmp_path)
    rows = tables.reduced(own).rows
    assert [[cell.text for cell in row][1:] for row in rows] == [
        ["torch_int8", "int8", "500 µs", "0.013", "1.00 ms (jax)", "3e-07"]
    ] * 2
    made = {group.name: group for group in groups.groups(findings.find_out(own, "torch", "median"))}
    assert made["reduced"].table is not None and "ranked with no other backend" in made["reduced"].table_text
    exact = own.series[own.series["backend"] != "torch_int8"]
    assert not tables.reduced(load.Section("m", 2, own.runs, own.records, exact)).rows


def test_show_puts_it_last_with_a_note(tmp_path: Path) -> None:
    section(tmp_path)
    rows = summary.rows([tmp_path])
    assert [row["backend"] for row in rows[:3]] == ["jax", "torch", "torch_int8"]
    assert rows[2]["ratio"] == "" and rows[2]["notes"] == "computes in int8, not ranked, off by 1.3 % of the largest output"
    live = progress.result([record(CASES[0], "torch_int8", 5e-4, 0, 0.01, "int8"), record(CASES[0], "torch", 2e-3, 0, 1e-7)])
    assert live.index("torch ") < live.index("torch_int8 (int8) ")
