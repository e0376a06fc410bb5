"""The measuring workflow: its commands exist, exit codes become the check's status, the history outlives the runner.

What holds for every workflow is in tests/test_workflows.py.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from bench.machine.environment import HOST_VARIABLE
from bench.processes.code import ROOT
from lstm_bench.commands.app import app
from tests.lstm_bench.history_repository import History

WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github/workflows/benchmark.yml").read_text())
STEPS = {
    f"{job}: {step['name']}": step["run"]
    for job, content in WORKFLOW["jobs"].items()
    for step in content["steps"]
    if "name" in step and "run" in step
}
VARIABLES = {
    "BASE": "v1", "HEAD": "v2", "SUITE": "quick", "BACKENDS": "--backend torch --backend numpy",
    "BRANCH": "benchmark-history-cpu", "NUMBER": "7", "MARK": "<!-- lstm-bench cpu -->",
    "GITHUB_REPOSITORY": "a/b", "GITHUB_SHA": "abc", "GH_TOKEN": "secret", "HOME": "/home/a",
}  # fmt: skip
LINES = [
    os.path.expandvars(line.replace("\\\n", " ").strip())
    for text in STEPS.values()
    for line in re.findall(r"^\s*(\.venv/bin/lstm-bench (?:[^\n\\]|\\\n)*)", text, flags=re.MULTILINE)
]


def run(step: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A step's script as the runner runs it."""
    values = os.environ | VARIABLES | {"GITHUB_STEP_SUMMARY": str(folder / "summary"), "HOME": str(folder)} | variables
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[step]]
    return subprocess.run(command, cwd=folder, env=values, capture_output=True, text=True, timeout=60)


