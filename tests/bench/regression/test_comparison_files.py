"""A comparison's two files: both or none, a name of their own, found again by their first lines alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.regression.comparison import OtherMachine, from_runs
from bench.harness import plan
from bench.machine.lock import DeviceBusy, device_lock
from bench.processes.code import Code, SourceInfo
from bench.regression import comparison
from bench.regression.comparison import SIDES, ComparisonSide
from results import store
from tests.bench.conftest import Collector

DESCRIBED: dict[str, Any] = {"host": "a", "git": {"commit": "c", "dirty": False}}
PLAN = plan.make("smoke", ["numpy"], ["phase=step"], threads=1)


def made(root: Path, label: str) -> list[Path]:
    """An empty comparison of something with itself."""
    sides = dict.fromkeys(SIDES, ComparisonSide(label, Code(), SourceInfo(1, "m", DESCRIBED, [])))
    with comparison.opened(PLAN, sides, root, Collector(), {}) as opened:
        return list(opened.paths.values())


def test_of_all_other_comparisons_only_the_first_line_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "comparisons"
    paths = {label: made(root, label) for label in ("one", "two", "three")}
    read, opened = store.read, []
    monkeypatch.setattr(store, "read", lambda path: opened.append(path) or read(path))
    sides = dict.fromkeys(SIDES, ComparisonSide("two", Code(), SourceInfo(1, "m", DESCRIBED, [])))
    found = comparison.earlier(PLAN, sides, root, {})
    assert found is not None and {run.path for run in found.values()} == set(paths["two"]) == set(opened)


def test_two_in_the_same_microsecond_get_names_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (taken, _), seen = made(tmp_path / "comparisons", "one"), []
    create = store.create

    def collides_once(root: Path, header: Any, numbered: bool) -> store.Writer:
        seen.append(header)
        return create(root, replace(header, run=taken.stem) if len(seen) == 2 else header, numbered=numbered)

    monkeypatch.setattr(store, "create", collides_once)
    again = made(tmp_path / "comparisons", "one")
    assert len(store.find(tmp_path / "comparisons")) == 4, "and what the first try had made is gone"
    assert len({store.header_of(path).plan["comparison"] for path in again}) == 1 and len(seen) == 4


def test_both_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    create, begun = store.create, []

    def full(root: Path, header: Any, numbered: bool) -> store.Writer:
        begun.append(header)
        if len(begun) == 2:
            raise store.WriteFailed("no room")
        return create(root, header, numbered=numbered)

    monkeypatch.setattr(store, "create", full)
    with pytest.raises(store.WriteFailed):
        made(tmp_path / "comparisons", "one")
    assert len(begun) == 2 and store.find(tmp_path / "comparisons") == []


def test_a_busy_device_leaves_no_file(tmp_path: Path):
    with device_lock("cpu"), pytest.raises(DeviceBusy):
        made(tmp_path / "comparisons", "one")
    assert not (tmp_path / "comparisons").exists()


def test_runs_of_two_known_hosts_do_not_compare(tmp_path: Path):
    runs = [store.read(path) for path in made(tmp_path / "comparisons", "one")]
    environment = runs[1].header.environment
    other = replace(runs[1], header=replace(runs[1].header, environment=environment | {"host": "b"}))
    with pytest.raises(OtherMachine, match="do not compare: host a against b"):
        from_runs(runs[0], other)
    unsaid = replace(runs[1], header=replace(runs[1].header, environment=environment | {"host": None}))
    with pytest.raises(Exception, match="have no case and backend in common"):
        from_runs(runs[0], unsaid)
