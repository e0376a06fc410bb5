"""Commits measured into a history and read back; the history as asv's site."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest

from analysis.regression import calibration, changes
from analysis.statistics.ratios import UnknownStatistic
from bench.harness import plan
from bench.processes.code import ROOT
from bench.regression.revisions import NoSpan, Repository
from lstm_bench.commands import tracking
from lstm_bench.views import history
from results import store
from results.store import StoreError
from tests.analysis import history_synthetic
from tests.bench.conftest import Collector
from tests.lstm_bench.history_repository import History, hundred_commits


@pytest.fixture(autouse=True)
def own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


def test_commits_are_tracked_once_and_broken_ones_are_no_point(tmp_path: Path):
    made = History(tmp_path / "project").with_code()
    made.commit("first")
    environment = made.folder / "bench" / "machine" / "environment.py"
    text = environment.read_text()
    environment.write_text("this is no Python\n")
    made.commit("broken")
    environment.write_text(text)
    made.commit("third")
    made.slow_down()  # not committed
    repository, root = Repository(made.folder), tmp_path / "history"
    asked = plan.make("smoke", ["numpy"], ["phase=forward"], threads=1)

    class Impatient(Collector):
        def on_records(self, records):
            super().on_records(records)
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
    (series,) = tracking.read(root, repository).series
    assert [point.commit for point in series.points] == [commits[0], commits[2]]
    assert not any(store.read(path).header.environment["git"]["dirty"] for path in store.find(root))
    with pytest.raises(NoSpan, match="holds no commit"):
        tracking.track("HEAD..HEAD", asked, root, Collector(), repository)


def test_a_history_without_points_says_what_to_do(tmp_path: Path):
    made = History(tmp_path / "project")
    made.commit("only")
    history_synthetic.write(tmp_path / "history", ("flat",))
    with pytest.raises(StoreError, match="measure with: lstm-bench track HEAD"):
        tracking.read(tmp_path / "history", Repository(made.folder))
    with pytest.raises(StoreError, match="no such folder; measure with: lstm-bench track HEAD"):
        tracking.read(tmp_path / "nowhere", Repository(made.folder))


BACKEND = """
import base64, hashlib, site, zipfile
from pathlib import Path

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "lstm_bench-0.1-py3-none-any.whl"
    files = {
        "borrowed.pth": BORROWED,
        "lstm_bench-0.1.dist-info/METADATA": "Metadata-Version: 2.1\\nName: lstm-bench\\nVersion: 0.1\\n",
        "lstm_bench-0.1.dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    record = "".join(f"{path},,\\n" for path in [*files, "lstm_bench-0.1.dist-info/RECORD"])
    with zipfile.ZipFile(Path(wheel_directory) / name, "w") as wheel:
        for path, text in (files | {"lstm_bench-0.1.dist-info/RECORD": record}).items():
            wheel.writestr(path, text)
    return name
"""


def test_an_environment_of_its_own_is_built_and_used(tmp_path: Path):
    """By pip, without a network: the project builds itself, and borrows NumPy from where this test found it."""
    borrowed = str(Path(numpy.__file__).parent.parent) + "\n"
    made = History(tmp_path / "project").with_code()
    (made.folder / "builds.py").write_text(f"BORROWED = {borrowed!r}\n{BACKEND}")
    (made.folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "builds"\nbackend-path = ["."]\n[project]\nname = "lstm-bench"\n'
        'version = "0.1"\n[project.optional-dependencies]\npeers = []\n'
    )
    (made.folder / ".gitignore").write_text("__pycache__/\nbuild/\n*.egg-info/\n")
    commit = made.commit("builds itself")
    asked = plan.make("smoke", ["numpy"], ["phase=step"], threads=1)
    root = tmp_path / "history"
    (done,) = tracking.track("HEAD", asked, root, Collector(), Repository(made.folder), build=True)
    assert (done.commit, done.result) == (commit, "measured"), done.reason
    assert done.path is not None
    run = store.read(done.path)
    assert run.finished and any(record.study == "throughput" and record.status == "ok" for record in run.records)
    assert run.header.environment["packages"]["lstm-bench"] == "0.1", "the environment that was built, not this one"


@pytest.mark.parametrize("error", [
    subprocess.TimeoutExpired("pip", 1.0), subprocess.CalledProcessError(1, "ensurepip"), OSError("no room"),
])  # fmt: skip
def test_however_building_fails_it_is_an_outcome_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def fails(*_: object, **__: object) -> None:
        raise error

    made = History(tmp_path / "project")
    made.commit("only")
    monkeypatch.setattr("venv.create", fails)
    asked = plan.make("smoke", ["numpy"], ["phase=step"], threads=1)
    done = tracking.track("HEAD", asked, tmp_path / "history", Collector(), Repository(made.folder), build=True)
    assert [one.result for one in done] == ["cannot be installed"] and "cannot be installed: " in done[0].reason
    assert tracking.exit_code(done) == 15 and tracking.values(done)[0]["result"] == "cannot be installed"


def test_a_commit_that_checkout_changes_is_no_point(tmp_path: Path):
    made = History(tmp_path / "project").with_code()
    (made.folder / "stray.txt").write_text("windows\r\n")
    made.commit("first")
    (made.folder / ".gitattributes").write_text("*.txt text\n")
    made.git("add", ".gitattributes")
    made.git("commit", "--quiet", "--message", "changes line ends without renewing the file")
    asked = plan.make("smoke", ["numpy"], ["phase=step"], threads=1)
    done = tracking.track("HEAD", asked, tmp_path / "history", Collector(), Repository(made.folder))
    assert [one.result for one in done] == ["not as committed"] and not (tmp_path / "history").exists()
    assert tracking.exit_code(done) == 3


def test_the_history_is_read_once_for_many_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = History(tmp_path / "project")
    for number in range(4):
        made.commit(f"commit {number} without code")
    history_synthetic.write(tmp_path / "history", ("flat",))
    read = store.header_of
    opened: list[Path] = []
    monkeypatch.setattr(store, "header_of", lambda path: opened.append(path) or read(path))
    monkeypatch.setattr(store, "read", lambda path: pytest.fail("only first lines are needed"))
    asked = plan.make("smoke", ["numpy"], ["phase=step"], threads=1)
    done = tracking.track("HEAD~3..HEAD", asked, tmp_path / "history", Collector(), Repository(made.folder))
    assert {one.result for one in done} == {"does not run"} and len(opened) == 100


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Repository]:
    return hundred_commits(tmp_path_factory.mktemp("hundred"))


def test_three_slow_commits_of_a_hundred_are_found(hundred: tuple[Path, Repository]):
    root, repository = hundred
    series = tracking.read(root, repository).series
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
    rows = history.rows(found, repository)
    assert {row["subject"] for row in rows if row["mark"] == "red"} == {
        f"commit {order.index(finding.first)}" for finding in red.values()
    }
    assert json.dumps(history.values(series, found, tracking.suspicions(series)))


def test_asv_publishes_the_exported_history(hundred: tuple[Path, Repository], tmp_path: Path):
    root, repository = hundred
    written = history.export(root, repository, tmp_path / "asv")
    assert len(written) == 100 and all(path.exists() for path in written)
    page = history.publish(tmp_path / "asv", repository, tmp_path / "html")
    text = (page.parent / "regressions.json").read_text()
    for case in history_synthetic.STEPS:
        assert case in text
    assert "flat" not in text
    index = json.loads((page.parent / "index.json").read_text())
    assert {"machine", "gpu", "driver", "cuda", "software"} <= set(index["params"])


def shown(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lstm_bench", "history", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ | variables)


def standing_in(folder: Path, module: str, text: str) -> dict[str, str]:
    """Variables with which Python takes a package from `folder`."""
    file = folder / f"{module.replace('.', '/')}.py"
    file.parent.mkdir(parents=True, exist_ok=True)
    (file.parent / "__init__.py").touch()
    file.write_text(text)
    return {"PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])}


@pytest.mark.parametrize(("module", "text", "said"), [
    ("otava.__init__", "raise ModuleNotFoundError('No module named otava', name='otava')", "Apache Otava is not installed"),
    ("asv.__init__", "raise ModuleNotFoundError('No module named asv', name='asv')", "asv is not installed"),
    ("otava.analysis", "import no_such_package", "Apache Otava cannot be imported (No module named 'no_such_package')"),
])  # fmt: skip
def test_without_a_detector_series_are_shown_without_changes(
    hundred: tuple[Path, Repository], tmp_path: Path, module: str, text: str, said: str
):
    root, repository = hundred
    where = ("--out", root, "--repository", repository.folder)
    variables = standing_in(tmp_path, module, text)
    answer = shown(*where, **variables)
    assert answer.returncode == 0 and "Traceback" not in answer.stderr, answer.stderr
    (sentence,) = [line for line in answer.stdout.splitlines() if line.startswith("change points are not searched: ")]
    package = "apache-otava==0.8.0" if module.startswith("otava") else "asv==0.6.6"
    assert said in sentence and "pip install" in sentence and package in sentence
    assert "100 commits" in answer.stdout and "Changes:" not in answer.stdout
    found = json.loads(shown(*where, "--json", **variables).stdout)
    assert found["changes"] is None and found["changes_not_searched"] == sentence and len(found["series"]) == 6


def test_otava_is_found_when_it_is_needed(hundred: tuple[Path, Repository], tmp_path: Path):
    """A package of that name on Python's path, installed or not, is what is asked."""
    root, repository = hundred
    text = (
        "from types import SimpleNamespace\n\n\ndef compute_change_points(values, **options):\n"
        "    return [SimpleNamespace(index=50)], None\n"
    )
    where = ("--out", root, "--repository", repository.folder, "--json")
    found = json.loads(shown(*where, **standing_in(tmp_path, "otava.analysis", text)).stdout)
    assert found["changes_not_searched"] is None
    assert repository.order()[50] in {change["first"] for change in found["changes"]}


def test_every_place_names_the_same_version_of_otava():
    page, installer = ((ROOT / name).read_text() for name in ("docs/history.md", "install.py"))
    command = changes._OTAVA.install
    assert command in page and changes.INSTALL_ASV in page
    assert f'OTAVA = "{command.rpartition(" ")[2]}"' in installer


def changed(root: Path, number: int, old: str, new: str) -> None:
    """Replaces text in one of the hundred runs."""
    path = store.find(root)[number]
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_left_out_runs_and_a_backward_clock_are_reported(hundred: tuple[Path, Repository], tmp_path: Path):
    root, repository = hundred
    shutil.copytree(root, tmp_path / "history")
    changed(tmp_path / "history", 10, '"dirty":false', '"dirty":true')
    for number in (20, 21):
        changed(tmp_path / "history", number, '"complete":true', '"complete":false')
    order = repository.order()
    changed(tmp_path / "history", 30, order[30], "f" * 40)
    changed(tmp_path / "history", 40, '"dirty":false', '"dirty":false,"committed":"2030-01-01T00:00:00+00:00"')
    answer = shown("--out", tmp_path / "history", "--repository", repository.folder, "--json")
    assert answer.returncode == 0, answer.stderr
    said = answer.stderr.splitlines()
    assert [line[:20] for line in said] == [
        "left out: 1 runs wer",
        "left out: 2 runs are",
        "left out: 1 runs are",
        "1 runs began before ",
    ]
    found = json.loads(answer.stdout)
    assert found["left_out"] == said
    assert {len(one["points"]) for one in found["series"]} == {96}, "what began before its commit is kept, in its place"
    commits = [point["commit"] for point in found["series"][0]["points"]]
    assert commits == [commit for number, commit in enumerate(order) if number not in (10, 20, 21, 30)]


def test_a_shallow_clone_says_how_much_it_cannot_place(hundred: tuple[Path, Repository], tmp_path: Path):
    root, repository = hundred
    repository.git("clone", "--quiet", "--depth", "5", f"file://{repository.folder}", str(tmp_path / "shallow"))
    answer = shown("--out", root, "--repository", tmp_path / "shallow")
    assert answer.returncode == 0 and "left out: 95 runs are of commits that are not on this branch" in answer.stderr
    assert "git fetch --unshallow" in answer.stderr
    (tmp_path / "old").mkdir()
    shutil.copy(store.find(root)[0], tmp_path / "old")
    answer = shown("--out", tmp_path / "old", "--repository", tmp_path / "shallow")
    assert answer.returncode == 12 and "git fetch --unshallow" in answer.stderr


def test_a_damaged_line_is_reported_and_the_rest_is_shown(hundred: tuple[Path, Repository], tmp_path: Path):
    root, repository = hundred
    shutil.copytree(root, tmp_path / "history")
    path = store.find(tmp_path / "history")[50]
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], "rubbish", *lines[4:]]) + "\n")
    answer = shown("--out", tmp_path / "history", "--repository", repository.folder)
    assert answer.returncode == 20 and "100 commits" in answer.stdout
    (line,) = answer.stderr.splitlines()
    assert line.startswith(f"warning: {path}, line 4 skipped: it is damaged") and "restore the file" in line
    path.write_text("\n".join([*lines[:-1], lines[-1][:30]]))
    answer = shown("--out", tmp_path / "history", "--repository", repository.folder)
    assert answer.returncode == 0 and "half-written" in answer.stderr and "left out: 1 runs are unfinished" in answer.stderr


def test_the_site_needs_no_folder_for_its_files(hundred: tuple[Path, Repository], tmp_path: Path):
    root, repository = hundred
    answer = shown("--out", root, "--repository", repository.folder, "--html", tmp_path / "html")
    assert answer.returncode == 0 and (tmp_path / "html" / "index.html").exists(), answer.stderr


def test_series_use_the_statistic_of_their_calibration(
    hundred: tuple[Path, Repository], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = store.read(store.find(hundred[0])[0])
    assert tracking.statistic_for(tmp_path, None)(run) == "median", "without a calibration"
    there = {"old-machine": SimpleNamespace(statistic="minimum")}
    monkeypatch.setattr(calibration, "newest_for", lambda _, header: there.get(header.machine))
    assert tracking.statistic_for(tmp_path, None)(run) == "minimum"
    other = replace(run, header=replace(run.header, machine="other-machine"))
    assert tracking.statistic_for(tmp_path, None)(other) == "median", "of another machine nothing is known"
    assert tracking.statistic_for(tmp_path, "lower_quartile")(run) == "lower_quartile"
    with pytest.raises(UnknownStatistic):
        tracking.statistic_for(tmp_path, "mean")
