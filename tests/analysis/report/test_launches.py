"""Eager calls and calls launched from CUDA graphs stand side by side, each named, and no ratio compares one with the other."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.report import summary, tables
from analysis.report.findings import Findings, find_out
from analysis.report.load import load
from analysis.report.page import build
from analysis.statistics import quantities
from analysis.statistics.ratios import of_one_launch
from analysis.studies import decode as decode_statistics
from tests.analysis.synthetic import Synthetic, cases, seconds, write

BOTH = Synthetic(
    machine="imaginary-gpu", device="cuda", backends=("torch", "cuda"), phases=("forward", "step"), batches=(1, 32),
    hiddens=(64, 256), lengths=(64,), launches=("eager", "graph"), memory=False, noise=0.001, between=0.001,
)  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(BOTH, tmp_path_factory.mktemp("both"))


@pytest.fixture(scope="module")
def found(run: Path) -> Findings:
    return find_out(load([run])[0])


def true_ratio(phase: str, launch: str) -> float:
    """Of `cuda` over `torch`, the geometric mean by the times the run is drawn from."""
    logs = [
        np.log(seconds(case, "torch") / seconds(case, "cuda"))
        for case in cases(BOTH)
        if (case["phase"], case["launch"]) == (phase, launch)
    ]
    return float(np.exp(np.mean(logs)))


@pytest.mark.parametrize("phase", ["forward", "step"])
def test_a_geometric_mean_is_of_one_launch_mode(found: Findings, phase: str) -> None:
    assert found.launches == ["eager", "graph"]
    expected = {launch: true_ratio(phase, launch) for launch in found.launches}
    assert expected["graph"] > 1.1 * expected["eager"]  # else a mean over both would not be told from either
    for launch, value in expected.items():
        ranking = found.rankings["cuda", phase, launch]
        assert ranking.ratios["cuda"].value == pytest.approx(value, rel=0.01)
        keys = {case for case in found.cases["case"] if ("-graph" in case) == (launch == "graph") and f"-{phase}-" in case}
        assert ranking.shared == ranking.total == len(keys)


def test_a_case_is_compared_in_its_own_launch_mode(found: Findings) -> None:
    rows = found.cases.set_index(["case", "backend"])
    for (case, _), row in rows.iterrows():
        expected = rows.loc[(case, "torch"), "seconds"] / row["seconds"]
        assert row["ratio"].value == pytest.approx(expected, rel=0.02) and row["launch"] == (
            "graph" if "graph" in case else "eager"
        )


def test_a_graph_is_not_compared_where_the_baseline_has_none(tmp_path: Path) -> None:
    """One backend's graph beside another's eager call is no ratio."""
    section = load([write(BOTH, tmp_path)])[0]
    without = section.series[(section.series["backend"] != "torch") | (section.series["launch"] == "eager")]
    kept = find_out(replace(section, series=without))
    assert {launch for *_, launch in kept.rankings} == {"eager"}
    assert kept.cases.loc[kept.cases["launch"] == "graph", "ratio"].isna().all()


def test_the_report_names_both_with_the_host_s_time_beside(run: Path, tmp_path: Path) -> None:
    report = build([run], tmp_path)
    text, page = report.markdown.read_text(), report.html.read_text()
    for launch, name in (("eager", "eager"), ("graph", "CUDA graph")):
        for phase, word in (("forward", "Inference"), ("step", "Streaming")):
            answer = re.search(rf"\*\*{word} \({name}\)\.\*\* cuda is fastest: speedup over torch ([\d.]+)×", text)
            assert answer and float(answer[1]) == pytest.approx(true_ratio(phase, launch), rel=0.02)
    assert "Each compares cases of one launch mode" in text
    assert "### Eager calls and CUDA graphs" in text and "Host time a call" in text
    for word in ("Inference (CUDA graph)", "Streaming (eager)", "graph over eager"):
        assert word in text and word in page
    assert "Speedup over torch (CUDA graph)" in text and "Speedup over torch (eager)" in text
    row = next(line for line in text.splitlines() if line.startswith("| inference | graph |") and "| cuda |" in line)
    assert re.search(r"\d (µs|ms|ns) \|", row)


def test_what_a_graph_saves_is_told_beside_each_backend(found: Findings) -> None:
    table = tables.table(found)
    assert [(row[0].text, row[1].text) for row in table.rows] == [
        (phase, backend) for phase in ("inference", "streaming") for backend in ("torch", "cuda")
    ]
    for row in table.rows:
        phase = {"inference": "forward", "streaming": "step"}[row[0].text]
        eager, graph = (
            [seconds(case, row[1].text) for case in cases(BOTH) if (case["phase"], case["launch"]) == (phase, launch)]
            for launch in ("eager", "graph")
        )
        assert row[3].sort == pytest.approx(np.exp(np.mean(np.log(eager) - np.log(graph))), rel=0.01)
        assert row[4].sort == pytest.approx(0.95 * np.median(eager), rel=0.05)
        assert row[5].sort == pytest.approx(0.4 * np.median(graph), rel=0.05)
        assert (row[6].text, row[7].text) == (f"{len(eager)} of {len(eager)}", f"0 of {len(graph)}")


def test_a_run_of_before_is_eager_and_looks_as_it_did(tmp_path: Path) -> None:
    before = replace(BOTH, launches=(), device="cpu", run="b", batches=(8,), hiddens=(64,))
    section = load([write(before, tmp_path)])[0]
    old = find_out(section)
    assert old.launches == ["eager"] and set(old.cases["launch"]) == {"eager"}
    assert not tables.table(old).rows
    text = build([tmp_path], tmp_path / "out").markdown.read_text()
    assert "**Inference.** cuda is fastest" in text and "graph" not in text.lower().replace("paragraph", "")
    assert "host" not in summary.rows([tmp_path])[0] and "Host time" not in text


def test_backends_that_are_no_more_are_shown_as_they_were(tmp_path: Path) -> None:
    before = replace(
        BOTH,
        launches=(),
        backends=("torch", "torch_graph", "cudnn_graph"),
        run="c",
        phases=("forward",),
        batches=(8,),
        hiddens=(64,),
    )
    path = write(before, tmp_path)
    rows = summary.rows([path])
    assert {row["backend"] for row in rows} == {"torch", "torch_graph", "cudnn_graph"}
    assert "cudnn_graph" in build([path], tmp_path / "out").markdown.read_text()


def test_the_terminal_shows_launch_mode_and_host_time(run: Path) -> None:
    rows = summary.rows([run])
    assert {"-graph" in row["case"] for row in rows} == {True, False} and all(row["host"] for row in rows)
    values = summary.values([run])
    assert {value["launch"] for value in values} == {"eager", "graph"}
    for value in values:
        assert isinstance(value["value"], float) and isinstance(value["host_seconds"], float)
        share = 0.95 if value["launch"] == "eager" else 0.4
        assert value["host_seconds"] == pytest.approx(share * value["value"], rel=0.02)
        assert ("host_bound" in str(value["notes"])) == (value["launch"] == "eager")


def stream_rows() -> pd.DataFrame:
    """An LSTM whose eager token takes 20 µs whatever its context, and 6 µs from a graph, 12 at the longest."""
    times = {"eager": {64: 20e-6, 4096: 20e-6}, "graph": {64: 6e-6, 4096: 12e-6}}
    return pd.DataFrame(
        {
            "study": "decode", "metric": "time", "model": "lstm", "steps": context, "batch": 1, "backend": "cudnn",
            "launch": launch, "replicate_key": f"r{replicate}", "samples": np.full(5, value * (1 + 1e-3 * replicate)),
            "count_state_bytes": 5000, "count_least_bytes": 10**6, "count_parameter_bytes": 10**6,
        }
        for launch, own in times.items() for context, value in own.items() for replicate in range(3)
    )  # fmt: skip


def test_a_stream_uses_the_launch_mode_fastest_at_long_context() -> None:
    (found,) = decode_statistics.streams(stream_rows())
    assert found.backend == "cudnn (CUDA graph)" and found.time_over_context().value == pytest.approx(2.0)
    assert quantities.estimate("time_over_context", stream_rows(), "study=decode").value == pytest.approx(2.0)


def test_other_quantities_read_eager_calls_alone() -> None:
    rows = stream_rows()
    assert set(of_one_launch(rows)["launch"]) == {"eager"}
    graphs = rows[rows["launch"] == "graph"]
    assert of_one_launch(graphs) is graphs
