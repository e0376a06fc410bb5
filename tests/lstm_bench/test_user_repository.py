"""Revisions of a user's own repository on the real command line: the slow commit is named, and mistakes are sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.processes import process
from bench.processes.code import ROOT
from bench.regression import user_repository
from bench.regression.revisions import Repository
from lstm_bench.commands import tracking
from results import store
from tests.lstm_bench.history_repository import History
from tests.lstm_bench.user_project import UserProject, command, installed, ten_commits

SLOW_COMMIT = 6
SMALLEST = ("--suite", "smoke", "--where", "phase=forward", "--threads", "1")
MINE = ("--backends-path", "backends")


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(tmp_path_factory.mktemp("site-packages"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> tuple[UserProject, list[str]]:
    return ten_commits(tmp_path_factory.mktemp("repository") / "project", SLOW_COMMIT)


def hooked(made: History) -> dict[str, str]:
    """Variables as git sets them for a hook of another repository."""
    return {"GIT_DIR": str(made.folder / ".git"), "GIT_INDEX_FILE": str(made.folder / ".git" / "index")}


def test_compare_finds_the_slow_revision_and_cleans_up(project, harness: Path, tmp_path: Path):
    made, names = project
    other = History(tmp_path / "other")
    other.commit("somebody else's")
    hook = made.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path / 'hook-ran'}\n")
    hook.chmod(0o755)
    options = (*SMALLEST, *MINE, "--no-memory", "--statistic", "min", "--json", "--out", tmp_path / "out")
    answer = command(
        harness, made.folder, "compare", names[SLOW_COMMIT - 1], names[SLOW_COMMIT], *options, temporary=tmp_path,
        **hooked(other),
    )  # fmt: skip
    assert answer.returncode == 1, answer.stderr
    found = json.loads(answer.stdout)
    (row,) = [row for row in found["rows"] if row["metric"] == "time"]
    assert row["backend"] == "mine" and row["verdict"] == "SLOWER" and row["change"] == pytest.approx(1.2, abs=0.05)
    runs = [store.read(Path(path)) for path in found["runs"]]
    environments = [run.header.environment for run in runs]
    assert [one["git"]["commit"] for one in environments] == [names[SLOW_COMMIT - 1], names[SLOW_COMMIT]]
    assert [one["git"]["dirty"] for one in environments] == [False, False]
    assert environments[0]["code"] != environments[1]["code"] and environments[0]["harness"] == environments[1]["harness"]
    assert {one["backends_path"] for one in environments} == {"backends"}
    assert {record.backend for run in runs for record in run.records} == {"mine"}, "only the user's are measured"
    assert made.git("worktree", "list").count("\n") == 0 and not made.git("status", "--porcelain")
    assert not list(tmp_path.glob("lstm-bench-*-*")), "no temporary folder is left"
    assert not (tmp_path / "hook-ran").exists(), "hooks of the repository are not started for what is checked out"
    hook.unlink()


def test_track_and_history_name_the_slow_commit(project, harness: Path, tmp_path: Path):
    made, names = project
    where = ("--out", tmp_path / "history")
    variable = {"LSTM_BENCH_BACKENDS": "backends/mine.py"}  # a single file
    options = (*SMALLEST, *where, "--backend", "mine", "--json")
    done = command(harness, made.folder, "track", f"{names[0]}..HEAD", *options, temporary=tmp_path, **variable)
    assert done.returncode == 0, done.stderr
    assert [(one["commit"], one["result"]) for one in json.loads(done.stdout)] == [(name, "measured") for name in names[1:]]
    again = command(harness, made.folder, "track", "HEAD", *options[:-3], "--json", temporary=tmp_path, **variable)
    assert [one["result"] for one in json.loads(again.stdout)] == ["already there"], "named or by default, it is the same"
    shown = command(harness, made.folder, "history", *where, "--statistic", "min", "--json", temporary=tmp_path)
    assert shown.returncode == 0, shown.stderr
    found = json.loads(shown.stdout)
    (series,) = found["series"]
    assert [point["commit"] for point in series["points"]] == names[1:] and series["backend"] == "mine"
    (change,) = found["changes"]
    assert change["first"] == names[SLOW_COMMIT] and change["change"] == pytest.approx(1.2, abs=0.05)
    assert "--backends-path backends/mine.py" in change["confirm"], "the command works without the variable"


def test_bisect_finds_the_slow_commit(project, harness: Path, tmp_path: Path):
    made, names = project
    options = (*SMALLEST, *MINE, "--statistic", "min", "--json", "--out", tmp_path / "out")
    answer = command(harness, made.folder, "bisect", names[3], "HEAD", *options, temporary=tmp_path)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["first"] == names[SLOW_COMMIT] and found["backend"] == "mine"
    assert made.git("worktree", "list").count("\n") == 0


def test_the_working_tree_is_a_side_with_its_changes_reported(harness: Path, tmp_path: Path):
    made = UserProject(tmp_path / "project").with_backend()
    made.commit("first")
    made.write("notes.txt", "not committed\n")
    options = (*SMALLEST, *MINE, "--no-memory", "--statistic", "min", "--json", "--out", tmp_path / "out")
    answer = command(harness, made.folder, "compare", "HEAD", ".", *options, temporary=tmp_path)
    assert answer.returncode in (0, 3), answer.stderr
    found = json.loads(answer.stdout)
    assert any(remark.endswith("Measure it with: lstm-bench calibrate --backends-path backends") for remark in found["remarks"])
    assert found["new"] == "this checkout with uncommitted changes" and "uncommitted" not in found["base"]
    states = [store.read(Path(path)).header.environment for path in found["runs"]]
    assert [one["git"]["dirty"] for one in states] == [False, True]
    assert states[0]["git"]["commit"] == states[1]["git"]["commit"] and states[0]["code"] != states[1]["code"]


def test_a_commit_without_the_backend_is_reported(harness: Path, tmp_path: Path):
    made = UserProject(tmp_path / "project")
    made.commit("before there is one")
    made.with_backend().commit("with a backend")
    made.write("backends/numpy.py", "def load(spec, params, batch): ...\n")
    made.commit("a name that is taken")
    (made.folder / "backends" / "numpy.py").unlink()
    made.write("backends/mine.py", "this is no Python\n")
    made.commit("broken")
    options = (*SMALLEST, *MINE, "--json", "--out", tmp_path / "history")
    for revision, reason in (("HEAD~3", "it has no backends"), ("HEAD~1", "the name of the built-in backend numpy; rename")):
        answer = command(harness, made.folder, "track", revision, *options, temporary=tmp_path)
        assert answer.returncode == 2 and reason in answer.stderr, answer.stderr
    answer = command(harness, made.folder, "compare", "HEAD~3", "HEAD~2", *options, temporary=tmp_path)
    assert answer.returncode == 14 and "does not run here: it has no backends" in answer.stderr, answer.stderr
    answer = command(harness, made.folder, "track", "HEAD~3..HEAD", *options, temporary=tmp_path)
    assert answer.returncode == 14, answer.stderr
    found = json.loads(answer.stdout)
    assert [one["result"] for one in found] == ["measured", "does not run", "does not run"]
    assert "SyntaxError" in found[2]["reason"] and "built-in backend numpy" in found[1]["reason"]


@pytest.mark.parametrize("arguments", [("track",), ("bisect", "HEAD~1"), ("compare", "HEAD~1"), ("compare", "HEAD", ".")])
def test_without_a_path_of_backends_it_says_what_to_give(project, harness: Path, tmp_path: Path, arguments: tuple[str, ...]):
    answer = command(harness, project[0].folder, *arguments, temporary=tmp_path)
    assert answer.returncode == 2 and "Traceback" not in answer.stderr
    for part in ("is no checkout of lstm-bench", "--backends-path", "LSTM_BENCH_BACKENDS"):
        assert part in answer.stderr, answer.stderr


@pytest.mark.parametrize(("path", "message"), [
    ("nowhere", "it has no nowhere"),
    ("../elsewhere", "lies outside of the repository"),
    ("/elsewhere/backends", "lies outside of the repository"),
    ("notes.txt", "its notes.txt is neither a Python file nor a folder"),
    ("results", "no Python file there defines load(spec, params, batch)"),
    ("analysis.py", "its analysis.py is no backend: it does not define load"),
])  # fmt: skip
def test_a_path_that_holds_no_backend_is_a_sentence(
    project, path: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(project[0].folder)
    with pytest.raises((user_repository.NoBackends, user_repository.InvalidBackendsPath)) as raised:
        meant = user_repository.find(None, path, revisions=True)
        with user_repository.known_backends(meant, ["HEAD", "HEAD~1"]):
            pass
    assert message in str(raised.value) and "--backends-path" in str(raised.value)


def test_the_mode_follows_the_repository(project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    made = project[0].folder
    monkeypatch.delenv("LSTM_BENCH_BACKENDS", raising=False)
    monkeypatch.chdir(ROOT)
    assert user_repository.find(None, None, revisions=True) == Repository(ROOT), "a checkout of lstm-bench measures itself"
    with pytest.raises(user_repository.InvalidBackendsPath, match="each revision is measured by its own harness"):
        user_repository.find(None, "backends", revisions=True)
    assert user_repository.find(made, "backends", revisions=True) == Repository(made, ("backends",))
    inside = made / "backends"
    monkeypatch.chdir(inside)
    absolute = str(made / "backends")
    assert user_repository.find(None, absolute, revisions=True) == Repository(inside, ("backends",)), "relative to the root"
    assert user_repository.find(None, None, revisions=False) == Repository(ROOT), "two backends need no repository"
    monkeypatch.setenv("LSTM_BENCH_BACKENDS", str(tmp_path))
    assert user_repository.find(None, None, revisions=False) == Repository(ROOT), "folders elsewhere are as for run"
    monkeypatch.chdir(tmp_path)
    assert user_repository.find(None, None, revisions=True) == Repository(ROOT), "outside git, the checkout that runs"


def test_calibrate_and_two_backends_take_the_working_tree(harness: Path, tmp_path: Path):
    made = UserProject(tmp_path / "project").with_backend().with_backend(path="backends/other.py")
    commit = made.commit("two")
    answer = command(
        harness, made.folder, "compare", "backend:mine", "backend:other", *SMALLEST, *MINE, "--no-memory", "--json",
        "--statistic", "min", "--out", tmp_path / "out", temporary=tmp_path,
    )  # fmt: skip
    assert answer.returncode in (0, 3), answer.stderr
    assert all(
        store.read(Path(path)).header.environment["git"]["commit"] == commit for path in json.loads(answer.stdout)["runs"]
    )
    made_calibration = command(
        harness, made.folder, "calibrate", "--pairs", "5", *SMALLEST, *MINE, "--json", "--out", tmp_path / "certificates",
        temporary=tmp_path,
    )  # fmt: skip
    assert made_calibration.returncode == 0, made_calibration.stderr
    backends = {case["backend"] for case in json.loads(made_calibration.stdout)["cases"]}
    assert backends == {"mine", "other"}


def test_another_harness_version_begins_its_own_series(project, harness: Path, tmp_path: Path):
    made, names = project
    options = (*SMALLEST, *MINE, "--out", tmp_path / "history")
    assert command(harness, made.folder, "track", names[0], *options, temporary=tmp_path).returncode == 0
    newer = installed(tmp_path / "newer")
    suites = newer / "bench" / "harness" / "suites.py"
    suites.write_text(suites.read_text() + "\nNEWER = True\n")
    answer = command(newer, made.folder, "track", names[1], *options, temporary=tmp_path)
    assert answer.returncode == 0 and "its points begin new series" in answer.stderr.replace("\n", " "), answer.stderr
    read = tracking.read(tmp_path / "history", Repository(made.folder))
    assert len(read.series) == 2 and len({one.fingerprint for one in read.series}) == 2, "never one line"
    assert any(sentence.startswith("kept apart: 1 runs by lstm-bench") for sentence in read.left_out)
    runs = store.find(tmp_path / "history")
    compared = command(newer, made.folder, "compare", *runs, temporary=tmp_path)
    assert "so that a difference may be the harness's" in " ".join(compared.stdout.split()), compared.stdout + compared.stderr


def test_what_git_tells_a_hook_reaches_no_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = History(tmp_path / "other")
    for name, value in hooked(other).items():
        monkeypatch.setenv(name, value)
    assert not {"GIT_DIR", "GIT_INDEX_FILE"} & process.environment(1, tmp_path).keys()
