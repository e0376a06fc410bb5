"""Two sides as rows: what is paired with what, what cannot be compared and why, and how the answer reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis.regression import comparison, comparison_markdown
from analysis.regression.comparison import Key, NotComparable, Sides, accuracy, by_key, exit_code, from_runs, memory
from analysis.statistics.decision import Decision, Rule
from results import store
from results.record import Measurement, Record
from tests.analysis.report.test_pull_request import shown_lines
from tests.analysis.synthetic import Synthetic, write

MIB = 2**20


def record(number: int, seconds: float, backend: str = "torch", case: str = "small", **changes) -> Record:
    measured = (
        Measurement("time", "s", tuple(seconds * np.array([1.0, 1.001, 1.002, 1.3]))),
        Measurement("first_call", "s", (seconds * 9,)),
        Measurement("error", "1", (1e-7,)),
    )
    return replace(Record("throughput", case, backend, number, "ok", {}, measurements=measured), **changes)


def sides(base: list[Record], new: list[Record], **options) -> Sides:
    return Sides(by_key(base), by_key(new), paired=True, **options)


def pairs(slowdown: float, count: int = 5) -> tuple[list[Record], list[Record]]:
    random = np.random.default_rng(0)
    drift = np.exp(random.normal(0, 0.3, 2000))  # common to both sides of a pair
    numbers = [*range(count), *range(1000, 1010)]
    noise = np.exp(random.normal(0, 0.002, 2000))
    base = [record(number, 0.01 * drift[number]) for number in numbers]
    new = [record(number, 0.01 * (1 + slowdown) * drift[number] * noise[number]) for number in numbers]
    return base, new


@pytest.mark.parametrize(("slowdown", "verdict", "code"), [(0.05, "SLOWER", 1), (0.0, "SAME", 0), (-0.05, "FASTER", 0)])
def test_shared_drift_cancels_and_the_verdict_sets_the_exit_code(slowdown: float, verdict: str, code: int):
    rows = sides(*pairs(slowdown)).rows()
    times = [row for row in rows if row.metric == "time"]
    assert [row.decision.verdict for row in times] == [verdict]
    assert exit_code(row.decision for row in times) == code
    assert {row.metric for row in rows} == {"time", "first_call", "error"}


def test_failed_or_missing_is_uncomparable_with_the_reason():
    gone = record(0, 1.0, status="failed", kind="error", reason="UnknownName: no backend 'torch'", measurements=())
    refused = record(0, 1.0, "cudnn", status="skipped", reason="needs cuda", measurements=())
    found = sides([record(0, 1.0), refused, record(0, 1.0, "jax")], [gone, refused]).rows()
    reasons = {row.key.backend: row.decision.reason for row in found}
    assert reasons == {
        "torch": "new failed (error): UnknownName: no backend 'torch'",
        "jax": "new has not measured it",
    }
    assert exit_code(row.decision for row in found) == 3


def test_clocks_that_differ_are_not_compared():
    base, new = pairs(0.0)
    base = [replace(item, conditions={"sm_clock_mhz": 1980}) for item in base]
    new = [replace(item, conditions={"sm_clock_mhz": 1700}) for item in new]
    assert "1700 MHz for new" in sides(base, new).time(Key("throughput", "small", "torch")).reason


def test_one_disturbed_pair_takes_nothing_from_the_others():
    key = Key("throughput", "small", "torch")
    base, new = pairs(0.0)
    assert sides(base, new).time(key).verdict == "SAME"
    why = {"status": "failed", "kind": "unstable", "reason": "the GPU slowed itself down", "measurements": ()}
    found = sides(base, [new[0], replace(new[1], **why), *new[2:]])
    decision = found.time(key)
    assert decision.verdict == "UNDECIDED" and decision.next == (1,), "it is to be measured again"
    assert decision.reason == "pair 2 does not count: the GPU slowed itself down"
    assert {row.metric for row in found.rows()} == {"time", "first_call", "error"}
    assert {row.decision.pairs for row in found.rows() if row.metric == "first_call"} == {14}
    all_of_them = sides(base, [replace(record, **why) for record in new]).time(key)
    assert all_of_them.verdict == "UNCOMPARABLE" and "slowed itself down" in all_of_them.reason


def test_the_mean_is_no_finer_than_the_calibrations_of_its_cases():
    base, new = pairs(-0.03, 20)
    key = Key("throughput", "small", "torch")
    fine, rough = sides(base, new).overall(), sides(base, new, rules={key: Rule(floor=0.05, detectable=0.06)}).overall()
    assert fine is not None and rough is not None and (fine.verdict, rough.verdict) == ("FASTER", "UNDECIDED")


def test_runs_that_were_not_paired_never_alert_and_have_a_mean():
    base, new = pairs(0.1, 20)
    drifting = replace(sides(base, new), paired=False)
    times = [row.decision for row in drifting.rows() if row.metric == "time"]
    assert exit_code(times) == 3 and drifting.overall() is not None
    steady = [[record(number, 0.01 * factor * (1 + 1e-4 * number)) for number in range(8)] for factor in (1.0, 1.1)]
    apart = replace(sides(*steady), paired=False)
    (time,) = [row.decision for row in apart.rows() if row.metric == "time"]
    assert time.verdict == "UNDECIDED" and "looks slower" in time.reason and exit_code([time]) == 3
    mean = apart.overall()
    assert mean is not None and mean.change == pytest.approx(1.1) and mean.verdict == "UNDECIDED"


def test_a_rule_of_this_machine_is_obeyed():
    key = Key("throughput", "small", "torch")
    assert sides(*pairs(0.05, 20), rules={key: Rule(floor=0.1)}).time(key).verdict == "UNDECIDED"


def test_two_backends_share_a_row():
    base, new = by_key([record(0, 1.0, "torch")], "jax", last=True), by_key([record(0, 2.0, "jax")], "torch")
    assert base.keys() == new.keys() == {Key("throughput", "small", "torch → jax")}


@pytest.mark.parametrize(("base", "new", "verdict"), [
    ([10 * MIB, 10 * MIB], [13 * MIB, 13 * MIB], "SLOWER"),
    ([10 * MIB, 10 * MIB], [11 * MIB, 11 * MIB], "SAME"),
    ([1000 * MIB, 1000 * MIB], [1005 * MIB, 1005 * MIB], "SAME"),
    ([13 * MIB, 13 * MIB], [10 * MIB, 10 * MIB], "FASTER"),
    ([10 * MIB, 20 * MIB], [15 * MIB, 25 * MIB], "SAME"),
    ([0], [0], "SAME"),
])  # fmt: skip
def test_memory_is_more_beyond_2_mebibytes_and_1_percent(base, new, verdict):
    assert memory(base, new).verdict == verdict


def test_an_error_that_doubles_is_less_accurate():
    assert [accuracy(1e-7, new).verdict for new in (1e-7, 1.9e-7, 2.1e-7, 4e-8)] == ["SAME", "SAME", "SLOWER", "FASTER"]
    worse = accuracy(0.0, 1e-9)
    assert (worse.verdict, worse.change, comparison.change(worse.change)) == ("SLOWER", None, "")
    assert (accuracy(1e-9, 0.0).verdict, accuracy(0.0, 0.0).verdict) == ("FASTER", "SAME")


def test_runs_that_share_nothing_are_not_compared(tmp_path: Path):
    small = Synthetic(backends=("torch",), phases=("forward",), batches=(1,), hiddens=(64,), lengths=(64,))
    runs = {}
    for name, what in {
        "base": small,
        "same": replace(small, seed=1),
        "machine": replace(small, machine="another"),
        "protocol": replace(small, protocol=2),
        "cases": replace(small, batches=(8,)),
    }.items():
        runs[name] = store.read(write(what, tmp_path / name))
    assert any(row.metric == "time" for row in from_runs(runs["base"], runs["same"]).rows())
    for name, why in {"machine": "machine", "protocol": "protocol 1 against 2", "cases": "no case"}.items():
        with pytest.raises(NotComparable, match=why):
            from_runs(runs["base"], runs[name])


def test_markdown_shows_what_changed_and_folds_the_rest(tmp_path: Path):
    slow, same = sides(*pairs(0.05)).rows(), sides(*pairs(0.0)).rows()
    same = [replace(row, key=row.key._replace(case="other|case")) for row in same]
    said = ("main", "abc123", [*slow, *same], Decision("SLOWER", 1.02, 1.01, 1.03, 5), ["A remark."])
    text = comparison_markdown.markdown(*said, "found.png")
    assert text.startswith("### 🔴 1 SLOWER, 1 SAME: `abc123` against `main`\n\n- Geometric mean of the time: +2.0 %")
    before, folded = text.split("<details>", 1)
    assert "🔴 SLOWER" in before and "small" in before and "other" not in before and "(found.png)" in before
    assert "other\\|case" in folded and "small" in folded and "- A remark." in folded
    assert text.count("<details>") == text.count("</details>") == 2


def test_markdown_of_many_changes_is_one_screen(tmp_path: Path):
    rows = [
        replace(row, key=row.key._replace(case=f"lstm-I512-H512-T32-B{number}-forward_backward-float32-cpu"))
        for number in range(200) for row in sides(*pairs(0.05)).rows()
    ]  # fmt: skip
    text = comparison_markdown.markdown(
        "main", "abc123", rows, Decision("SLOWER", 1.02, 1.01, 1.03, 5), ["A remark."] * 9, "a.png"
    )
    assert len(shown_lines(text)) <= 40 and "192 more below." in text and text.count("B199-") == 1
    assert comparison_markdown.chart(rows, tmp_path / "a.png") and (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert not comparison_markdown.chart([], tmp_path / "b.png") and not (tmp_path / "b.png").exists()


def test_values_are_plain_json():
    rows = sides(*pairs(0.05)).rows()
    none = (Measurement("time", "s", (1.0, 1.0)), Measurement("error", "1", (0.0,)))
    some = (Measurement("time", "s", (1.0, 1.0)), Measurement("error", "1", (1e-9,)))
    rows += sides([record(0, 1.0, "jax", measurements=none)], [record(0, 1.0, "jax", measurements=some)]).rows()
    found = json.loads(json.dumps(comparison.values("a", "b", rows, None, []), allow_nan=False))
    assert found["rows"][0]["verdict"] == "SLOWER" and found["rows"][0]["change"] == pytest.approx(1.05, abs=0.01)


@pytest.mark.parametrize(("value", "text"), [(1.031, "+3.1 %"), (0.88, "−12 %"), (1.0, "+0 %"), (2.5, "×2.50"), (None, "")])
def test_changes_as_people_say_them(value: float | None, text: str):
    assert comparison.change(value) == text