def stub(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/usr/bin/env bash\n" + script)
    path.chmod(0o755)


def parsed(line: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A command line's values by the real command line's parser; nothing is run."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    program, command, *arguments = shlex.split(re.split(r" \|\|? ", os.path.expandvars(line))[0])
    assert program == ".venv/bin/lstm-bench"
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return commands[command].make_context(command, arguments).params


def test_every_option_of_every_command_exists(monkeypatch: pytest.MonkeyPatch):
    found = {line.split()[1]: parsed(line, monkeypatch) for line in LINES}
    assert set(found) == {"compare", "track", "history"}
    assert (found["compare"]["base"], found["compare"]["new"], found["compare"]["suite"]) == ("v1", "v2", "quick")
    assert found["compare"]["backend"] == ["torch", "numpy"] and str(found["compare"]["markdown"]) == "comment.md"
    assert found["track"]["revisions"] == "HEAD" and found["history"]["out"] == found["track"]["out"]
    with pytest.raises(Exception, match="No such option"):
        parsed(".venv/bin/lstm-bench compare a b --no-such-option", monkeypatch)


@pytest.mark.parametrize(("code", "status"), [(0, 0), (1, 1), (2, 2), (3, 0), (12, 12), (14, 14), (23, 23), (70, 70)])
def test_exit_codes_become_the_checks_status(tmp_path: Path, code: int, status: int):
    stub(tmp_path, ".venv/bin/lstm-bench", f"echo '### found' > comment.md; exit {code}\n")
    answer = run("compare: Compare", tmp_path)
    assert answer.returncode == status
    assert ("::warning::nothing could be decided" in answer.stdout) == (code == 3)
    assert (tmp_path / "summary").read_text() == "### found\n"


@pytest.mark.parametrize("step", ["Track", "Show"])
def test_a_night_that_fails_ends_with_its_own_code(tmp_path: Path, step: str):
    stub(tmp_path, ".venv/bin/lstm-bench", "exit 20\n")
    assert run(f"track: {step}", tmp_path).returncode == 20


def test_hosted_runners_count_as_one_host_and_ours_as_itself():
    assert WORKFLOW["jobs"]["track"]["env"][HOST_VARIABLE] == "${{ matrix.device == 'cpu' && 'github-hosted' || '' }}"


@pytest.mark.parametrize("existing", ["", "41\n42\n"])
def test_the_comment_is_written_once_and_then_edited(tmp_path: Path, existing: str):
    (tmp_path / "comment.md").write_text("### found\n")
    stub(tmp_path, "bin/gh", f'echo "$@" >> calls; if [ "$2" = --paginate ]; then printf "{existing}"; fi\n')
    answer = run("comment: Comment", tmp_path, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "body.md").read_text() == "<!-- lstm-bench cpu -->\n### found\n"
    last = (tmp_path / "calls").read_text().splitlines()[-1]
    assert last.startswith("api --method PATCH repos/a/b/issues/comments/42" if existing else "pr comment 7 --body-file")


def test_the_history_outlives_the_runner(tmp_path: Path):
    """Two nights, each in a fresh clone."""
    origin = History(tmp_path / "origin")
    (origin.folder / "code.py").write_text("")
    origin.commit("first")
    for night in ("1", "2"):
        clone = tmp_path / f"clone-{night}"
        origin.git("clone", "--quiet", f"file://{origin.folder}", str(clone))
        stub(clone, ".venv/bin/lstm-bench", 'mkdir -p history/runs; echo "$1" >> history/runs/run.jsonl; echo series\n')
        for step in ("Fetch the history", "Track", "Show"):
            answer = run(f"track: {step}", clone, HOME=os.environ["HOME"])
            assert answer.returncode == 0, answer.stderr
        another = tmp_path / f"keep-{night}"  # another machine, to which the runs come as an artifact
        shutil.copytree(clone / "history" / "runs", another / "runs")
        answer = run("keep: Keep", another, GITHUB_SERVER_URL=f"file://{tmp_path}", GITHUB_REPOSITORY="origin")
        assert answer.returncode == 0, answer.stderr
    assert origin.git("show", "benchmark-history-cpu:runs/run.jsonl").split() == ["track", "history"] * 2
    assert origin.git("ls-tree", "-r", "--name-only", "benchmark-history-cpu") == "runs/run.jsonl", "and no code"
    assert (clone / "changes.txt").read_text() == "series\n"


def test_each_kind_of_runner_has_its_job():
    runners = {job: content["runs-on"] for job, content in WORKFLOW["jobs"].items()}
    assert set(runners) == {"compare", "comment", "track", "keep"}
    assert runners.pop("comment") == runners.pop("keep") == "ubuntu-24.04", "never on a machine of ours"
    assert all('["self-hosted", "gpu"]' in text and '["ubuntu-24.04"]' in text for text in runners.values())
    assert WORKFLOW[True]["schedule"] and "pull_request" in WORKFLOW[True]  # YAML reads `on` as true


def test_jobs_with_a_write_token_run_nothing_measured():
    """The jobs that may write check nothing out and run neither our code nor Python; the others may only read."""
    assert WORKFLOW["permissions"] == {"contents": "read"}
    writing = {job: content["permissions"] for job, content in WORKFLOW["jobs"].items() if "permissions" in content}
    assert writing == {"comment": {"pull-requests": "write"}, "keep": {"contents": "write"}}
    for job in writing:
        steps = WORKFLOW["jobs"][job]["steps"]
        assert not any("checkout" in step.get("uses", "") or "setup-" in step.get("uses", "") for step in steps)
        assert not any(re.search(r"\.venv/|\bmake\b|python|pip\b|\./", step.get("run", "")) for step in steps)
    for job in ("compare", "track"):
        steps = WORKFLOW["jobs"][job]["steps"]
        told = [place for place, step in enumerate(steps) if "token" in str(step)]
        foreign = [place for place, step in enumerate(steps) if re.search(r"\.venv/|\bmake\b|setup-", str(step))]
        assert "GH_TOKEN" not in WORKFLOW["jobs"][job]["env"] and max(told, default=-1) < min(foreign)
