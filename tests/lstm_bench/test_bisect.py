"""The first slow commit, searched for with a real comparison and with one that is made up; git's own notes stay away."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.regression.comparison import Key, Row
from analysis.statistics.decision import Decision, Verdict
from bench.harness import plan
from bench.harness.plan import Plan
from bench.regression.revisions import Repository, RevisionError
from lstm_bench.commands import bisecting, compare
from lstm_bench.commands.bisecting import Bisected, stages
from lstm_bench.commands.compare import Options, Outcome, UnclearSides
from tests.bench.conftest import Collector
from tests.lstm_bench.history_repository import History

MAX_PAIRS = 24  # three pairs decide on a quiet machine; on a busy one the search asks for more, as it does for its users
KEY = Key("throughput", "small", "numpy")
OTHER = Key("throughput", "large", "numpy")


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Commits 0 to 11 and no code: what a comparison finds of them is made up."""
    made = History(tmp_path_factory.mktemp("repository") / "project")
    for number in range(12):
        made.commit(f"commit {number}")
    return made


def smoke() -> Plan:
    return plan.make("smoke", ["numpy"], ["phase=forward"], threads=1)


Oracle = Callable[[int], Verdict]


def searched(history: History, oracle: Oracle, monkeypatch: pytest.MonkeyPatch, broken: tuple[int, ...] = ()) -> Bisected:
    """A search in which a comparison of GOOD with commit n finds what `oracle(n)` says."""
    numbers = {commit: number for number, commit in enumerate(history.git("rev-list", "--reverse", "main").split())}

    class Made:
        label, shown = "made", "made"

        def __init__(self, name: str) -> None:
            self.number = numbers[Repository(history.folder).resolve(name)]

        def __enter__(self) -> Made:
            if self.number in broken:
                raise RevisionError("it does not run here: SyntaxError")
            return self

        def __exit__(self, *_: object) -> None:
            pass

    def measured(sides, plan, root, listener, options: Options) -> Outcome:
        verdict = oracle(sides["new"].number)
        change = {"SLOWER": 1.04, "SAME": 1.0, "FASTER": 0.9}.get(verdict, 1.015)
        found = Decision(verdict, change, change - 0.01, change + 0.01, 20)
        larger = Decision(verdict, change, change - 0.02, change + 0.02, 20)
        if options.only:
            assert options.only == KEY, "the case that was surest is followed"
            assert options.tolerated == pytest.approx(math.log(1.04) / 2), "what has not lost half of it lies before the step"
        rows = [Row(OTHER, "time", "s", 1.0, change, larger), Row(KEY, "time", "s", 1.0, change, found)]
        return Outcome("a", "b", rows[1:] if options.only else rows, None, [], [])

    monkeypatch.setattr(compare, "comparison_side", lambda name, threads, options: Made(name))
    monkeypatch.setattr(compare, "measured_once", measured)
    return bisecting.bisect("main~11", "main", smoke(), Path("."), Collector(), Options(Repository(history.folder)))


def number(history: History, commit: str) -> int:
    return Repository(history.folder).order().index(commit)


@pytest.mark.parametrize("slow", range(1, 12))
def test_wherever_the_slow_commit_lies_it_is_found(history: History, monkeypatch: pytest.MonkeyPatch, slow: int):
    found = searched(history, lambda at: "SLOWER" if at >= slow else "SAME", monkeypatch)
    assert found.first is not None and number(history, found.first.commit) == slow and found.exit_code == 0
    assert len(found.judged) <= 1 + math.ceil(math.log2(11)), "as few comparisons as a bisection takes"
    assert [row.key for row in found.also] == [OTHER]
    said = bisecting.sentences(found, Repository(history.folder))
    assert f"commit {slow}" in said[0] and "SLOWER +4.0 % [+3.0 %, +5.0 %], 20 pairs" in said[1] and "also slower" in said[2]


def test_undecided_and_broken_commits_are_skipped(history: History, monkeypatch: pytest.MonkeyPatch):
    def oracle(at: int) -> Verdict:
        return "SLOWER" if at >= 7 else "UNDECIDED" if at in (5, 6) else "SAME"

    found = searched(history, oracle, monkeypatch, broken=(3,))
    assert sorted(number(history, commit) for commit in found.candidates) == [5, 6, 7]
    assert found.first is None and found.exit_code == 3
    words = {number(history, one.commit): one.word for one in found.judged}
    assert words[5] == words[6] == "skip" and words.get(3, "skip") == "skip"
    said = bisecting.sentences(found, Repository(history.folder))
    assert "is one of these" in said[0] and [line.split()[-1] for line in said[1:4]] == ["5", "6", "7"]
    assert json.dumps(bisecting.values(found))


