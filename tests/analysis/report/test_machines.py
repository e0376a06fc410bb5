"""Machines side by side: which of them for an LSTM, by speed, price and energy."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.report import summary
from analysis.report.findings import find_out
from analysis.report.load import InvalidPrice, Section, load, priced
from analysis.report.page import build
from analysis.report.tables import Table, beside
from lstm_bench.commands.app import _prices
from tests.analysis.synthetic import ENVIRONMENT, Synthetic, write

SMALL = Synthetic(replicates=3, batches=(8,), hiddens=(64, 256), lengths=(16,), phases=("forward",), between=0.002, noise=0.001)
OTHER = ENVIRONMENT | {"cpu": {**ENVIRONMENT["cpu"], "model": "Other 7000"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(SMALL, tmp_path / "runs")
    write(replace(SMALL, machine="other-cpu", environment=OTHER), tmp_path / "runs")
    return tmp_path / "runs"


def slower(section: Section, factor: float) -> Section:
    return replace(section, series=section.series.assign(samples=[samples * factor for samples in section.series["samples"]]))


def with_energy(section: Section, joules: float) -> Section:
    """Each case's energy on two backends, of which the dearer does not count."""
    rows = section.series[(section.series["metric"] == "time") & section.series["backend"].isin(["torch", "jax"])]
    drawn = [np.array([joules * (9 if backend == "jax" else 1)]) for backend in rows["backend"]]
    energy = rows.assign(study="decode", metric="energy", samples=drawn, count_tokens=100.0)
    return replace(section, series=pd.concat([section.series, energy]))


def column(table: Table, label: str) -> list[float | None]:
    place = [each.label for each in table.columns].index(label)
    return [row[place].sort for row in table.rows]


def test_known_machines_stand_side_by_side_with_known_values(folder: Path):
    """At 3.6 an hour a second costs 0.001; at half the speed and a quarter of the price a token costs half."""
    first, second = sorted(priced(load([folder]), {"": 3.6, "Other 7000": 0.9}), key=lambda section: section.title)
    second = slower(replace(second, series=first.series.assign(price_an_hour=0.9)), 2.0)
    founds = [find_out(with_energy(first, 5.0)), find_out(with_energy(second, 2.0))]
    table = beside(founds)
    speeds, rates, costs, joules = (column(table, label) for label in ("Speedup", "Tokens/s", "Cost", "Energy"))
    assert speeds == pytest.approx([1.0, 0.5]) and column(table, "Price") == [3.6, 0.9]
    fastest = founds[0].cases.sort_values("seconds").drop_duplicates("case")["tokens_per_second"]
    rate = math.exp(np.log(fastest.to_numpy(float)).mean())
    assert rates == pytest.approx([rate, rate / 2]) and costs == pytest.approx([1000 / rate, 500 / rate])
    assert joules == pytest.approx([50e3, 20e3])
    assert "[" in table.rows[1][4].text, "with an interval"


def test_what_is_not_known_of_a_machine_is_said(folder: Path):
    sections = sorted(priced(load([folder]), {"other-cpu": 2.0}), key=lambda section: section.title)
    founds = [find_out(section) for section in sections]
    table = beside(founds)
    labels = [each.label for each in table.columns]
    assert [row[labels.index("Energy")].text for row in table.rows] == ["not measured"] * 2
    assert [row[labels.index("Cost")].text == "not given" for row in table.rows] == [True, False]
    assert not beside(founds[:1]).rows
    unpriced = beside([find_out(section) for section in load([folder])])
    assert unpriced.rows and not {"Price", "Cost"} & {each.label for each in unpriced.columns}


def test_the_page_has_the_machines_side_by_side(folder: Path, tmp_path: Path):
    made = build([folder], tmp_path / "report", price={"Imaginary 9000": 1.2, "": 3.0})
    for path in (made.html, *made.others):
        assert 'id="machines"' in path.read_text() and "Other 7000" in path.read_text()
    assert "### Machines side by side" in made.markdown.read_text()
    alone = build([next(folder.rglob("*.jsonl"))], tmp_path / "alone")
    assert "side by side" not in alone.html.read_text() and "side by side" not in alone.markdown.read_text()


@pytest.mark.parametrize(
    ("price", "said"),
    [
        ({"H100": 2.0}, "no machine named 'H100', to have a price; name one of .*other-cpu"),
        ({"imaginary-cpu": 2.0, "Imaginary 9000": 3.0}, "has two prices, by the names imaginary-cpu and Imaginary 9000"),
        ({"other-cpu": 0.0}, "must be a number above 0; got 0"),
    ],
)
def test_a_price_is_of_one_machine(folder: Path, price: dict[str, float], said: str):
    with pytest.raises(InvalidPrice, match=said):
        priced(load([folder]), price)


def test_prices_are_read_from_the_command_line():
    assert _prices(None) == {} and _prices(["2.5", "H100=1.20", "a=b=3"]) == {"": 2.5, "H100": 1.2, "a=b": 3.0}
    with pytest.raises(InvalidPrice, match="cannot read 'H100=cheap' as a price"):
        _prices(["H100=cheap"])
    with pytest.raises(InvalidPrice, match="all machines have two prices"):
        _prices(["1", "2"])


@pytest.mark.parametrize(
    ("address", "shown"), [("local:3", "--fleet local:3"), ("auto", "--fleet auto"), (None, "--fleet auto")]
)
def test_the_command_of_a_fleets_run_has_the_fleet(tmp_path: Path, address: str | None, shown: str):
    fleet = {"id": "0", "fingerprint": "1"} | ({"address": address} if address else {})
    (section,) = load([write(replace(SMALL, environment=ENVIRONMENT | {"fleet": fleet}), tmp_path)])
    assert summary.commands(section)[0].endswith(shown)
    (plain,) = load([write(replace(SMALL, run="20261120-120000-plain"), tmp_path)])
    assert "--fleet" not in summary.commands(plain)[0]


def test_other_fingerprints_of_one_fleet_stand_beside_each_other(tmp_path: Path):
    """Of one processor, with another governor: one page, whose table has both."""
    for number, governor in enumerate(("performance", "powersave")):
        environment = ENVIRONMENT | {"fleet": {"id": "0", "fingerprint": f"{governor[:5]}"}, "host": "fleet-0"}
        environment["cpu"] = {**ENVIRONMENT["cpu"], "governor": governor}
        write(replace(SMALL, run=f"12000{number}-quick-fleet", environment=environment), tmp_path / "runs")
    text = build([tmp_path / "runs"], tmp_path / "report").markdown.read_text()
    table = text[text.index("### Machines side by side") :]
    assert "(imaginary-cpu, perfo)" in table and "(imaginary-cpu, power)" in table
