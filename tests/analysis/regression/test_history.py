"""Series over commits: known changes are found where they are, and nothing else is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.regression import changes, history
from results.record import Measurement, Record
from results.store import Corrupt, DamagedLine
from tests.analysis.history_synthetic import COMMITS, MACHINE_CHANGED, STEPS, times, write


@pytest.mark.parametrize("case", STEPS)
def test_steps_are_found_within_three_commits(case: str):
    (found,) = [change for change in changes.find(times(case)) if change.mark != "grey"]
    at, size = STEPS[case]
    assert (found.mark, found.kind) == ("red", "step")
    assert abs(found.index - at) <= 3 and found.change == pytest.approx(1 + size, abs=0.01)


def test_a_drift_is_no_step_and_a_dip_that_recovered_no_alert():
    assert all(change.kind == "drift" and change.mark == "amber" for change in changes.find(times("drift")))
    dip = changes.find(times("dip"))
    assert [change.kind for change in dip] == ["recovered", "recovered"] and {change.mark for change in dip} == {"grey"}


def test_noise_alone_alerts_in_at_most_1_of_100_series():
    random = np.random.default_rng(0)
    series = [list(0.01 * np.exp(random.normal(0, noise, 100))) for noise in (0.003, 0.005, 0.01) for _ in range(20)]
    assert sum(any(change.mark == "red" for change in changes.find(values)) for values in series) == 0


def test_a_machine_change_is_never_bridged(tmp_path: Path):
    write(tmp_path, ("step-10", "flat"), machine_changes=True)
    found = history.series(history.read(tmp_path), COMMITS)
    assert len(found) == 4, "two cases on two machines"
    assert {len(one.points) for one in found} == {MACHINE_CHANGED, 100 - MACHINE_CHANGED}
    alerts = [(one, change) for one in found for change in one.changes()]
    ((where, change),) = alerts
    assert (where.key.case, where.machine) == ("step-10", "new-machine")
    before, first = where.blamed(change)
    assert (COMMITS.index(before), COMMITS.index(first)) == (79, 80)


def test_points_follow_the_commits_whatever_the_clock_says(tmp_path: Path):
    write(tmp_path, ("flat",))
    runs = history.read(tmp_path)
    backwards = history.series(reversed(runs), COMMITS)
    assert [point.commit for point in backwards[0].points] == COMMITS
    some = history.series(runs, COMMITS[10:20])
    assert [point.commit for point in some[0].points] == COMMITS[10:20]
    assert some[0].points[0].standard_error == pytest.approx(0.005 / 5**0.5, rel=0.9)


@pytest.mark.parametrize("said", ["true", "null"], ids=["dirty", "not known to be clean"])
def test_a_run_that_is_not_the_code_of_a_commit_is_no_point(tmp_path: Path, said: str):
    write(tmp_path, ("flat",))
    for path in tmp_path.rglob("*.jsonl"):
        path.write_text(path.read_text().replace('"dirty":false', f'"dirty":{said}'))
    runs = history.read(tmp_path)
    assert history.series(runs, COMMITS) == [] and history.left_out(runs, COMMITS) == {"dirty": 100}


def test_an_unfinished_run_is_no_point(tmp_path: Path):
    write(tmp_path, ("flat",))
    path = next(tmp_path.rglob("*.jsonl"))
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    runs = history.read(tmp_path)
    assert len(history.series(runs, COMMITS)[0].points) == 99
    assert history.left_out(runs, COMMITS) == {"unfinished": 1}


def test_another_protocol_or_host_is_another_series(tmp_path: Path):
    write(tmp_path, ("flat",))
    run = history.read(tmp_path)[0]
    header = run.header
    asked = [{"suite": "quick"}, {"suite": "cpu"}, {"suite": "cpu", "studies": ["cost"]}]
    marks = {history.fingerprint(replace(run, header=replace(header, plan=plan))) for plan in asked}
    hosts = [replace(run, header=replace(header, environment=header.environment | {"host": host})) for host in ("a", "b")]
    assert len(marks | {history.fingerprint(one) for one in hosts}) == 5
    both = {"suite": "quick", "studies": ["cost", "memory"]}
    assert history.fingerprint(replace(run, header=replace(header, plan=both))) == history.fingerprint(run)


def test_another_location_gives_other_times(tmp_path: Path):
    write(tmp_path, ("flat",))
    runs = [replace(run, records=tuple(map(_three, run.records))) for run in history.read(tmp_path)]
    (usual,), (least,) = history.series(runs, COMMITS), history.series(runs, COMMITS, lambda _: "minimum")
    assert usual.points[0].seconds == 2.0 and least.points[0].seconds == 1.0


def _three(record: Record) -> Record:
    return replace(record, measurements=(Measurement("time", "s", (1.0, 2.0, 3.0)),))


def test_a_corrupt_file_is_named_and_left_out(tmp_path: Path):
    write(tmp_path, ("flat",))
    first, *others = sorted(tmp_path.rglob("*.jsonl"))
    first.write_text("no JSON\n")
    with pytest.warns(DamagedLine, match=rf"left out: {first} is no run: its first line.*restore the file from a copy"):
        assert len(history.read(tmp_path)) == len(others) > 0
    for other in others:
        other.unlink()
    with pytest.raises(Corrupt, match=rf"{first} is no run"):
        history.read(tmp_path)


def test_a_jump_of_the_newest_point_is_suspected_at_once():
    random = np.random.default_rng(1)
    usual = list(0.01 * np.exp(random.normal(0, 0.003, 40)))
    assert changes.beyond_the_usual(usual) is None
    assert changes.beyond_the_usual([*usual, 0.0106]) == pytest.approx(1.06, abs=0.01)
    assert changes.find([0.01] * 3) == [] and changes.beyond_the_usual([0.01] * 3) is None