@pytest.mark.parametrize(("verdict", "code"), [("SAME", 1), ("FASTER", 1), ("UNDECIDED", 3), ("UNCOMPARABLE", 3)])
def test_no_search_begins_before_the_end_is_shown_to_be_slower(
    history: History, monkeypatch: pytest.MonkeyPatch, verdict: Verdict, code: int
):
    found = searched(history, lambda _: verdict, monkeypatch)
    assert (found.exit_code, len(found.judged), found.candidates) == (code, 1, [])
    assert bisecting.sentences(found, Repository(history.folder))


def test_the_checkout_and_its_own_bisection_are_left_alone(history: History, monkeypatch: pytest.MonkeyPatch):
    history.git("bisect", "start", "main", "main~4")
    before = history.git("status"), history.git("bisect", "log"), history.git("rev-parse", "HEAD")
    searched(history, lambda at: "SLOWER" if at >= 6 else "SAME", monkeypatch)

    def interrupted(at: int) -> Verdict:
        if at == 11:
            return "SLOWER"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(history, interrupted, monkeypatch)
    assert (history.git("status"), history.git("bisect", "log"), history.git("rev-parse", "HEAD")) == before
    assert history.git("worktree", "list").count("\n") == 0
    history.git("bisect", "reset")


def test_good_must_lie_before_bad(history: History):
    for good, bad in (("main", "main~3"), ("main", "main")):
        with pytest.raises(RevisionError, match=r"does not lie before .* name an ancestor as GOOD"):
            bisecting.bisect(good, bad, smoke(), Path("."), Collector(), Options(Repository(history.folder)))
    with pytest.raises(UnclearSides, match="at least 5 pairs"):
        bisecting.bisect("main~2", "main", smoke(), Path("."), Collector(), Options(Repository(history.folder)), max_pairs=4)


def test_undecided_asks_for_more_pairs_up_to_the_limit():
    assert (
        stages(80) == (5, 10, 20, 40, 80) and stages(20) == (5, 10, 20) and stages(5) == (5,) and stages(50) == (5, 10, 20, 40)
    )


def test_a_real_search_resumes_and_measures_nothing_twice(tmp_path: Path):
    made = History(tmp_path / "project").with_code()
    made.commit("good")
    made.commit("also good")
    text = made.numpy_backend.read_text()
    made.slow_down()
    slow = made.commit("twice the work")
    environment = made.folder / "bench" / "machine" / "environment.py"
    environment.write_text("this is no Python\n" + environment.read_text())
    made.commit("does not run")
    environment.write_text(environment.read_text().partition("\n")[2])
    made.commit("bad")
    assert text != made.numpy_backend.read_text()
    options = Options(Repository(made.folder), memory=False, stages=(3,), confirming=False, requested_statistic="minimum")

    class Impatient(Collector):
        def on_records(self, records):
            super().on_records(records)
            if len(self.records) == 8:
                raise KeyboardInterrupt

    def search(listener: Collector) -> Bisected:
        return bisecting.bisect("main~4", "main", smoke(), tmp_path / "comparisons", listener, options)

    with pytest.raises(KeyboardInterrupt):
        search(Impatient())
    listener = Collector()
    found = search(listener)
    assert found.candidates == [slow] and found.first is not None
    assert found.first.decision is not None and 1.3 < (found.first.decision.change or 0) < 3
    words = [one.word for one in found.judged]
    pairs = sum(one.decision.pairs for one in found.judged if one.decision)
    assert 8 + len(listener.records) == 2 * pairs, "nothing was measured twice"
    silent = Collector()
    again = search(silent)
    assert [one.word for one in again.judged] == words and not silent.records


def test_from_the_command_line_a_mistake_is_a_sentence(tmp_path: Path):
    made = History(tmp_path / "project").with_code()
    made.commit("only")
    command = [sys.executable, "-m", "lstm_bench", "bisect", "nowhere", "main", "--repository", str(made.folder)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert answer.returncode == 11 and "no revision 'nowhere'" in answer.stderr and "Traceback" not in answer.stderr
