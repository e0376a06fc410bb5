"""How far hosts lie apart, from records of cases that several of them measured."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.report.findings import find_out
from analysis.report.load import Section, load
from analysis.statistics import hosts
from analysis.statistics.hosts import Between
from analysis.statistics.ratios import t_interval
from results.record import Measurement, Record
from tests.analysis import synthetic


def record(case: str, host: str | None, seconds: float, replicate: int = 0, status: str = "ok", metric: str = "time") -> Record:
    return Record(
        "throughput", case, "numpy", replicate, status, {}, "a reason" if status != "ok" else "",
        measurements=(Measurement(metric, "s", (seconds, seconds, 9.0 * seconds)),), conditions={"host": host} if host else {},
    )  # type: ignore[arg-type]  # fmt: skip


def test_the_spread_is_found_that_was_put_in():
    random = np.random.default_rng(5)
    offsets = random.normal(0, 0.03, 200)
    records = [
        record(f"case{case}", f"host{number}", 1e-3 * (case + 1) * math.exp(offset), number)
        for case in range(2)
        for number, offset in enumerate(offsets)
    ]
    found = hosts.spread(records)
    assert found is not None and found.cases == 2
    assert found.relative == pytest.approx(np.std(offsets, ddof=1), rel=1e-9) and hosts.count(records) == 200


def test_replicates_of_one_host_are_one_value():
    records = [record("case", "a", 1.0), record("case", "a", math.exp(0.2), 1), record("case", "b", math.exp(0.5), 2)]
    found = hosts.spread(records)
    assert found is not None and found.relative == pytest.approx(0.4 / math.sqrt(2))


@pytest.mark.parametrize(
    "other",
    [record("case", "a", 2.0, 1), record("other", "b", 2.0), record("case", None, 2.0, 1),
     record("case", "b", 2.0, 1, "skipped"), record("case", "b", 2.0, 1, metric="first_call")],
    ids=["one host", "another case", "no host", "not measured", "another metric"],
)  # fmt: skip
def test_without_a_case_of_two_hosts_nothing_is_said(other: Record):
    assert hosts.spread([record("case", "a", 1.0), other]) is None


def drawn(random: np.random.Generator, hosts_: int, replicates: int, between: float, within: float):
    """Replicates of one case, dealt to hosts in turn, beside those of four common cases that every host measures."""
    offsets = random.normal(0, between, hosts_)
    on = [number % hosts_ for number in range(replicates)]
    values = offsets[on] + random.normal(0, within, replicates)
    common = np.tile(np.arange(max(replicates, hosts_)) % hosts_, 4)
    logs = np.concatenate([offsets[common] + random.normal(0, within, len(common)), values])
    groups = [*np.repeat(range(4), len(common) // 4), *([4] * replicates)]
    names = [f"host{number}" for number in on]
    return values, names, hosts.between(logs.tolist(), groups, [*(f"host{number}" for number in common), *names])


def covered(hosts_: int, replicates: int, between: float, within: float, trials: int = 250) -> tuple[float, float]:
    """Shares of 95 % intervals that hold the true mean 0: with the variance between hosts, and by replicates alone."""
    random = np.random.default_rng(11)
    held = naive = 0
    for _ in range(trials):
        values, names, among = drawn(random, hosts_, replicates, between, within)
        mean, *alone = t_interval(values)
        _, low, high = hosts.interval(values, names, among, 0.95) or (mean, *alone)
        held += low <= 0 <= high
        naive += alone[0] <= 0 <= alone[1]
    return held / trials, naive / trials


@pytest.mark.parametrize("fleet", [(3, 10, 0.03, 0.003), (4, 8, 0.02, 0.004), (3, 3, 0.02, 0.01)])
def test_intervals_cover_where_hosts_differ_most(fleet: tuple[int, int, float, float]):
    """Within three standard errors of 250 trials about 95 %."""
    held, _ = covered(*fleet)
    assert 0.95 - 0.042 <= held <= 0.95 + 0.042


@pytest.mark.parametrize("fleet", [(2, 5, 0.02, 0.01), (3, 5, 0.01, 0.01), (2, 5, 0.0, 0.01)])
def test_intervals_of_few_hosts_cover_at_least_as_often(fleet: tuple[int, int, float, float]):
    assert covered(*fleet, trials=120)[0] >= 0.95 - 0.06


def test_replicates_alone_would_cover_too_seldom():
    """The gate bites: without the term between hosts the intervals are too short."""
    assert covered(3, 10, 0.03, 0.003)[1] < 0.75


def test_the_term_between_hosts_has_known_values():
    among = hosts.between([0.0, 0.2, 0.1, 0.3], ["a", "a", "b", "b"], ["x", "y", "x", "y"])
    assert among is not None and among.freedom == 1 and among.deviation == pytest.approx(0.2 / math.sqrt(2))
    t = 12.706204736
    assert among.half_width([1.0], 0.95) == pytest.approx(t * 0.2 / math.sqrt(2), rel=1e-6)
    values = [0.0, 0.0, 0.3, 0.3]
    found = hosts.interval(values, ["x", "x", "y", "y"], among, 0.95)
    assert found is not None
    assert found == pytest.approx((0.15, 0.15 - t * 0.1, 0.15 + t * 0.1), rel=1e-6), "none on one host: only that of hosts"
    found = hosts.interval(values, ["x", "x", "y", "y"], None, 0.95)
    assert found == pytest.approx((0.15, 0.15 - t * 0.15, 0.15 + t * 0.15), rel=1e-6), "of the means of two hosts"


@pytest.mark.parametrize("names", [["a", "b", "c"], ["a", "a", "a"]])
def test_an_interval_over_replicates_holds_it_already(names: list[str]):
    """Each on a host of its own; or all on the one host that there is."""
    assert hosts.interval([1.0, 2.0, 3.0], names, None, 0.95) is None
    assert hosts.between([1.0, 2.0], ["case", "other"], ["a", "b"]) is None


def on_hosts(section: Section, count: int, slower: float) -> Section:
    """The timings dealt out to hosts by case and replicate, the first case to all, the second host slower by a factor."""
    section = replace(section, series=section.series[section.series["study"] == "throughput"])
    cases = sorted(section.series["case"].unique())
    copies = []
    for shift in range(count):
        key = section.series["replicate_key"] + f"/{shift}" * bool(shift)
        place = (section.series["case"].map(cases.index) + section.series["replicate"] + shift) % count
        own = section.series.assign(replicate_key=key, host=[f"host{number}" for number in place])
        own["samples"] = [
            samples * (slower if host == "host1" else 1.0)
            for samples, host in zip(own["samples"], own["host"], strict=True)
        ]  # fmt: skip
        copies.append(own if not shift else own[(own["case"] == cases[0]) & (own["replicate"] == 0)])
    return replace(section, series=pd.concat(copies, ignore_index=True))


SMALL = synthetic.Synthetic(replicates=1, phases=("forward",), between=0.0, noise=0.002, refusals=False, memory=False)


def test_a_single_replicate_has_the_hosts_in_its_interval(tmp_path: Path):
    section = load([synthetic.write(SMALL, tmp_path)])[0]
    plain = find_out(section).cases.set_index(["case", "backend"])
    cases = find_out(on_hosts(section, 2, 1.1)).cases.set_index(["case", "backend"])
    first = min(plain.index.get_level_values("case"))
    among = Between(math.log(1.1) / math.sqrt(2), 1).half_width([1.0], 0.95)
    for key, row in cases.iterrows():
        assert plain.loc[key, "high"] / plain.loc[key, "seconds"] < 1.01
        if key[0] != first:  # type: ignore[index]
            assert math.log(row["high"] / row["seconds"]) == pytest.approx(among, rel=0.02)
            assert math.log(row["seconds"] / row["low"]) == pytest.approx(among, rel=0.02)


def test_a_ranking_over_hosts_has_them_in_its_interval(tmp_path: Path):
    """One backend alone gains on the second host, so that its speedup differs between hosts and no other does."""
    section = load([synthetic.write(replace(SMALL, replicates=3), tmp_path)])[0]
    series = section.series
    fleet = on_hosts(section, 2, 1.0)
    moved = [
        samples * (1.1 if (backend, host) == ("jax", "host1") else 1.0)
        for samples, backend, host in zip(*(fleet.series[name] for name in ("samples", "backend", "host")), strict=True)
    ]
    found, alone = (
        find_out(each, "torch").rankings["cpu", "forward", "eager"].ratios
        for each in (replace(fleet, series=fleet.series.assign(samples=moved)), replace(section, series=series))
    )
    width = {name: math.log(ratio.high / ratio.value) for name, ratio in found.items() if ratio.high}
    assert width["jax"] > 0.3 and width["jax"] > 20 * width["numpy"]
    assert alone["jax"].high is not None and math.log(alone["jax"].high / alone["jax"].value) < 0.05
