"""What holds for every workflow: pinned actions, least permissions, no credentials kept; and ci.yml runs what .ci/run has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.processes.code import ROOT

PATHS = sorted((ROOT / ".github/workflows").glob("*.yml"))
WORKFLOWS: dict[str, dict[Any, Any]] = {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in PATHS}
CI = WORKFLOWS["ci.yml"]
JOBS = [(name, job, content) for name, workflow in WORKFLOWS.items() for job, content in workflow["jobs"].items()]
RUNS = [(name, job, step["run"]) for name, job, content in JOBS for step in content["steps"] if "run" in step]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
STEPS = ("checks", "asv", "suite", "tests")


def test_there_is_one_that_measures_and_one_that_checks():
    assert set(WORKFLOWS) == {"benchmark.yml", "ci.yml"}
    assert set(CI[True]) == {"pull_request", "push"} and CI[True]["push"] == {"branches": ["main"]}  # YAML reads `on` as true


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actions_are_pinned_by_hash_with_their_version_beside_it(name: str):
    text = (ROOT / ".github/workflows" / name).read_text(encoding="utf-8")
    used = re.findall(r"uses: *(.*)", text)
    assert used and all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line) for line in used), used


def test_an_action_has_one_hash_everywhere():
    used = {line for path in PATHS for line in re.findall(r"uses: *(.*)", path.read_text(encoding="utf-8"))}
    assert len(used) == len({line.partition("@")[0] for line in used})


@pytest.mark.parametrize(("name", "job", "content"), JOBS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_job_ends_in_time_and_keeps_no_credentials(name: str, job: str, content: dict[str, Any]):
    assert content["timeout-minutes"] <= 120
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"} and "pull_request_target" not in WORKFLOWS[name][True]
    for step in content["steps"]:
        if "checkout" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False


def test_pull_request_checks_have_no_write_token_or_secret():
    assert not any("permissions" in content for content in CI["jobs"].values())
    assert not re.search(
        r"secrets\.|github\.token|GITHUB_TOKEN|self-hosted", (ROOT / ".github/workflows/ci.yml").read_text("utf-8")
    )
    assert CI["concurrency"]["cancel-in-progress"] is True and "pull_request.number" in CI["concurrency"]["group"]


def test_workflow_steps_by_system_and_python_version():
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
    versions = sorted(named, key=lambda version: int(version.partition(".")[2]))
    assert PROJECT["requires-python"] == f">={versions[0]}"
    systems = {"steps": ["ubuntu", "macos"], "bare": ["ubuntu", "macos", "windows"]}
    for job, content in CI["jobs"].items():
        matrix = content["strategy"]["matrix"]
        assert matrix["python"] == [versions[0], versions[-1]]
        assert [name.partition("-")[0] for name in matrix["os"]] == systems[job] and content["runs-on"] == "${{ matrix.os }}"
        (setup,) = [step["with"] for step in content["steps"] if "setup-python" in step.get("uses", "")]
        assert setup["python-version"] == "${{ matrix.python }}"
    called = {job: [step["run"] for step in content["steps"] if "run" in step] for job, content in CI["jobs"].items()}
    assert called == {"steps": ["make .venv/.ready-dev", *(f".ci/run {step}" for step in STEPS)], "bare": [".ci/run bare"]}


@pytest.mark.parametrize(("name", "job", "text"), RUNS)
def test_every_script_parses(name: str, job: str, text: str):
    assert WORKFLOWS[name]["defaults"]["run"]["shell"] == "bash"
    parsed = subprocess.run(["bash", "-n"], input=text, capture_output=True, encoding="utf-8")
    assert parsed.returncode == 0 and not parsed.stderr, parsed.stderr
    for target in re.findall(r"\bmake (\S+)", text):
        made = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, encoding="utf-8")
        assert made.returncode == 0, made.stderr


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """.ci/run with programs that only note how they are called; a report is written where one is asked for."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci")
    programs = [tmp_path / "bin" / name for name in ("make", "python", "lstm-bench")]
    programs += [tmp_path / ".venv/bin" / name for name in ("asv", "lstm-bench")]
    for program in programs:
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(
            f'#!/usr/bin/env bash\necho "{program.name} $*" >> {tmp_path}/calls\n'
            f'case "{program.name} $*" in "$FAILING"*) exit 7 ;; esac\n'
            'if [ "$1" = -c ]; then echo "$SYSTEM"; fi\n'
            'while [ $# -gt 0 ]; do if [ "$1" = --to ]; then mkdir -p "$2"; echo . > "$2/report.html"; fi; shift; done\n',
            encoding="utf-8",
        )
        program.chmod(0o755)
    return tmp_path


def ran(checkout: Path, *steps: str, **variables: str) -> tuple[int, list[str]]:
    """The exit code of .ci/run, and the calls it made."""
    values = {"PATH": f"{checkout / 'bin'}:/usr/bin:/bin", "FAILING": "none", "SYSTEM": "linux"} | variables
    answer = subprocess.run([checkout / ".ci/run", *steps], env=values, capture_output=True, timeout=60)
    calls = (checkout / "calls").read_text(encoding="utf-8").splitlines() if (checkout / "calls").exists() else []
    (checkout / "calls").unlink(missing_ok=True)
    return answer.returncode, [re.sub(r"/\S*/tmp\.\w+", "TMP", call) for call in calls]


def test_all_steps_run_in_the_workflows_order(checkout: Path):
    each = [ran(checkout, step) for step in STEPS]
    assert all(code == 0 and calls for code, calls in each)
    assert ran(checkout) == (0, [call for _, calls in each for call in calls]) == ran(checkout, *STEPS)
    assert [calls[0] for _, calls in each] == ["make check", "make .venv/.ready-dev", "make .venv/.ready-dev", "make test"]


@pytest.mark.parametrize(
    "failing", ["make check", "make docs", "asv machine --yes", "lstm-bench run every --out TMP/runs", "make test"]
)
def test_a_step_that_fails_is_the_last_one(checkout: Path, failing: str):
    code, calls = ran(checkout, FAILING=" ".join(failing.split()[:3]))
    assert code == 7 and calls[-1] == failing


@pytest.mark.parametrize(("system", "measures"), [("linux", True), ("darwin", True), ("win32", False)])
def test_the_bare_installation_measures_where_supported(checkout: Path, system: str, measures: bool):
    code, calls = ran(checkout, "bare", SYSTEM=system)
    assert code == 0
    assert calls[0] == "python -m pip install --quiet --constraint constraints.txt ." and "[" not in calls[0]
    assert "python tests/portability/reading.py" in calls and (ROOT / "tests/portability/reading.py").is_file()
    assert ("lstm-bench run smoke --out TMP/bare" in calls) == measures


def test_an_unknown_step_is_refused_before_anything_runs(checkout: Path):
    assert ran(checkout, "checks", "no-such-step") == (2, [])
    assert os.access(ROOT / ".ci/run", os.X_OK)
