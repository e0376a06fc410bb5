"""Cards and table of the workloads: who is fastest, in the system's unit, beside what was published."""

from __future__ import annotations

import contextlib

import numpy as np
import pandas as pd
import pytest

from analysis.report.load import PRICE, series_frame
from analysis.report.page import build
from analysis.studies.workloads import measured
from analysis.studies.workloads.figures import cards, draw, table
from bench.harness.case import Case
from bench.studies.workloads import case_of
from impls import LSTMSpec
from results import store
from results.record import NO_ENERGY, Header, Measurement, Record
from results.store import Run
from results.workloads import BY_NAME
from tests.analysis.report.test_browser import BROWSER, drive
from tests.analysis.synthetic import ENVIRONMENT


def record(name: str, backend: str, seconds: float, replicate: int, part: int = 0, shape: int = 0) -> Record:
    layers = BY_NAME[name].parts[part]
    case = case_of(name, layers, layers.shapes[shape])
    samples = tuple(seconds * np.random.default_rng(replicate).normal(1, 0.001, 9))
    return Record("workloads", case.key, backend, replicate, "ok", case.to_dict(), counts=case.counts(),
                  measurements=(Measurement("time", "s", samples, blocks=(9,)),))  # fmt: skip


HEADER = Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", ENVIRONMENT, {})


@pytest.fixture(scope="module")
def records():
    return [
        record(name, backend, seconds, replicate, shape=shape)
        for replicate in range(3)
        for name, shape, times in (
            ("vad", 0, {"torch": 1e-4, "onnxruntime": 2e-5}), ("basecall-hac", 0, {"cuda": 0.02, "cudnn": 0.03}),
            ("basecall-hac", 2, {"torch": 0.01, "jax": 0.01}), ("keyboard", 0, {"torch": 0.1}),
        )
        for backend, seconds in times.items()
    ]  # fmt: skip


@pytest.fixture(scope="module")
def series(tmp_path_factory, records):
    return series_frame([Run(tmp_path_factory.mktemp("x"), HEADER, tuple(records), None)])


def test_calls_come_in_the_order_of_the_table_fastest_first(series):
    calls = measured(series)
    assert [call.system.name for call in calls] == ["basecall-hac", "basecall-hac", "vad", "keyboard"]
    assert [call.timings[0].backend for call in calls[::2]] == ["cuda", "onnxruntime"]
    assert calls[2].budget_share == pytest.approx(2e-5 / 0.032, rel=0.01)


def test_speed_is_in_the_unit_of_the_field(series):
    rows = {row[0].text: [cell.text for cell in row] for row in table(series).rows}
    vad = rows["Voice activity detector, Silero VAD"]
    assert vad[3] == "onnxruntime" and vad[6].endswith("× real time") and vad[6].startswith("1")
    gpu = next(row for row in table(series).rows if row[3].text == "cuda")
    assert gpu[6].text.startswith("32.0 M samples/s") and gpu[6].sort == pytest.approx(64 * 10_000 / 0.02, rel=0.01)


def test_the_published_speed_stands_beside_the_same_call_only(series):
    own, scaled = [call for call in measured(series) if call.system.name == "basecall-hac"]
    assert [each.seconds for each in own.published] == [pytest.approx(0.0521, rel=0.01)]
    assert scaled.shape.scaled and scaled.published == ()


def test_cards_say_whether_the_lead_is_decided(series):
    by_name = {card.title: card for card in cards(series) if "smaller" not in card.detail}
    hac = by_name["Nanopore basecaller, Dorado hac v4.3"]
    assert hac.clear is True and "1.50× [" in hac.detail and "cudnn" in hac.detail and "52.1 ms" in hac.verdict
    tied = next(card for card in cards(series) if "smaller than its own" in card.detail)
    assert tied.clear is False
    alone = by_name["Next-word prediction on phones, federated"]
    assert alone.clear is None and "the only backend measured" in alone.detail


def test_the_figure_counts_who_is_fastest(series):
    drawing = draw(series)
    assert (
        drawing is not None and drawing.caption.startswith("Least time of 3 calls: ") and "onnxruntime in 1" in drawing.caption
    )
    assert draw(series.iloc[:0]) is None and measured(series.drop(columns="workload")) == []


