"""Commits measured into a history and read back; the history as asv's site."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import plan
from bench.revisions import Repository, RevisionError
from lstm_bench import history_view, publish, tracking
from results import store
from results.store import StoreError
from tests.analysis import history_synthetic
from tests.bench.conftest import Collector
from tests.lstm_bench.history_repository import History, hundred_commits


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def test_commits_are_tracked_once_and_what_does_not_run_or_is_not_committed_is_no_point(tmp_path: Path):
    made = History(tmp_path / "project").with_code()
    made.commit("first")
    environment = made.folder / "bench" / "environment.py"
    text = environment.read_text()
    environment.write_text("this is no Python\n")
    made.commit("broken")
    environment.write_text(text)
    made.commit("third")
    made.slow_down()  # not committed
    repository, root = Repository(made.folder), tmp_path / "history"
    asked = plan.make("smoke", ["numpy"], ["phase=forward"], threads=1)

    class Impatient(Collector):
        def recorded(self, records):
            super().recorded(records)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tracking.track("HEAD~2", asked, root, Impatient(), repository)
    commits = repository.order()
    spans = [f"{commits[0]}..HEAD", commits[0]]
    done = [found for span in spans for found in tracking.track(span, asked, root, Collector(), repository)]
    assert [found.result for found in done] == ["does not run", "measured", "resumed"]
    assert "SyntaxError" in done[0].reason
    again = tracking.track(commits[0], asked, root, Collector(), repository)
    assert [found.result for found in again] == ["already there"]
    (series,) = tracking.read(root, repository)
    assert [point.commit for point in series.points] == [commits[0], commits[2]]
    assert not any(store.read(path).header.environment["git"]["dirty"] for path in store.find(root))
    with pytest.raises(RevisionError, match="holds no commit"):
        tracking.track("HEAD..HEAD", asked, root, Collector(), repository)


def test_a_history_without_points_says_what_to_do(tmp_path: Path):
    made = History(tmp_path / "project")
    made.commit("only")
    history_synthetic.write(tmp_path / "history", ("flat",))
    with pytest.raises(StoreError, match="measure with: lstm-bench track HEAD"):
        tracking.read(tmp_path / "history", Repository(made.folder))


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Repository]:
    return hundred_commits(tmp_path_factory.mktemp("hundred"))


def test_of_a_hundred_commits_the_three_that_slowed_it_down_are_blamed(hundred: tuple[Path, Repository]):
    root, repository = hundred
    series = tracking.read(root, repository)
    found = tracking.findings(series)
    red = {finding.series.key.case: finding for finding in found if finding.change.mark == "red"}
    assert set(red) == set(history_synthetic.STEPS)
    order = repository.order()
    for case, (at, _) in history_synthetic.STEPS.items():
        assert abs(order.index(red[case].first) - at) <= 3
        sides = f"{red[case].before[:12]} {red[case].first[:12]}"
        assert red[case].confirm == (
            f"lstm-bench compare {sides} --suite throughput --scale quick --backend torch --where case={case}"
        )
    rows = history_view.rows(found, repository)
    assert {row["subject"] for row in rows if row["mark"] == "red"} == {
        f"commit {order.index(finding.first)}" for finding in red.values()
    }
    assert json.dumps(history_view.values(series, found, tracking.suspicions(series)))


def test_asv_publishes_the_exported_history_and_lists_the_regressions(hundred: tuple[Path, Repository], tmp_path: Path):
    root, repository = hundred
    written = publish.export(root, repository, tmp_path / "asv")
    assert len(written) == 100 and all(path.exists() for path in written)
    page = publish.publish(tmp_path / "asv", repository, tmp_path / "html")
    text = (page.parent / "regressions.json").read_text()
    for case in history_synthetic.STEPS:
        assert case in text
    assert "flat" not in text
    index = json.loads((page.parent / "index.json").read_text())
    assert {"machine", "gpu", "driver", "cuda", "software"} <= set(index["params"])
