"""What a file of exclusions leaves out of a run as it is read: what it names, of what failed, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from results import exclusions, store
from results.record import Header, Record
from results.store import StoreError

HEADER = Header("run", "2026-01-02T12:00:00+00:00", 1, "machine", {}, {})


def record(case: str, status: str = "failed") -> Record:
    kind = "error" if status == "failed" else None
    return Record("study", case, "cuda", 0, status, {}, kind=kind, reason="why" if status != "ok" else "")  # pyright: ignore[reportArgumentType]


def run(folder: Path, beside: object = None) -> Path:
    path = folder / "run.jsonl"
    writer = store.Writer(path)
    writer.append(HEADER, record("a"), record("b"), record("c", "ok"))
    writer.close()
    if beside is not None:
        (folder / exclusions.FILE).write_text(json.dumps(beside))
    return path


def excluded(case: str, reason: str = "invalid_context") -> dict[str, object]:
    return {"task": ["study", case, "cuda", 0], "reason": reason}


def test_without_the_file_nothing_is_left_out(tmp_path):
    found = store.read(run(tmp_path))
    assert [one.case for one in found.records] == ["a", "b", "c"] and not found.left_out


def test_what_it_names_is_left_out_and_kept_in_the_file(tmp_path):
    path = run(tmp_path, {"run": [excluded("a")], "another": [excluded("b")]})
    found = store.read(path)
    assert [one.case for one in found.records] == ["b", "c"]
    assert found.left_out == {("study", "a", "cuda", 0): "invalid_context"}
    assert [case for _, case, _, _ in store.written(path)] == ["a", "b", "c"]


def test_what_encode_writes_is_read_back(tmp_path):
    path = run(tmp_path)
    task = ("study", "a", "cuda", 0)
    (tmp_path / exclusions.FILE).write_text(exclusions.encode({"run": {task: "allowed_today"}, "empty": {}}))
    assert exclusions.beside(path) == {task: "allowed_today"} and exclusions.beside(tmp_path / "empty.jsonl") == {}


@pytest.mark.parametrize(
    ("beside", "complaint"),
    [
        ({"run": [excluded("c")]}, "no failed record"),  # what was measured is never left out
        ({"run": [excluded("absent")]}, "no failed record"),
        ({"run": [excluded("a", "slow")]}, "reason must be one of"),
        ({"run": [{"task": ["study"], "reason": "allowed_today"}]}, "python -m bench.exclusions"),
        ([], "python -m bench.exclusions"),
    ],
)
def test_a_file_that_does_not_fit_the_run_is_refused(tmp_path, beside, complaint):
    with pytest.raises(StoreError, match=complaint):
        store.read(run(tmp_path, beside))