IN_SIGHT = """addEventListener("load", () => setTimeout(() => {
  const drawn = [...document.querySelectorAll("section[aria-labelledby=workloads] .live svg :is(text, path)")];
  const beyond = drawn.map((each) => each.getBoundingClientRect()).filter((at) => at.right > innerWidth + 1 || at.left < 0);
  document.title = JSON.stringify({ drawn: drawn.length, beyond: beyond.length });
}, 1500));"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium or chrome on PATH")
@pytest.mark.parametrize("width", [390, 1400])
def test_long_names_leave_a_figure_room_on_a_phone(records, tmp_path, width):
    with contextlib.closing(store.create(tmp_path / "runs", HEADER)) as writer:
        for one in records:
            writer.append(one)
    text = build([writer.path], tmp_path / "report").html.read_text(encoding="utf-8")
    seen = drive(text, tmp_path, width, IN_SIGHT)
    assert seen["drawn"] > 12 and not seen["beyond"], seen


def test_a_model_of_the_users_has_its_cards(tmp_path):
    """Each of its LSTMs in each phase, by the sizes that its records have."""
    factors = (("workload", "like-mine"), ("module", "enc.rnn"), ("copies", 3))
    spec = LSTMSpec(6, 8, 2, bidirectional=True)
    cases = [Case(spec, 10, 4, phase, factors=factors) for phase in ("forward", "forward_backward")]
    one = (*factors[:1], ("module", "dec"), ("copies", 1))
    cases.append(Case(LSTMSpec(8, 8, device="cuda"), 1, 4, "step", factors=one, launch="graph"))
    records = [
        Record("workloads", case.key, backend, replicate, "ok", case.to_dict(),
               measurements=(Measurement("time", "s", (seconds,) * 4),))
        for case in cases for backend, seconds in (("torch", 2e-3), ("jax", 1e-3)) for replicate in range(2)
    ]  # fmt: skip
    header = Header("r", "2026-11-20T12:00:00Z", 1, "imaginary", ENVIRONMENT, {})
    series = series_frame([Run(tmp_path, header, tuple(records), None)])
    calls = measured(series)
    assert [(call.part.label, call.part.bidirectional, call.shape.phase) for call in calls] == [
        ("enc.rnn and 2 of its sizes", True, "forward"), ("enc.rnn and 2 of its sizes", True, "forward_backward"),
        ("dec, as a CUDA graph", False, "step"),
    ]  # fmt: skip
    assert [call.shape.amount for call in calls] == [40, 40, 4] and calls[0].rate == pytest.approx(40 / 1e-3)
    made = cards(series)
    assert made[0].title == "Your model, mine, enc.rnn and 2 of its sizes" and "k tokens/s" in made[0].detail


def test_a_price_gives_the_cost_in_the_systems_unit(series):
    """At 3.6 an hour a second costs 0.001: 64 chunks of 10 000 samples take 0.02 s, a step of 32 ms of audio 20 µs."""
    calls = {(call.system.name, call.shape.device): call for call in measured(series.assign(**{PRICE: 3.6}))}
    assert calls["basecall-hac", "cuda"].cost == pytest.approx(0.001 * 0.02 / (64 * 10_000) * 1e6, rel=0.01)
    assert calls["vad", "cpu"].cost == pytest.approx(0.001 * 3600 * 2e-5 / 0.032, rel=0.01)
    by_name = {card.title: card.verdict for card in cards(series.assign(**{PRICE: 3.6}))}
    assert "for an hour of audio, at 3.6" in by_name["Voice activity detector, Silero VAD"]
    assert "for a million tokens, at 3.6" in by_name["Next-word prediction on phones, federated"]
    assert not any(" an hour" in card.verdict.replace("an hour of audio for the", "") for card in cards(series))
    columns = [[column.label for column in table(rows).columns] for rows in (series, series.assign(**{PRICE: 3.6}))]
    assert "Cost" not in columns[0] and "Cost" in columns[1]


def test_the_first_call_stands_beside_the_warm_ones(series):
    case = case_of("vad", BY_NAME["vad"].parts[0], BY_NAME["vad"].parts[0].shapes[0])
    own = series[series["case"] == case.key]
    cold = own[own["backend"] == "onnxruntime"].iloc[:1].assign(metric="first_call", samples=[np.array([0.25])])
    (row,) = table(pd.concat([own, cold])).rows
    assert row[5].text == "250 ms" and table(own).rows[0][5].text == "–", "of the fastest, or nothing where it was not measured"


def test_energy_stands_beside_the_speed_or_why_it_does_not(series):
    """64 chunks of 10 000 samples at 6.4 J a call take 10 µJ a sample; of the others none was measured."""
    own = series[series["workload"] == "basecall-hac"]
    on_gpu = own[(own["backend"] == "cuda")]
    joules = on_gpu.assign(metric="energy", unit="J", samples=[np.array([6.0, 6.8])] * len(on_gpu))
    rows = {row[3].text: row for row in table(pd.concat([own, joules])).rows}
    assert rows["cuda"][7].text == "10.0 µJ a sample" and rows["cuda"][7].sort == pytest.approx(1e-5)
    others = [row for name, row in rows.items() if name != "cuda"]
    assert others and all(row[7].text == "not measured" and row[7].sort is None for row in others)
    assert "energy 10.0 µJ a sample" in cards(pd.concat([own, joules]))[0].verdict
    untold = table(own.assign(**{NO_ENERGY: "no RAPL counter"}))
    assert untold.columns[7].hint == "not measured: no RAPL counter"
    assert table(own).columns[7].hint == "not measured: the run is older than this measurement"
