"""Calls of git: on the repository that a folder lies in, whatever a hook or a shell has named in git's variables."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# Of `git rev-parse --local-env-vars` those that choose a repository, its index or its objects. Git sets some of them for hooks,
# and they win over the folder that git is called in. Variables of git's configuration stay: they hold for every repository.
CHOOSING = (
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE", "GIT_INTERNAL_SUPER_PREFIX", "GIT_NAMESPACE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
    "GIT_QUARANTINE_PATH", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
)  # fmt: skip


_QUIET = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false")


@dataclass(frozen=True, slots=True)
class Answer:
    """What git printed, or, where it did not succeed, why."""

    text: str
    failure: str | None = None


def variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment (by default this process's) without the variables that choose a repository."""
    return {name: value for name, value in (environment or os.environ).items() if name not in CHOOSING}


def command(folder: Path, *arguments: str) -> list[str]:
    """The command line. Optional locks are not taken: one may be held by the `git commit` whose hook this runs in.

    Hooks of the repository and its monitor of files are not started: a checkout made to be measured is no concern of theirs.
    """
    return ["git", "--no-optional-locks", *_QUIET, "-C", str(folder), *arguments]


def ask(folder: Path, *arguments: str, seconds: float) -> Answer:
    """Call git in a folder. A failure, git's absence, and an answer that takes too long are answers too."""
    try:
        run = subprocess.run(
            command(folder, *arguments), capture_output=True, encoding="utf-8", errors="replace", timeout=seconds,
            env=variables() | {"LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        return Answer("", "git is not installed")
    except OSError as error:
        return Answer("", f"git cannot be started: {error}")
    except subprocess.TimeoutExpired:
        return Answer("", f"git {arguments[0]} did not answer within {seconds:.0f} s")
    if run.returncode:
        complaint = run.stderr.strip().splitlines()
        return Answer("", complaint[0] if complaint else f"git {arguments[0]} exited with code {run.returncode}")
    return Answer(run.stdout.strip("\n"))
