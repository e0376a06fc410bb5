"""Revisions against each other, measured for real on the smallest case: found slower, resumed, refused with a reason."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from bench.harness import plan
from bench.harness.plan import Plan
from bench.processes.code import Code
from bench.regression.revisions import Repository, RevisionError
from lstm_bench.commands import compare
from lstm_bench.commands.compare import Options, UnclearSides
from results import store
from tests.analysis.synthetic import Synthetic, write
from tests.bench.conftest import Collector
from tests.lstm_bench.history_repository import History


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """main: base, slow, broken, without; each with its own tag."""
    made = History(tmp_path_factory.mktemp("repository") / "project").with_code()
    made.commit("base")
    made.git("tag", "base")
    made.slow_down()
    made.commit("slow")
    made.git("tag", "slow")
    environment = made.folder / "bench" / "machine" / "environment.py"
    text = environment.read_text()
    environment.write_text("this is no Python\n")
    made.commit("broken")
    made.git("tag", "broken")
    environment.write_text(text)
    made.numpy_backend.rename(made.numpy_backend.with_name("_numpy.py"))
    made.commit("without")
    made.git("tag", "without")
    made.git("switch", "--quiet", "--detach", "base")
    return made


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def smoke() -> Plan:
    return plan.make("smoke", ["numpy"], ["phase=forward"], threads=1)


def options(history: History, **changes) -> Options:
    return Options(**{"repository": Repository(history.folder), "memory": False, "requested_statistic": "minimum"} | changes)


def test_a_revision_that_does_everything_twice_is_slower(history: History, tmp_path: Path):
    command = [sys.executable, "-m", "lstm_bench", "compare", "base", "slow", "--suite", "smoke", "--backend", "numpy"]
    command += ["--where", "phase=forward", "--threads", "1", "--out", tmp_path, "--repository", history.folder, "--json"]
    command += ["--markdown", tmp_path / "comment.md", "--statistic", "min"]
    answer = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=100)
    assert answer.returncode == 1, answer.stderr
    found = json.loads(answer.stdout)
    (row,) = [row for row in found["rows"] if row["metric"] == "time"]
    assert row["verdict"] == "SLOWER" and 1.3 < row["change"] < 3
    assert {row["metric"] for row in found["rows"]} == {"time", "first_call", "error"}
    assert "🔴 SLOWER" in (tmp_path / "comment.md").read_text()
    runs = [store.read(Path(path)) for path in found["runs"]]
    commits = [run.header.environment["git"]["commit"] for run in runs]
    assert commits == [history.git("rev-parse", name) for name in ("base", "slow")]
    assert history.git("worktree", "list").count("\n") == 0, "no worktree is left behind"
    again = compare.compare(found["runs"][0], found["runs"][1], smoke, tmp_path, Collector(), options(history))
    assert again.exit_code == 1, "the runs on disk say the same"


def test_an_interrupted_comparison_resumes_without_repetition(history: History, tmp_path: Path):
    class Impatient(Collector):
        def on_records(self, records):
            super().on_records(records)
            if len(self.records) == 4:
                raise KeyboardInterrupt

    asked = ("base", "base", smoke, tmp_path)
    some = options(history, stages=(4,))
    with pytest.raises(KeyboardInterrupt):
        compare.compare(*asked, Impatient(), some)
    listener = Collector()
    outcome = compare.compare(*asked, listener, some, resume=True)
    assert len(listener.records) == 4, "two pairs were left"
    for path in outcome.paths:
        lines = [line for _, line in store._lines(path) if isinstance(line, store.Record)]
        assert Counter(line.replicate for line in lines) == Counter(range(4))
        assert store.read(path).finished
    with pytest.raises(store.StoreError, match="no unfinished comparison of base"):
        compare.compare(*asked, Collector(), some, resume=True)


def test_a_revision_without_the_backend_is_uncomparable(history: History, tmp_path: Path):
    outcome = compare.compare("base", "without", smoke, tmp_path, Collector(), options(history))
    (row,) = outcome.rows
    assert row.decision.verdict == "UNCOMPARABLE" and outcome.exit_code == 3
    assert "new failed" in row.decision.reason and "numpy" in row.decision.reason
    assert {len(store.read(path).records) for path in outcome.paths} == {1}


def test_two_backends_of_one_checkout(tmp_path: Path, misbehaving: None):
    asked = plan.make("smoke", ["numpy", "slowed"], ["phase=forward"], threads=1)
    several = Options(memory=False, confirming=False, requested_statistic="minimum")
    sides = ("backend:numpy", "backend:slowed")
    outcome = compare.compare(*sides, lambda: asked, tmp_path, Collector(), several)
    (row,) = [row for row in outcome.rows if row.metric == "time"]
    assert row.key.backend == "numpy → slowed" and row.decision.verdict == "SLOWER"


def test_peak_memory_is_compared_twice_in_workers_of_its_own(history: History, tmp_path: Path):
    asked = plan.make("memory", ["numpy"], scale="smoke", threads=1)
    outcome = compare.compare("base", "base", lambda: asked, tmp_path, Collector(), options(history, memory=True))
    (row,) = outcome.rows
    assert (row.metric, row.unit, row.decision.verdict, row.decision.pairs) == ("rss_peak", "B", "SAME", 2)


def test_code_on_both_sides_is_introduced_once(history: History, monkeypatch: pytest.MonkeyPatch):
    asked: list[Code] = []
    describe_source = Code.describe_source
    monkeypatch.setattr(Code, "describe_source", lambda code, threads: asked.append(code) or describe_source(code, threads))
    with compare.comparison_sides({"base": "backend:numpy", "new": "backend:torch"}, 1, options(history)) as sides:
        assert sides["base"].introduction == sides["new"].introduction and len(asked) == 1
    with compare.comparison_sides({"base": "base", "new": "."}, 1, options(history)):
        assert len(asked) == 3


def test_uncommitted_changes_are_marked(history: History, tmp_path: Path):
    stray = history.folder / "impls" / "stray.py"
    stray.write_text("")
    try:
        with compare.comparison_sides({"base": "base", "new": "."}, 1, options(history)) as sides:
            assert [sides[side].shown for side in ("base", "new")] == [
                f"base ({history.git('rev-parse', '--short', 'base')})",
                "this checkout with uncommitted changes",
            ]
    finally:
        stray.unlink()


def test_revisions_that_cannot_be_had_say_why(history: History, tmp_path: Path):
    def ask(base: str, **changes) -> None:
        compare.compare(base, "base", smoke, tmp_path, Collector(), options(history, **changes))

    with pytest.raises(RevisionError, match=r"no revision 'bse' in .*; see them with: git log"):
        ask("bse")
    with pytest.raises(RevisionError, match=r"broken .* does not run here: SyntaxError"):
        ask("broken")
    with pytest.raises(RevisionError, match=r"cannot be installed: .*is not installable"):
        ask("base", build=True)
    (tmp_path / "plain").mkdir()
    with pytest.raises(RevisionError, match="is not in a git repository"):
        ask("base", repository=Repository(tmp_path / "plain"))
    history.git("clone", "--quiet", "--depth", "1", "--branch", "main", f"file://{history.folder}", str(tmp_path / "shallow"))
    with pytest.raises(
        RevisionError, match="this clone is shallow and may lack it; fetch the rest with: git fetch --unshallow"
    ):
        ask("base", repository=Repository(tmp_path / "shallow"))


def test_sides_of_different_kinds_are_refused(history: History, tmp_path: Path):
    with pytest.raises(UnclearSides, match="two revisions, two runs on disk or two backends"):
        compare.compare("base", "backend:numpy", smoke, tmp_path, Collector(), options(history))
    (tmp_path / "runs").mkdir()
    for name in "ab":
        (tmp_path / "runs" / f"{name}.jsonl").write_text("")
    with pytest.raises(store.StoreError, match="holds 2 runs"):
        compare.compare(str(tmp_path / "runs"), str(tmp_path / "runs"), smoke, tmp_path, Collector(), options(history))


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (("nowhere", "."), 11, "no revision 'nowhere'"),
    (("backend:numpi", "backend:torch"), 2, "did you mean 'numpy'"),
    ((".", ".", "--statistic", "mean"), 2, "choose from median, p25, min"),
])  # fmt: skip
def test_each_mistake_is_a_sentence_and_a_code(arguments: tuple[str, ...], code: int, message: str):
    command = [sys.executable, "-m", "lstm_bench", "compare", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (answer.returncode, message in answer.stderr) == (code, True), answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_killed_comparison_resumes_and_leaves_no_worktree(history: History, tmp_path: Path):
    command = [sys.executable, "-m", "lstm_bench", "compare", "base", "base", "--suite", "smoke", "--backend", "numpy"]
    command += ["--where", "phase=forward", "--threads", "1", "--no-memory", "--statistic", "min"]
    command += ["--out", str(tmp_path / "out"), "--repository", str(history.folder)]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert first.stderr is not None
    line = first.stderr.readline()
    if line.startswith("noisy machine"):
        line = first.stderr.readline()
    assert "#1" in line, "the first pair is on disk"
    first.kill()
    first.communicate(timeout=20)
    asked = ("base", "base", smoke, tmp_path / "out")
    listener = Collector()
    several = options(history)
    outcome = compare.compare(*asked, listener, several, resume=True)
    records = store.read(outcome.paths[0]).records
    assert 0 not in {record.replicate for record in listener.records} and {0, 1, 2, 3, 4} <= {r.replicate for r in records}
    assert history.git("worktree", "list").count("\n") == 0, "what the killed one left is gone"


@pytest.mark.parametrize(("what", "code", "message"), [
    ("machine", 16, "do not compare: machine"),
    ("protocol", 16, "do not compare: protocol"),
    ("cases", 17, "have no case and backend in common"),
    ("corrupt", 20, "is no run: its first line"),
    ("two", 2, "holds 2 runs; name one of them"),
])  # fmt: skip
def test_runs_that_do_not_compare_are_a_sentence_and_a_code(what: str, code: int, message: str, tmp_path: Path):
    small = Synthetic(backends=("torch",), phases=("forward",), batches=(1,), hiddens=(64,), lengths=(64,))
    changed = {"machine": {"machine": "other"}, "protocol": {"protocol": 2}, "cases": {"batches": (8,)}}
    one = write(small, tmp_path / "one")
    two = write(replace(small, **changed.get(what, {})), tmp_path / "two")
    if what == "corrupt":
        two.write_text("no JSON\n")
    if what == "two":
        write(replace(small, seed=1, machine="other"), tmp_path / "two")
    command = [sys.executable, "-m", "lstm_bench", "compare", str(one), str(tmp_path / "two" if what == "two" else two)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == code and message in answer.stderr and "Traceback" not in answer.stderr, answer.stderr


def test_an_unreadable_history_is_an_error_and_left_as_it_is(history: History, tmp_path: Path):
    (tmp_path / "bad.jsonl").write_text("no JSON\n")
    for command in (["history"], ["track", "base", "--suite", "smoke", "--backend", "numpy"]):
        line = [sys.executable, "-m", "lstm_bench", *command, "--out", str(tmp_path), "--repository", str(history.folder)]
        answer = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert answer.returncode == 20 and "is no run: its first line" in answer.stderr and "Traceback" not in answer.stderr
    assert [path.name for path in tmp_path.rglob("*.jsonl")] == ["bad.jsonl"]
