"""`lstm-bench advise`: how to run the LSTMs of a model here, by what was measured."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from lstm_bench import terminal
from lstm_bench.commands import like as likes
from lstm_bench.device_policy import Wait
from lstm_bench.errors import ExitCode, UserError

REPLICATES = 5  # with fewer an interval over replicates that holds for all ways together is too wide to decide much
# Other data types that are tried for a model in one of these, by device; what they change is told.
ALTERNATIVES = {
    "cpu": {
        "float32": ("bfloat16",), "float64": ("float32",), "float16": ("float32", "bfloat16"), "bfloat16": ("float32",),
    },
    "cuda": {
        "float32": ("tensorfloat32", "float16", "bfloat16"), "float64": ("float32",), "float16": ("bfloat16",),
        "bfloat16": ("float16",),
    },
}  # fmt: skip


class NothingToAdvise(UserError, ValueError):
    """Nothing was named to advise on, or the run has no time of an LSTM."""


def advise(
    run: Annotated[Path | None, typer.Argument(help="A run to read; without it the model or workload is measured.")] = None,
    *,
    like: likes.Like = "",
    like_arg: likes.LikeArg = None,
    steps: likes.Steps = None,
    batch: likes.BatchSize = None,
    phase: likes.Phases = None,
    dtype: likes.DTypes = None,
    workload: Annotated[str, typer.Option("--workload", help="A system of the study workloads, as vad, instead.")] = "",
    suite: Annotated[str, typer.Option("--suite", help="At whose pace and on whose device: quick, cpu or gpu.")] = "quick",
    backend: Annotated[list[str] | None, typer.Option("--backend", help="Only this backend; repeat for more.")] = None,
    replicates: Annotated[int, typer.Option(min=2, help="Fresh processes per case.")] = REPLICATES,
    threads: Annotated[int | None, typer.Option(min=1, help="Processors every backend may use (default: all).")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder of results (default: ./results/runs).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
    wait: Wait = False,
) -> None:
    """Say how to run an LSTM here: backend, launch mode, data type, the gain over PyTorch's own module, and the code for it.

    A model (--like) or a system of the table (--workload) is measured, in its own data type and in others that the device has.
    Only what was measured with the right answer is advised, and what changes the numbers is told with its error.
    """
    from lstm_bench.views import advice as views

    named = [name for name, given in (("RUN", run), ("--like", like), ("--workload", workload)) if given]
    if len(named) != 1:
        got = " and ".join(named) or "none"
        raise NothingToAdvise(f"name one of a RUN, --like FILE, --like module:Class and --workload NAME; got {got}")
    path = run
    if path is None:
        of_model = likes.cases(suite, like, like_arg, steps=steps, batch=batch, phase=phase, dtype=dtype)
        path = _measured(of_model or _of_table(workload, suite), suite, backend or [], replicates, threads, out, wait)
    found = list(views.found(path))
    if not found:
        raise NothingToAdvise(f"{path} holds no time of an LSTM; measure one with: lstm-bench advise --workload vad")
    views.show(found, views.noise(path), as_json)


def _of_table(workload: str, suite: str) -> tuple[Any, ...]:
    """The calls of a system of the table on the suite's device."""
    from bench.harness.suites import SUITES, offered
    from bench.studies import workloads
    from impls import UnknownName
    from results.workloads import BY_NAME

    if suite not in SUITES:
        raise UnknownName("suite", suite, offered())
    if workload not in BY_NAME:
        raise UnknownName("workload", workload, BY_NAME)
    chosen = [case for case in workloads.cases(SUITES[suite].device) if case.factor("workload") == workload]
    if not chosen:
        raise NothingToAdvise(f"{workload} has no call on {SUITES[suite].device}; name another --suite")
    eager = [dataclasses.replace(case, launch="eager") for case in chosen if case.launch == "graph"]
    return (*chosen, *eager)


def with_alternatives(cases: tuple[Any, ...]) -> Iterator[Any]:
    """The cases, and each in the other data types of its device, which say the model's own."""
    from analysis.studies.workloads.advice import OWN_DTYPE

    for case in cases:
        yield case
        for dtype in ALTERNATIVES[case.spec.device].get(case.spec.dtype, ()):
            spec = dataclasses.replace(case.spec, dtype=dtype)
            yield dataclasses.replace(case, spec=spec, factors=(*case.factors, (OWN_DTYPE, case.spec.dtype)))


def _measured(
    cases: tuple[Any, ...], suite: str, backends: list[str], replicates: int, threads: int | None, *rest: Any
) -> Path:
    from bench.harness import session
    from bench.machine import system
    from lstm_bench import api, device_policy
    from lstm_bench.views import progress, run_summary

    out, wait = rest
    system.require_measuring()
    try:
        with progress.for_terminal() as display, device_policy.announced(wait):
            ended, footer = api.measured_run(
                display, terminal.say, suite, backends=backends, out=out, replicates=replicates, threads=threads,
                like=tuple(with_alternatives(cases)),
            )  # fmt: skip
    except session.Interrupted as stop:
        print(run_summary.interrupted(stop.path, "run", out=out), file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)
    for line in run_summary.lines(ended, footer):
        terminal.say(line)
    terminal.say(f"{ended.path}")
    return ended.path
