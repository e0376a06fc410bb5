"""What may be read together and what may not; half-written, old and empty files are still read."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.report.findings import find_out
from analysis.report.load import choose, load
from analysis.report.page import build
from results.store import Corrupt, DamagedLine, StoreError
from tests.analysis.synthetic import ENVIRONMENT, Synthetic, write

QUICK = Path(__file__).parents[3] / "results/runs/2026-11-22/intel-xeon-2c-0833fe/111709-quick.jsonl"
SMALL = Synthetic(phases=("forward",), batches=(1, 8), hiddens=(64,), lengths=(64,), replicates=2, backends=("torch", "jax"))


def test_machines_are_kept_apart(tmp_path: Path) -> None:
    write(SMALL, tmp_path)
    write(replace(SMALL, machine="other-machine", run="b"), tmp_path)
    sections = load([tmp_path])
    assert sorted(section.machine for section in sections) == ["imaginary-cpu", "other-machine"]
    assert all(set(section.records["machine"]) == {section.machine} for section in sections)


def test_protocols_are_kept_apart_and_it_is_said(tmp_path: Path) -> None:
    write(SMALL, tmp_path)
    write(replace(SMALL, protocol=2, run="b"), tmp_path)
    first, second = load([tmp_path])
    assert {first.protocol, second.protocol} == {1, 2}
    assert any("protocol" in remark for remark in first.remarks)


def test_other_versions_are_kept_apart_and_named(tmp_path: Path) -> None:
    write(SMALL, tmp_path)
    newer = ENVIRONMENT | {"packages": ENVIRONMENT["packages"] | {"torch": "2.10.0"}}
    write(replace(SMALL, environment=newer, run="b"), tmp_path)
    first, _ = load([tmp_path])
    assert any("packages.torch 2.9.0 here, 2.10.0 there" in remark for remark in first.remarks)


def test_runs_of_the_same_kind_add_replicates(tmp_path: Path) -> None:
    write(SMALL, tmp_path)
    write(replace(SMALL, run="b", seed=1), tmp_path)
    (section,) = load([tmp_path])
    assert section.records["replicate_key"].nunique() == 4
    ratio = find_out(section).rankings["cpu", "forward", "eager"].ratios["jax"]
    assert ratio.replicates == 4


def test_the_default_is_the_latest_run(tmp_path: Path) -> None:
    write(SMALL, tmp_path)
    latest = write(replace(SMALL, run="z"), tmp_path)
    assert choose((), tmp_path) == [latest]


def test_nothing_to_read_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="measure first"):
        choose((), tmp_path)
    with pytest.raises(StoreError, match=r"no run below .*name a run"):
        choose([tmp_path])


def test_a_half_written_run_is_still_reported(tmp_path: Path) -> None:
    path = write(SMALL, tmp_path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[: len(lines) // 2]) + "\n" + lines[-3][:40])
    with pytest.warns(DamagedLine):
        (section,) = load([path])
    assert any("interrupted, or still going" in remark for remark in section.remarks)
    with pytest.warns(DamagedLine):
        assert "interrupted, or still going" in build([path], tmp_path / "report").html.read_text()


@pytest.mark.parametrize("kept", [1, 2, 3, 5])
def test_a_run_of_a_few_lines_makes_a_page(tmp_path: Path, kept: int) -> None:
    path = write(SMALL, tmp_path)
    path.write_text("\n".join(path.read_text().splitlines()[:kept]) + "\n")
    page = build([path], tmp_path / "report").html.read_text()
    assert "ot measured" in page


def test_an_older_record_without_later_fields_is_read(tmp_path: Path) -> None:
    path = tmp_path / "old.jsonl"
    header = (
        '{"line":"run","run":"old","started":"2026-01-01T00:00:00+00:00","protocol":1,"machine":"m","environment":{},"plan":{},'
        '"schema":1}'
    )
    record = (
        '{"line":"record","study":"throughput","case":"c","backend":"torch","replicate":0,"status":"ok",'
        '"parameters":{"phase":"forward","device":"cpu"},'
        '"measurements":[{"metric":"time","unit":"s","samples":[0.1,0.2,0.3]}]}'
    )
    path.write_text(f"{header}\n{record}\n")
    assert "Only torch was measured" in build([path], tmp_path / "report").markdown.read_text()


def test_importing_analysis_imports_nothing_heavy() -> None:
    code = "import sys, analysis; print([name for name in ('pandas', 'numpy', 'matplotlib', 'scipy') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_run_of_no_known_commit_says_why(tmp_path: Path) -> None:
    state = {"commit": None, "committed": None, "dirty": None, "reason": "git is not installed"}
    write(replace(SMALL, environment=ENVIRONMENT | {"git": state}), tmp_path)
    (section,) = load([tmp_path])
    assert any(remark.endswith("is not known to be the code of a commit: git is not installed.") for remark in section.remarks)


def test_runs_of_other_days_are_other_replicates(tmp_path):
    lines = [json.loads(line) for line in QUICK.read_text(encoding="utf-8").splitlines()]
    for day in (10, 11, 12):
        lines[0] |= {"started": f"2026-11-{day}T03:00:01+00:00", "run": "030001-quick"}
        path = tmp_path / f"2026-11-{day}" / "m" / "030001-quick.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    (section,) = load([tmp_path])
    assert section.series["run_key"].nunique() == 3
    assert section.series["replicate_key"].nunique() == 3 * lines[0]["plan"]["replicates"]


@pytest.mark.parametrize("change", [
    {"started": "2026-11-23T11:17:09+00:00"}, {"machine": "another-machine"}, {"run": "111709-quick-2"},
    {"environment": {"host": "another-host"}},
], ids=lambda change: next(iter(change)))  # fmt: skip
def test_a_run_of_another_moment_machine_host_or_name_is_another(tmp_path: Path, change: dict[str, object]) -> None:
    header, *lines = QUICK.read_text(encoding="utf-8").splitlines(keepends=True)
    values = json.loads(header)
    for name, own in (("a", {}), ("b", change)):
        merged = values | {key: values[key] | value if isinstance(value, dict) else value for key, value in own.items()}
        (tmp_path / f"{name}.jsonl").write_text("".join([json.dumps(merged) + "\n", *lines]), encoding="utf-8")
    sections = load([tmp_path])
    assert len({key for section in sections for key in section.series["run_key"]}) == 2


@pytest.mark.parametrize("kept", [None, -20])
def test_a_copy_of_a_run_counts_once_and_the_more_complete_one(tmp_path: Path, kept: int | None) -> None:
    lines = QUICK.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "a.jsonl").write_text("".join(lines[:kept]), encoding="utf-8")
    (tmp_path / "copies" / "b.jsonl").write_text("".join(lines), encoding="utf-8")
    with pytest.warns(DamagedLine, match="left out: .* is a copy of"):
        (section,) = load([tmp_path / "copies"])
    (alone,) = load([QUICK])
    assert len(section.records) == len(alone.records) and len(section.runs) == 1


@pytest.mark.parametrize(
    "harm", [b"", b"{}\n", b"\xff\xfe\x00", b'{"line":"end"}\n'], ids=["empty", "no line", "no text", "no header"]
)
def test_a_file_that_is_no_run_is_named_and_left_out(tmp_path: Path, harm: bytes) -> None:
    write(SMALL, tmp_path)
    bad = tmp_path / "2020-01-01" / "m0" / "000000-quick.jsonl"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(harm)
    with pytest.warns(DamagedLine, match=rf"left out: {bad} is no run"):
        sections = load([tmp_path])
    assert [section.machine for section in sections] == ["imaginary-cpu"]
    with pytest.raises(Corrupt, match=rf"{bad} is no run"):
        load([bad])
