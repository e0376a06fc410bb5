"""What can be asked for, without importing what measures it: suites with their pace, and the names and questions of studies."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

# How long the parts of a timed case take.

Side = TypeVar("Side")
LEAST_ROUNDS = 10


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a timed case takes.

    Attributes:
        rounds: at most so many, in each of which every backend is sampled once.
        turn_seconds: that a backend is sampled for in a round.
        warm_seconds: of warm-up before, at least.
        busy_seconds: after which no further round begins, once there were `LEAST_ROUNDS`.
    """

    rounds: int
    turn_seconds: float
    warm_seconds: float
    busy_seconds: float = math.inf


def order(sides: Sequence[Side], number: int) -> list[Side]:
    """Who is when, in a round or replicate: as given, and reversed in every second one (ABBA), so that drift hits all alike."""
    return list(sides[:: 1 if number % 2 == 0 else -1])


# What can be asked for, without importing what measures it: suites, and the names and questions of studies.

STUDIES = Path(__file__).parents[1] / "studies"
Scale = Literal["smoke", "quick", "cpu", "gpu", "grid", "many", "emulated"]


@dataclass(frozen=True, slots=True)
class Suite:
    """A scale, and the pace at which its cases are measured.

    studies: those it consists of; all that have cases at this scale if empty. backends: those compared where none is named; all
    if empty. internal: for the project's own checks, and shown in no list of choices.
    peaks: whether the peaks of the machine are measured, which takes seconds. ranking_seconds: of a whole run, until which
    further replicates are measured where the ranking of two backends is open; None for the fixed number of replicates.
    """

    scale: Scale
    device: str
    replicates: int
    pace: Pace
    question: str
    stage: int | None = None  # so many cases are measured on all backends before the next begin; all at once if None
    studies: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    internal: bool = False
    peaks: bool = True
    ranking_seconds: float | None = None


_SMOKE_PACE = Pace(4, 0.01, 0.02)

SUITES: dict[str, Suite] = {
    "smoke": Suite(
        "smoke",
        "cpu",
        1,
        _SMOKE_PACE,
        "does it run? one small case a phase, the quickest suite (its numbers mean little)",
        studies=("throughput",),
        peaks=False,
    ),
    "quick": Suite(
        "quick",
        "cpu",
        3,
        Pace(6, 0.06, 0.04),
        "which backend is fastest on a CPU, within 3 minutes on 2 cores",
        ranking_seconds=170.0,
    ),
    "cpu": Suite("cpu", "cpu", 5, Pace(20, 0.05, 0.5), "the full comparison on a CPU"),
    "gpu": Suite(
        "gpu",
        "cuda",
        3,
        Pace(10, 0.02, 0.25),
        "the headline cases on a GPU, within 9 minutes on one H100",
        studies=("throughput",),
        backends=("cuda", "cudnn", "torch_compile", "jax", "jax_cudnn", "null"),
    ),
    "every": Suite("smoke", "cpu", 1, _SMOKE_PACE, "does every study run? all of them at the scale of smoke", internal=True),
    "grid": Suite(
        "grid", "cuda", 1, Pace(5, 0.02, 0.05), "our kernels against every baseline by size, on a GPU", 36, internal=True
    ),
    "many": Suite(
        "many",
        "cpu",
        1,
        Pace(4, 0.0, 0.02),
        "a hundred small cases, to calibrate how often a whole suite alerts",
        internal=True,
        peaks=False,
    ),
    "emulated": Suite(
        "emulated",
        "cpu",
        1,
        Pace(2, 0.01, 0.01),
        "what gpu-check --emulate proves itself with, on a CPU",
        internal=True,
        peaks=False,
    ),
}


def offered() -> list[str]:
    """The suites for a user to choose from."""
    return [name for name, suite in SUITES.items() if not suite.internal]


def studies() -> list[str]:
    """Every study's name: the packages in `bench/studies`."""
    return sorted(path.parent.name for path in STUDIES.glob("*/__init__.py"))


def question_of(study: str) -> str:
    """What a study asks: the argument `question` of the `Study` in its file, read without importing it."""
    tree = ast.parse((STUDIES / study / "__init__.py").read_text(encoding="utf-8"))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Study")
    (call,) = calls
    given = [word.value for word in call.keywords if word.arg == "question"] or call.args
    return ast.literal_eval(given[0])
