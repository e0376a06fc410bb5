"""What a machine of a fleet does of `compare --fleet` and `track --fleet`: one comparison, or one commit of the history.

Ray sends these classes by name, and the machine has this code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.statistics.ratios import statistic_named
from bench.fleet.shipping import COMMITS, Place
from bench.harness import plan as harness_plan
from bench.harness.plan import Plan
from bench.harness.run import Listener
from bench.processes.code import CodeFails
from bench.regression import user_repository
from bench.regression.revisions import Repository, RevisionError, unpacked
from bench.regression.user_repository import known_backends
from lstm_bench.commands import compare as comparing
from lstm_bench.commands import tracking
from lstm_bench.commands.compare import BACKEND

if TYPE_CHECKING:
    from analysis.regression.calibration import Calibration


@dataclass(frozen=True, slots=True)
class Asked:
    """What a machine is told of all tasks: the options of the command.

    revisions: those whose backends are known while a plan is made, in a repository that supplies backends.
    """

    suite: str
    backends: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    threads: int | None = None
    scale: str | None = None
    seed: int = 0
    backends_path: str | None = None
    build: bool = False
    memory: bool = True
    statistic: str | None = None
    again: bool = False
    revisions: tuple[str, ...] = ()

    def plan(self, own: Sequence[str], named: Sequence[str] = (), measuring: bool = True) -> Plan:
        """The plan, for the backends that were asked for, those that the sides name, or those that the repository supplies."""
        chosen = harness_plan.make(
            self.suite, self.backends or named or own, self.where, threads=self.threads, scale=self.scale, seed=self.seed
        )
        if measuring:
            harness_plan.require_device(chosen)
        return chosen


@dataclass(frozen=True, slots=True)
class Failed:
    """What kept a task from being measured, whatever the machine."""

    reason: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Compare:
    """Carries out a comparison: a pair of commits, or of backends."""

    asked: Asked

    def __call__(self, task: tuple[str, str], place: Place, listener: Listener) -> Failed | None:
        base, new = task
        asked = self.asked
        try:
            meant = comparing.repository_of(base, new, _repository(place), asked.backends_path)
            options = options_of(meant, asked, place.given)
            with known_backends(meant, comparing.trees(new, base)) as own:
                plan = asked.plan(own, named_by(task))
                with comparing.comparison_sides({"base": base, "new": new}, plan.threads, options) as sides:
                    comparing.measured_once(sides, plan, place.runs, listener, options)
        except (RevisionError, CodeFails, comparing.OtherMachine) as error:
            return Failed(str(error), int(error.exit_code))
        return None


@dataclass(frozen=True, slots=True)
class Track:
    """Measures a commit into the history."""

    asked: Asked

    def __call__(self, commit: str, place: Place, listener: Listener) -> tracking.Tracked:
        asked = self.asked
        meant = user_repository.find(_repository(place), asked.backends_path, revisions=True)
        with known_backends(meant, asked.revisions) as own:
            (done,) = tracking.track(
                commit, asked.plan(own), place.runs, listener, meant, missing_only=not asked.again, build=asked.build
            )
        return replace(done, path=done.path and done.path.relative_to(place.runs))


def _repository(place: Place) -> Path | None:
    """The commits that were sent; None where none were."""
    if COMMITS not in place.parcel.contents:
        return None
    return unpacked(place.parcel.open(COMMITS), place.folder / "repository")


def options_of(meant: Repository, asked: Asked, calibration: Calibration | None) -> comparing.Options:
    """How to compare on machines that have this calibration."""

    requested = None if asked.statistic is None else statistic_named(asked.statistic)
    return comparing.Options(meant, asked.build, asked.memory, requested_statistic=requested, calibration=calibration)


def named_by(task: tuple[str, str]) -> list[str]:
    """The backends that the sides themselves name."""
    return [name.removeprefix(BACKEND) for name in task if name.startswith(BACKEND)]
